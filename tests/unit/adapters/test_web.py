"""The web adapter: what the core is told of a request, and what of its answer is put on the wire."""

import asyncio
import tracemalloc
from collections.abc import Iterator, MutableMapping
from copy import replace
from typing import Any

import pytest
from starlette.types import Receive, Scope

from meter.adapters.functions.web import GatewayResponse, gateway_request, response_of
from meter.errors import TooLarge, UpstreamBroken
from meter.gateway.http import Answer
from meter.usage import Outcome, UsageSource
from tests.fakes.gateway import stream_answer
from tests.support.gateway import DONE_FRAME, TEXT_FRAME, USAGE_FRAME, door, request_limits

type Message = MutableMapping[str, Any]


class Wire:
    """A server's side of ASGI: gives the messages in order, then waits; keeps what is sent."""

    def __init__(self, *messages: Message) -> None:
        self._messages: Iterator[Message] = iter(messages)
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        for message in self._messages:
            return message
        await asyncio.Event().wait()
        raise AssertionError

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent[1:])


class Gone(Wire):
    """A server whose caller's connection is broken once the head was sent."""

    async def send(self, message: Message) -> None:
        if self.sent:
            raise ConnectionResetError
        await super().send(message)


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def asked(wire: Wire, *headers: tuple[bytes, bytes]) -> tuple[Scope, Receive]:
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/openai/v1/responses",
        "raw_path": b"/openai/v1/%72esponses?x",
        "query_string": b"a=%20&b",
        "headers": headers,
    }
    return scope, wire.receive


async def read(wire: Wire, *headers: tuple[bytes, bytes]) -> bytes:
    request = gateway_request(
        *asked(wire, *headers), request_limits(max_body_bytes=4, read_timeout_seconds=0.05)
    )
    return await request.body.read()


def test_the_core_sees_the_request_as_it_was_sent() -> None:
    """The undecoded path without the query, the raw query, every header."""
    request = gateway_request(
        *asked(Wire(), (b"x-a", b"\xe9"), (b"x-a", b"2")), request_limits(max_body_bytes=4)
    )

    assert (request.method, request.raw_path) == ("POST", "/openai/v1/%72esponses")
    assert request.query == "a=%20&b"
    assert request.headers == (("x-a", "\u00e9"), ("x-a", "2"))


async def test_a_body_is_read_to_its_end() -> None:
    """In however many parts it comes, up to the limit and not beyond."""
    assert await read(Wire(part(b"ab", more=True), part(b"cd", more=False))) == b"abcd"


def test_names_that_only_one_request_has_are_not_kept() -> None:
    """Whoever has no token may send headers, too."""
    tracemalloc.start()
    try:
        for number in range(200):
            name = b"x-%d-" % number + b"a" * 60_000
            request = gateway_request(*asked(Wire(), (name, b"1")), request_limits())
            assert request.headers == ((name.decode(), "1"),)
        del request, name
        kept, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert kept < 1_000_000


@pytest.mark.parametrize("declared", [(), ((b"content-length", b"5"),)])
async def test_a_body_over_the_limit_is_too_large(
    declared: tuple[tuple[bytes, bytes], ...],
) -> None:
    """By what it declares, and by what comes."""
    wire = Wire(part(b"abc", more=True), part(b"de", more=False))

    with pytest.raises(TooLarge) as refused:
        await read(wire, *declared)

    assert refused.value.status == 413


async def test_a_body_that_does_not_end_is_refused() -> None:
    """The caller left while it sent."""
    wire = Wire(part(b"ab", more=True), {"type": "http.disconnect"})

    with pytest.raises(TooLarge) as refused:
        await read(wire)

    assert refused.value.status == 400


@pytest.mark.parametrize("value", ["caf\u00e9 \u2603", "bad\udce9byte", "plain"])
def test_a_backends_header_bytes_are_sent_as_they_came(value: str) -> None:
    """Also those that are no UTF-8, which the upstream client reads as surrogates."""
    response = GatewayResponse(Answer(status=200, headers=(("x-note", value),), body=b"{}"))

    assert (b"x-note", value.encode("utf-8", "surrogateescape")) in response.raw_headers
    assert (b"content-length", b"2") in response.raw_headers


async def test_a_stream_is_sent_to_its_end() -> None:
    """Head, body as it comes, and a clean end."""
    made, wire = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME)), Wire()
    response = response_of(await made.stream(), made.front_door.detached)

    await response({"type": "http"}, wire.receive, wire.send)

    assert (wire.sent[0]["status"], wire.body) == (200, TEXT_FRAME + DONE_FRAME)
    assert wire.sent[-1] == {"type": "http.response.body", "body": b"", "more_body": False}


