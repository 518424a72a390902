"""Parts written past uvicorn's `send` are the same bytes, and only where `send` would not wait."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from starlette.types import Message, Send

from bench.guard.server import ServedCaller
from meter.adapters.functions.leaving import MOST_GATHERED_BYTES, Outlet
from meter.adapters.functions.web import StreamedResponse
from meter.errors import AnswerCut
from meter.gateway.detached import Detached
from meter.gateway.http import CallerSink, StreamingAnswer
from meter.ports import Headers

SCOPE = {"type": "http", "method": "POST", "path": "/", "query_string": b"", "headers": []}
HEAD: Message = {"type": "http.response.start", "status": 200, "headers": []}


def part(data: bytes, *, more_body: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more_body}


def served(**scope: Any) -> ServedCaller:
    return ServedCaller({**SCOPE, **scope}, b"")


async def test_parts_are_what_send_writes() -> None:
    """Of any size: the caller cannot tell one from the other."""
    parts = [b"x", b"data: 1\n\n", bytes(70_000)]
    through, past = served(), served()
    await through.send(HEAD)
    await past.send(HEAD)
    for data in parts:
        await through.send(part(data))
        put = Outlet(past.send).put
        assert put is not None
        put(data)
    for caller in (through, past):
        await caller.send(part(b"", more_body=False))

    assert past.written == through.written
    assert past.body == b"".join(parts)


async def disconnected(caller: ServedCaller) -> None:
    caller.cycle.disconnected = True


async def paused(caller: ServedCaller) -> None:
    caller.cycle.flow.pause_writing()


async def ended(caller: ServedCaller) -> None:
    await caller.send(part(b"", more_body=False))


@pytest.mark.parametrize("happens", [disconnected, paused, ended])
async def test_nothing_is_written_where_send_would_wait_or_refuse(
    happens: Callable[[ServedCaller], Any],
) -> None:
    """A caller that is slow, gone, or has its answer."""
    caller = served()
    await caller.send(HEAD)
    await happens(caller)

    assert Outlet(caller.send).put is None


async def test_a_caller_that_reads_again_is_written_to() -> None:
    """Once the connection has room."""
    caller = served()
    await caller.send(HEAD)
    caller.cycle.flow.pause_writing()
    outlet = Outlet(caller.send)
    while_paused = outlet.put
    caller.cycle.flow.resume_writing()

    assert while_paused is None
    assert outlet.put is not None


@pytest.mark.parametrize(
    ("method", "headers"), [("HEAD", []), ("POST", [(b"content-length", b"9")])]
)
async def test_only_chunked_bodies_are_written_to(
    method: str, headers: list[tuple[bytes, bytes]]
) -> None:
    """`send` drops a body that answers HEAD, and counts one of a declared length."""
    caller = served(method=method)
    await caller.send({**HEAD, "headers": headers})

    assert Outlet(caller.send).put is None


async def test_the_head_comes_first() -> None:
    """Before it there is no body."""
    assert Outlet(served().send).put is None


async def test_another_send_is_never_passed() -> None:
    """A middleware's may compress the body, another server's is not known."""
    caller = served()
    await caller.send(HEAD)

    async def wrapped(message: Message) -> None:
        await caller.send(message)

    sends: list[Send] = [wrapped]
    assert [Outlet(send).put for send in sends] == [None]


class Relayed:
    """Sends the parts, and waits before each that is an event."""

    def __init__(self, *parts: bytes | asyncio.Event | Exception) -> None:
        self._parts = parts

    async def run(self, sink: CallerSink) -> None:
        for each in self._parts:
            if isinstance(each, asyncio.Event):
                await each.wait()
            elif isinstance(each, Exception):
                raise each
            else:
                await sink.write(each)


def sending(
    caller: ServedCaller, *parts: bytes | asyncio.Event | Exception, headers: Headers = ()
) -> tuple[list[bytes], Callable[[Send], Coroutine[Any, Any, None]]]:
    """What is written to the connection, each write by itself; and what sends the stream."""
    writes: list[bytes] = []
    caller.cycle.transport.write = writes.append  # type: ignore[method-assign,assignment]  # watched
    answer = StreamingAnswer(status=200, headers=headers, relay=Relayed(*parts))
    response = StreamedResponse(answer, Detached())
    return writes, lambda send: response(caller.cycle.scope, caller.receive, send)  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["POST", "HEAD"])
@pytest.mark.parametrize("is_kept", [True, False])
@pytest.mark.parametrize("headers", [(), (("content-length", "70001"),), (("X-Name", "a"),)])
async def test_a_stream_is_sent_as_uvicorn_sends_it(
    method: str, is_kept: bool, headers: Headers
) -> None:
    """Byte for byte, whatever its head says, and with what becomes of the connection."""
    wires, ends = [], []
    for is_hidden in (True, False):
        caller = served(method=method)
        caller.cycle.keep_alive = is_kept
        caller.cycle.transport.close = lambda: ends.append("closed")  # type: ignore[method-assign]
        caller.cycle.on_response = lambda: ends.append("ended")
        writes, send_all = sending(caller, b"a", bytes(70_000), headers=headers)

        async def hidden(message: Message, caller: ServedCaller = caller) -> None:
            await caller.send(message)

        await send_all(hidden if is_hidden else caller.send)
        wires.append(b"".join(writes))
        assert caller.cycle.response_complete

    assert wires[0] == wires[1]
    assert ends == (["ended"] if is_kept else ["closed", "ended"]) * 2


async def test_a_stream_that_is_there_is_one_write() -> None:
    """Its head, all its parts and its end."""
    caller = served()
    writes, send_all = sending(caller, b"a", b"b")
    await send_all(caller.send)

    assert len(writes) == 1
    assert writes[0].startswith(b"HTTP/1.1 200 OK\r\n")
    assert writes[0].endswith(b"\r\n\r\n1\r\na\r\n1\r\nb\r\n0\r\n\r\n")


async def test_nothing_stays_while_the_next_part_is_awaited() -> None:
    """What has come by then is the caller's: in one write each time."""
    caller, event = served(), asyncio.Event()
    writes, send_all = sending(caller, b"a", b"b", event, b"c", b"d")
    task = asyncio.create_task(send_all(caller.send))
    await asyncio.sleep(0)
    before = b"".join(writes)
    event.set()
    await task

    assert before.endswith(b"1\r\na\r\n1\r\nb\r\n")
    assert writes[1:] == [b"1\r\nc\r\n1\r\nd\r\n0\r\n\r\n"]


