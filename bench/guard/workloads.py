"""What is counted: calls through the front door on fakes, and a batch through the aggregator."""

import asyncio
from collections.abc import Mapping, Sequence
from copy import replace
from itertools import batched

from starlette.types import Message as Asgi

from bench.gateway.content import ANSWER, Ask, Deployment, frames, streamed, whole
from bench.guard.instructions import Work
from bench.guard.server import ServedCaller
from bench.guard.wire import AnsweringUpstream
from bench.stores import Asked, MemoryStore
from meter.adapters.functions.arriving import EXTENSION, ArrivingBody
from meter.adapters.functions.web import gateway_request, response_of
from meter.gateway.backend import Deployment as Served
from meter.ledger.decode import Message
from meter.usage import UsageEvent, encode_batch, encode_event, new_event_id
from tests.support.events import EVENT, NOW
from tests.support.gateway import Door, backend, request_limits, token
from tests.support.ledger import aggregator_on

EVENTS, EVENTS_PER_MESSAGE, SUBJECTS = 1_000, 20, 50
TIMES = 3  # so often each runs; the last is counted
_JSON = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
_STREAM = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
)


async def workloads() -> Mapping[str, Work]:
    """By name; each runs before, so that what happens once is not counted."""
    works = {
        "a whole answer": _call(whole(), [_JSON % len(ANSWER) + ANSWER]),
        "a stream, usage asked for": _stream(asks_usage=True),
        "a stream, usage injected": _stream(asks_usage=False),
        "a stream in one burst, usage injected": _burst(),
        f"a batch of {EVENTS:,} events": _batches(),
    }
    for work in works.values():
        for _ in range(TIMES - 1):
            await work()
    return works


def _stream(*, asks_usage: bool) -> Work:
    """100 frames, each by itself; the backend sends usage since somebody asked for it."""
    parts = [b"%x\r\n%s\r\n" % (len(f), f) for f in frames(Deployment.PACED, with_usage=True)]
    ask = streamed(Deployment.PACED, asks_usage=asks_usage)
    wire = [_STREAM + parts[0], *parts[1:-1], parts[-1] + b"0\r\n\r\n"]
    return _call(ask, wire, is_streamed=True)


def _burst() -> Work:
    """10 frames that arrive together, with the answer's head and end."""
    parts = [b"%x\r\n%s\r\n" % (len(f), f) for f in frames(Deployment.SHORT, with_usage=True)]
    ask = streamed(Deployment.SHORT, asks_usage=False)
    return _call(ask, [b"".join([_STREAM, *parts, b"0\r\n\r\n"])], is_streamed=True)


def _call(ask: Ask, parts: Sequence[bytes], *, is_streamed: bool = False) -> Work:
    """From the server's scope to the last byte for the caller, and the event's JSON."""
    served = {each.value: Served(each.value) for each in Deployment}
    backends = [replace(backend(name), deployments=served) for name in ("a", "b")]
    sink = _Sink()
    door = Door(AnsweringUpstream(parts), backends, sink=sink)  # type: ignore[arg-type]  # not fakes
    scope = _scope(ask)
    limits = request_limits()

    async def work() -> None:
        before = sink.published
        caller = ServedCaller(scope, ask.body) if is_streamed else _Caller(ask.body)
        asked = {**scope, "extensions": _arriving(ask.body)}
        request = gateway_request(asked, caller.receive, limits)
        answer = await door.front_door.handle(request)
        response = response_of(answer, door.front_door.detached)
        await response(asked, caller.receive, caller.send)
        if bytes(caller.body) != ask.expected or sink.published != before + 1:
            raise RuntimeError("the caller needs the backend's bytes, the hub an event")

    return work


def _arriving(body: bytes) -> dict[str, object]:
    """A body that has come, as the bounded server keeps it beside the request."""
    came = ArrivingBody(asyncio.Event(), lambda: None)
    came.add(body)
    came.end()
    return {EXTENSION: came}


class _Caller:
    """Sends one request whole, stays until the end, and keeps what it gets."""

    def __init__(self, body: bytes) -> None:
        self._request: Asgi | None = {"type": "http.request", "body": body, "more_body": False}
        self.body = bytearray()

    async def receive(self) -> Asgi:
        request, self._request = self._request, None
        return request or await asyncio.get_running_loop().create_future()

    async def send(self, message: Asgi) -> None:
        self.body += message.get("body", b"")


class _Sink:
    """Writes each event as it goes to the hub."""

    def __init__(self) -> None:
        self.published = 0

    async def publish(self, event: UsageEvent) -> None:
        encode_event(event)
        self.published += 1


def _scope(ask: Ask) -> dict[str, object]:
    path, _, query = ask.deployment.path.partition("?")
    return {
        "type": "http",
        "method": "POST",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "headers": [
            (b"host", b"gateway"),
            (b"authorization", f"Bearer {token()}".encode()),
            (b"content-type", b"application/json"),
            (b"content-length", str(len(ask.body)).encode()),
        ],
    }


def _batches() -> Work:
    """A new batch each time, of subjects and sums that are known."""
    aggregator = aggregator_on(MemoryStore(asked=Asked()))
    batches = iter([_messages(number) for number in range(TIMES)])

    async def work() -> None:
        report = await aggregator.handle(next(batches))
        if report.new_calls != EVENTS:
            raise RuntimeError(f"counted {report.new_calls} of {EVENTS} events")

    return work


def _messages(batch: int) -> list[Message]:
    """A batch of events that no other has, from some subjects in turn."""
    events = [encode_event(_event(batch * EVENTS + number)) for number in range(EVENTS)]
    bodies = [encode_batch(some) for some in batched(events, EVENTS_PER_MESSAGE, strict=True)]
    return [
        Message(body=body, hub_partition="0", sequence_number=number, enqueued_at=NOW)
        for number, body in enumerate(bodies, batch * len(bodies))
    ]


def _event(number: int) -> UsageEvent:
    subject = f"subject-{number % SUBJECTS:05}"
    return replace(
        EVENT,
        id=new_event_id(NOW, number.to_bytes(10)),
        principal=replace(EVENT.principal, subject=subject),
    )