async def test_a_large_frame_goes_out_in_parts() -> None:
    """A caller that does not read costs a part of it, not the whole."""
    frame = b'data: {"x":"' + b"x" * 150_000 + b'"}\n\n'
    made, wire = door(stream_answer(frame, DONE_FRAME)), Wire()
    response = response_of(await made.stream(), made.front_door.detached)

    await response({"type": "http"}, wire.receive, wire.send)

    assert wire.body == frame + DONE_FRAME
    assert max(len(message["body"]) for message in wire.sent[1:]) == 65_536


async def test_a_cut_stream_has_no_clean_end() -> None:
    """Without its last message the server breaks the connection off."""
    made, wire = door(stream_answer(TEXT_FRAME, UpstreamBroken("a"))), Wire()
    response = response_of(await made.stream(), made.front_door.detached)

    await response({"type": "http"}, wire.receive, wire.send)

    assert [message["more_body"] for message in wire.sent[1:]] == [True, True]


async def test_a_stream_whose_caller_is_gone_is_counted() -> None:
    """The rest is drained, and nothing more is sent."""
    made, wire = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME)), Gone()
    response = response_of(await made.stream(), made.front_door.detached)

    await response({"type": "http"}, wire.receive, wire.send)

    event = made.sink.events[0]
    assert (event.outcome, event.usage.total_tokens) == (Outcome.DISCONNECTED, 7)
    assert len(wire.sent) == 1


async def test_a_cancelled_response_leaves_its_stream_to_be_counted() -> None:
    """The relay is detached from the request, and waited for at shutdown."""
    go_on = asyncio.Event()
    upstream_answer = stream_answer(TEXT_FRAME, go_on, TEXT_FRAME, USAGE_FRAME, DONE_FRAME)
    made, wire = door(upstream_answer), Wire()
    response = response_of(await made.stream(), made.front_door.detached)
    task = asyncio.create_task(response({"type": "http"}, wire.receive, wire.send))
    await upstream_answer.is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()

    await made.front_door.detached.finish(5, cut_seconds=5)

    event = made.sink.events[0]
    assert (event.outcome, event.usage.total_tokens) == (Outcome.DISCONNECTED, 7)


@pytest.mark.parametrize("fault", [asyncio.CancelledError, RuntimeError])
async def test_a_stream_whose_head_cannot_be_sent_is_counted(fault: type[BaseException]) -> None:
    """Cancelled, or a fault of the server: its place is given back, and its rest is drained."""
    made = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME))
    response = response_of(await made.stream(), made.front_door.detached)

    async def send(message: Message) -> None:
        raise fault

    with pytest.raises(fault):
        await response({"type": "http"}, Wire().receive, send)
    await made.front_door.detached.finish(5, cut_seconds=0)

    event = made.sink.events[0]
    assert (event.outcome, event.usage.total_tokens) == (Outcome.DISCONNECTED, 7)
    assert made.is_idle


async def test_a_stream_that_does_not_end_before_the_process_is_counted_as_far_as_known() -> None:
    """On SIGTERM the backend has had its time: the event is published with an estimate."""
    never = asyncio.Event()
    upstream_answer = stream_answer(TEXT_FRAME, never)
    made, wire = door(upstream_answer), Wire()
    response = response_of(await made.stream(), made.front_door.detached)
    task = asyncio.create_task(response({"type": "http"}, wire.receive, wire.send))
    await upstream_answer.is_waiting.wait()

    await made.front_door.detached.finish(0.05, cut_seconds=5)

    event = made.sink.events[0]
    assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.ESTIMATED)
    assert event.usage.completion_tokens == 1
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_stream_that_is_cut_is_waited_for_until_it_is_counted() -> None:
    """To estimate and to publish takes its time, and the process must not end before."""
    counted: list[str] = []

    class SlowToCount:
        """A relay that is cut and then takes a while."""

        async def run(self, sink: object) -> None:
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0.1)
                counted.append("counted")

    relay: Any = SlowToCount()
    made, wire = door(stream_answer(DONE_FRAME)), Wire()
    response = response_of(replace(await made.stream(), relay=relay), made.front_door.detached)
    task = asyncio.create_task(response({"type": "http"}, wire.receive, wire.send))
    await asyncio.sleep(0)
    await asyncio.sleep(0)

    await made.front_door.detached.finish(0.01, cut_seconds=5)

    assert counted == ["counted"]
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_body_that_is_sent_too_slowly_is_refused() -> None:
    """408: a caller must not hold a place by sending nothing."""

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError("never")

    scope = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
    request = gateway_request(scope, receive, request_limits(read_timeout_seconds=0.01))
    with pytest.raises(TooLarge) as refused:
        await request.body.read()

    assert (refused.value.status, refused.value.code) == (408, "RequestTimeout")