async def test_no_more_is_gathered_than_the_server_takes_at_once() -> None:
    """Many parts of one step are written as they become many bytes."""
    caller = served()
    writes, send_all = sending(caller, *[bytes(10_000)] * 40)
    await send_all(caller.send)

    assert max(map(len, writes)) < MOST_GATHERED_BYTES + 10_100
    assert b"".join(writes).count(bytes(10_000)) == 40


async def test_what_came_before_a_cut_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no end."""
    monkeypatch.setattr("meter.adapters.functions.web.CUT_PAUSE_SECONDS", 0)
    caller = served()
    writes, send_all = sending(caller, b"a", AnswerCut())
    await send_all(caller.send)

    assert b"".join(writes).endswith(b"1\r\na\r\n")
    assert not caller.cycle.response_complete


async def test_a_caller_that_has_left_is_known_without_receiving() -> None:
    """The connection tells, once the request's body has come; it is read on for that."""
    caller = served()
    outlet = Outlet(caller.send)
    was_left = outlet.is_left
    caller.cycle.disconnected = True

    assert outlet.hears_of_leaving()
    assert (was_left, outlet.is_left) == (False, True)


async def test_somebody_receives_while_the_body_still_comes() -> None:
    """Its parts make room for what comes behind them; another server's connection is not known."""
    caller = served()
    caller.cycle.more_body = True

    async def wrapped(message: Message) -> None:
        await caller.send(message)

    assert not Outlet(caller.send).hears_of_leaving()
    assert not Outlet(wrapped).hears_of_leaving()
