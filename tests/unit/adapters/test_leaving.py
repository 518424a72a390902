"""Parts written past uvicorn's `send` are the same bytes, and only where `send` would not wait."""

from collections.abc import Callable
from typing import Any

import pytest
from starlette.types import Message, Send

from bench.guard.server import ServedCaller
from meter.adapters.functions.leaving import Outlet

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