class Slow(Wire):
    """A server whose caller takes `most` messages and then no more."""

    def __init__(self, most: int) -> None:
        super().__init__()
        self._most = most

    async def send(self, message: Message) -> None:
        if len(self.sent) == self._most:
            await asyncio.Event().wait()
        await super().send(message)


class Held:
    """What a whole answer holds until it is sent."""

    def __init__(self, size: int) -> None:
        self.times_released = 0
        self.answer = Answer(status=200, headers=(), body=b"x" * size, release=self.release)

    def release(self) -> None:
        self.times_released += 1


@pytest.mark.parametrize(
    ("size", "parts"),
    [
        (0, [0]),
        (1, [1]),
        (65_536, [65_536]),
        (65_537, [65_536, 1]),
        (200_000, [65_536, 65_536, 65_536, 3_392]),
    ],
)
async def test_a_whole_answer_goes_out_in_parts(size: int, parts: list[int]) -> None:
    """So that the server waits for the caller between them; the last one ends it."""
    wire, held = Wire(), Held(size)

    await GatewayResponse(held.answer)({"type": "http"}, wire.receive, wire.send)

    assert [len(message["body"]) for message in wire.sent[1:]] == parts
    assert [message["more_body"] for message in wire.sent[1:]] == [True] * (len(parts) - 1) + [
        False
    ]
    assert held.times_released == 1


@pytest.mark.parametrize("taken", [0, 1, 2])
async def test_an_answer_that_is_not_taken_is_given_up(taken: int) -> None:
    """Without its last part, which makes the server break the connection off."""
    wire, held = Slow(taken), Held(200_000)
    response = GatewayResponse(held.answer, write_seconds=0.02)

    await response({"type": "http"}, wire.receive, wire.send)

    assert len(wire.sent) == taken
    assert not any(message.get("more_body") is False for message in wire.sent)
    assert (held.times_released, bytes(response.body)) == (1, b"")


async def test_an_answer_to_a_caller_that_is_gone_gives_all_back() -> None:
    """The server says so by an error."""
    wire, held = Gone(), Held(3)

    await GatewayResponse(held.answer)({"type": "http"}, wire.receive, wire.send)

    assert held.times_released == 1


async def test_an_answer_is_delivered_once_the_server_has_all_of_it() -> None:
    """And before it gives back what it holds."""
    told: list[str] = []
    answer = Answer(
        status=200,
        headers=(),
        body=bytes(3),
        delivered=lambda: told.append("delivered"),
        release=lambda: told.append("released"),
    )
    for wire in (Wire(), Gone()):
        await GatewayResponse(answer)({"type": "http"}, wire.receive, wire.send)

    assert told == ["delivered", "released", "released"]


async def test_a_caller_has_left_when_the_server_says_so_behind_its_body() -> None:
    """Until the body has come, its reader alone may take the server's messages."""
    wire = Wire(part(b"ab", more=True), part(b"cd", more=False), {"type": "http.disconnect"})
    request = gateway_request(*asked(wire), request_limits())
    left = asyncio.ensure_future(request.left())
    await asyncio.sleep(0)
    body = await request.body.read()
    async with asyncio.timeout(30):
        await left

    assert body == b"abcd"


async def test_an_answer_whose_request_is_cancelled_gives_all_back() -> None:
    """While it is being sent."""
    wire, held = Slow(1), Held(3)
    sending = GatewayResponse(held.answer)({"type": "http"}, wire.receive, wire.send)
    task = asyncio.create_task(sending)
    await asyncio.sleep(0)
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task

    assert held.times_released == 1


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_a_stream_that_is_not_taken_is_given_up(taken: int) -> None:
    """Its head, behind an earlier answer that nobody reads; a frame; or its end. It is counted."""
    made, wire = (
        door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME), write_seconds=0.01),
        Slow(taken),
    )
    response = response_of(await made.stream(), made.front_door.detached, write_seconds=0.01)

    async with asyncio.timeout(30):
        await response({"type": "http"}, wire.receive, wire.send)
    await made.front_door.detached.finish(5, cut_seconds=0)

    assert [event.usage.total_tokens for event in made.sink.events] == [7]
    assert (len(wire.sent), made.is_idle) == (taken, True)
