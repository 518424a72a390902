"""Whatever breaks or is cancelled: no socket is left, and no request gets another's answer."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meter.adapters.upstream.client import HttpUpstream
from meter.adapters.upstream.dial import verifying_context
from meter.ports import UpstreamRequest
from tests.support.wire import BODY, End, Script, outcome, playing, post, serving, tls
from tests.unit.adapters.upstream.test_client import upstream

type Body = bytes | Callable[[], AsyncIterator[bytes]]

WHOLE = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nabcd"
CHUNKED = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\n\r\n"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


async def until(is_so: Callable[[], bool]) -> None:
    """Wait for what the event loop will do by itself."""
    async with asyncio.timeout(60):
        while not is_so():  # noqa: ASYNC110  # sockets close without an event
            await asyncio.sleep(0.001)


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Answers each request with its own number, in two parts."""
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            number = head.partition(b"x-number: ")[2].split(b"\r\n")[0]
            await reader.readuntil(b"end" if b"chunked" not in head else b"0\r\n\r\n")
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (2 * len(number)))
            await asyncio.sleep(0)
            writer.write(number)
            await asyncio.sleep(0)
            writer.write(number)
    except (ConnectionError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


@asynccontextmanager
async def echoing(scheme: str, folder: Path) -> AsyncIterator[tuple[str, HttpUpstream]]:
    server, client = tls(folder) if scheme == "https" else (None, verifying_context())
    listening = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    async with upstream(make_context=lambda: client) as made:
        yield f"{scheme}://localhost:{port}/", made
    listening.close()
    listening.close_clients()
    await listening.wait_closed()


def numbered(url: str, number: int, *, in_parts: bool) -> UpstreamRequest:
    async def parts() -> AsyncIterator[bytes]:
        yield b"the "
        await asyncio.sleep(0)
        yield b"end"

    body: Body = parts if in_parts else b"the end"
    headers = (("x-number", str(number)),)
    return UpstreamRequest(backend="a", method="POST", url=url, headers=headers, body=body)


@pytest.mark.parametrize("in_parts", [False, True])
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_call_may_be_cancelled_anywhere(
    tmp_path: Path, scheme: str, *, in_parts: bool
) -> None:
    """While connecting, sending, waiting or reading: then the next call has its own answer."""
    files = open_files()
    async with echoing(scheme, tmp_path) as (url, made):
        cancelled = 0
        for steps in range(60):
            call = asyncio.create_task(outcome(made, numbered(url, steps, in_parts=in_parts)))
            for _ in range(steps):
                await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait({call})
            cancelled += call.cancelled()
            if not call.cancelled():
                assert call.result().body == str(steps).encode() * 2
            if steps % 3 == 0:
                after = await outcome(made, numbered(url, 1000 + steps, in_parts=in_parts))
                assert (after.error, after.body) == (None, str(1000 + steps).encode() * 2)
            if steps % 10 == 0:
                await made.close()
                made._pool.is_closed = False
        assert cancelled > 5
    await until(lambda: open_files() <= files)


@pytest.mark.parametrize("end", [End.RESET, End.CLOSE, End.SHUT])
@pytest.mark.parametrize("whole", [WHOLE, CHUNKED], ids=["length", "chunks"])
async def test_an_answer_may_be_cut_at_any_byte(whole: bytes, end: End) -> None:
    """It is broken, unless the cut is behind its end; and nothing stays open."""
    files = open_files()
    async with upstream() as made:
        for cut in range(len(whole) + 1):
            async with playing(Script([whole[:cut]], end)) as backend:
                came = await outcome(made, post(backend.url))
                assert (came.error is None) == (cut == len(whole)), cut
                assert b"abcd".startswith(came.body)
                assert not made._pool._idle or cut == len(whole)
    await until(lambda: open_files() <= files)


async def test_a_thousand_connections_leave_none_open() -> None:
    """Of servers that close after each answer, or break off."""
    files = open_files()
    scripts = [
        Script([WHOLE], End.CLOSE),
        Script([WHOLE], End.RESET),
        Script([WHOLE[:-1]], End.RESET),
        Script([WHOLE + b"surplus"], End.KEEP),
    ]
    async with upstream() as made:
        for script in scripts:
            async with playing(script) as backend:

                async def calls(url: str) -> None:
                    for _ in range(10):
                        await outcome(made, post(url))

                await asyncio.gather(*(calls(backend.url) for _ in range(25)))
                assert backend.connections == 250
            await until(lambda: not made._pool._open)

    await until(lambda: open_files() <= files)


@pytest.mark.parametrize("surplus", [WHOLE, b"HTTP/1.1 500 No\r\n", b"x"])
@pytest.mark.parametrize("is_late", [False, True])
async def test_an_answer_to_nothing_is_nobodys(surplus: bytes, *, is_late: bool) -> None:
    """A backend that answers twice must not poison the next call."""
    parts = [WHOLE, surplus] if is_late else [WHOLE + surplus]
    async with playing(Script(parts, End.KEEP)) as backend, upstream() as made:
        for _ in range(5):
            came = await outcome(made, post(backend.url))
            assert (came.error, came.body) == (None, b"abcd")
            for _ in range(10):
                await asyncio.sleep(0)

    assert backend.connections == 5


async def test_an_answer_before_the_request_does_no_harm() -> None:
    """To the calls after it."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(WHOLE.replace(b"abcd", b"evil"))
        try:
            while await reader.readuntil(BODY):
                writer.write(WHOLE)
        except (ConnectionError, asyncio.IncompleteReadError):
            writer.close()

    async with serving(serve) as url, upstream() as made:
        for _ in range(10):
            await outcome(made, post(url))
            for _ in range(10):
                await asyncio.sleep(0)
            assert not any(made._pool._idle.values())


async def test_a_head_that_never_ends_is_left_in_time() -> None:
    """However often a byte of it comes."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(BODY)
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        while not writer.transport.is_closing():
            writer.write(b"a")
            await asyncio.sleep(0.01)

    async with serving(serve) as url, upstream() as made:
        came = await outcome(made, post(url), seconds=0.1)

    assert came.error == "UpstreamTimeout"


async def test_endless_headers_are_left_at_once() -> None:
    """They would fill the memory before the time is over."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(BODY)
        writer.write(b"HTTP/1.1 200 OK\r\nx: ")
        try:
            while sent < 100_000_000:
                writer.write(bytes(65_536).replace(b"\0", b"a"))
                await writer.drain()
                sent += 65_536
        except ConnectionError:
            pass
        writer.close()

    async with serving(serve) as url, upstream() as made:
        came = await outcome(made, post(url))

    assert (came.error, sent < 20_000_000) == ("UpstreamBroken", True)


async def test_a_slow_reader_makes_its_backend_wait() -> None:
    """What is not read is not held: 50 MB stay where they are."""
    sent = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        await reader.readuntil(BODY)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 52428800\r\n\r\n")
        for _ in range(800):
            writer.write(bytes(65_536))
            await writer.drain()
            sent += 65_536
        writer.close()

    async with serving(serve) as url, upstream() as made:
        answer = await made.send(post(url), first_byte_timeout_seconds=30)
        for _ in range(1000):
            await asyncio.sleep(0)
        held, waiting = sent, sent < 52_428_800
        size = 0
        async for chunk in answer.chunks():
            size += len(chunk)
        await answer.close()

    assert (size, waiting) == (52_428_800, True)
    assert held < 30_000_000  # the sockets' own buffers


def test_the_client_needs_no_context_for_plain_http() -> None:
    """Reading the system's authorities takes 20 ms and more."""

    async def scenario() -> None:
        def refuse() -> ssl.SSLContext:
            raise AssertionError("not needed")

        async with playing(Script([WHOLE])) as backend, upstream(make_context=refuse) as made:
            assert (await outcome(made, post(backend.url))).status == 200

    asyncio.run(scenario())
