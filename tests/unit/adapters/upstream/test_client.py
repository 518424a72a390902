"""The upstream client against real servers on loopback: bytes as they come, faults by name."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from ssl import SSLContext

import pytest

from meter.adapters.upstream.client import HttpUpstream
from meter.adapters.upstream.dial import verifying_context
from meter.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from meter.ports import UpstreamAnswer, UpstreamRequest
from tests.support.wire import serving


class Server:
    """A server that gives each connection the same bytes, and keeps what it was sent."""

    def __init__(self, *parts: bytes, hangs: bool = False) -> None:
        self.parts = parts
        self.hangs = hangs
        self.received: list[bytes] = []

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or b"0")
        self.received.append(head + await reader.readexactly(length))
        writer.write(b"".join(self.parts))
        await writer.drain()
        if self.hangs:
            await reader.read()
        writer.close()


@asynccontextmanager
async def upstream(
    *, idle_seconds: float = 5, make_context: Callable[[], SSLContext] = verifying_context
) -> AsyncIterator[HttpUpstream]:
    made = HttpUpstream(
        connect_timeout_seconds=1, idle_timeout_seconds=idle_seconds, make_context=make_context
    )
    try:
        yield made
    finally:
        await made.close()


async def send(made: HttpUpstream, url: str, *, seconds: float = 2) -> UpstreamAnswer:
    request = UpstreamRequest(
        backend="a",
        method="POST",
        url=url,
        headers=(("content-type", "application/json"), ("api-key", "k"), ("x-a", "1")),
        body=b'{"a":1}',
    )
    return await made.send(request, first_byte_timeout_seconds=seconds)


async def read(made: HttpUpstream, url: str) -> bytes:
    answer = await send(made, url)
    try:
        return b"".join([chunk async for chunk in answer.chunks()])
    finally:
        await answer.close()


async def exchange(server: Server, *, path: str = "/") -> tuple[UpstreamAnswer, bytes]:
    async with serving(server) as url, upstream() as made:
        answer = await send(made, url + path)
        body = b"".join([chunk async for chunk in answer.chunks()])
        await answer.close()
    return answer, body


OK = b"HTTP/1.1 200 OK\r\n"


async def test_a_request_is_sent_as_it_is() -> None:
    """Path, headers and body."""
    server = Server(OK + b"content-length: 0\r\n\r\n")

    await exchange(server, path="/openai/x?api-version=1")

    head, _, body = server.received[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /openai/x?api-version=1 HTTP/1.1\r\n")
    assert b"\r\napi-key: k\r\nx-a: 1\r\n" in head.lower()
    assert body == b'{"a":1}'


async def test_an_answer_comes_with_its_status_headers_and_bytes() -> None:
    """Header names in lower case, repeated ones kept."""
    server = Server(OK + b"X-A: 1\r\nX-a: 2\r\ncontent-length: 3\r\n\r\nabc")

    answer, body = await exchange(server)

    assert (answer.status, body) == (200, b"abc")
    assert answer.headers == (("x-a", "1"), ("x-a", "2"), ("content-length", "3"))


@pytest.mark.parametrize(
    ("framed", "arrived", "left"),
    [
        (b"content-length: 3\r\n\r\nabc", b"abc", b""),
        (b"transfer-encoding: chunked\r\n\r\n1\r\na\r\n2\r\nbc\r\n0\r\n\r\n", b"abc", b""),
        (b"content-length: 0\r\n\r\n", b"", b""),
        (b"content-length: 4\r\n\r\nabc", None, b"abc"),
        (b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n", None, b"abc"),
        (b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\nzz\r\n", None, b"abc"),
    ],
)
async def test_a_body_that_is_there_with_its_head_need_not_be_waited_for(
    framed: bytes, arrived: bytes | None, left: bytes
) -> None:
    """Its clean end, too: a part of one is read as it comes, and so is one that is broken off."""
    async with serving(Server(OK + framed, hangs=True)) as url, upstream(idle_seconds=0.2) as made:
        answer = await send(made, url)
        found, rest = answer.arrived(), b""
        with suppress(UpstreamBroken):
            async for chunk in answer.chunks():
                rest += chunk
        await answer.close()

    assert (found, rest) == (arrived, left)


async def test_an_error_status_is_an_answer() -> None:
    """Judging it is not the adapter's business."""
    answer, body = await exchange(Server(b"HTTP/1.1 429 No\r\ncontent-length: 2\r\n\r\n{}"))

    assert (answer.status, body) == (429, b"{}")


async def test_a_redirect_is_not_followed() -> None:
    """The request's host comes from configuration alone."""
    server = Server(b"HTTP/1.1 307 Go\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n")

    answer, _ = await exchange(server)

    assert (answer.status, len(server.received)) == (307, 1)


async def test_an_encoded_body_is_not_decoded() -> None:
    """Byte for byte."""
    packed = gzip.compress(b"{}")
    length = str(len(packed)).encode()
    head = OK + b"content-encoding: gzip\r\ncontent-length: " + length + b"\r\n\r\n"

    _, body = await exchange(Server(head + packed))

    assert body == packed


async def test_cookies_are_not_kept() -> None:
    """One caller's cookie would go to the next caller's call."""
    server = Server(
        OK + b"set-cookie: s=1; path=/\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    )
    async with serving(server) as url, upstream() as made:
        for _ in range(2):
            await (await send(made, url)).close()

    assert [b"cookie" in request.lower() for request in server.received] == [False, False]


async def test_a_refused_connection_is_unreachable() -> None:
    """Nothing listens there."""
    async with serving(Server()) as url:
        pass
    async with upstream() as made:
        with pytest.raises(UpstreamUnreachable):
            await send(made, url)


@pytest.mark.parametrize("url", ["http://127.0.0.1:99999/", "http://:1/", "nonsense"])
async def test_an_address_that_is_none_is_unreachable(url: str) -> None:
    """It fails over like any other backend that cannot be reached."""
    async with upstream() as made:
        with pytest.raises((UpstreamUnreachable, UpstreamBroken)):
            await send(made, url)


@pytest.mark.parametrize("part", [b"", b"HTTP/1.1 200 OK\r\nx-half: "])
async def test_a_backend_that_sends_no_head_in_time_times_out(part: bytes) -> None:
    """Silence, or a head that does not end."""
    async with serving(Server(part, hangs=True)) as url, upstream() as made:
        with pytest.raises(UpstreamTimeout):
            await send(made, url, seconds=0.05)


async def test_the_idle_time_holds_before_the_answer_too() -> None:
    """Where it is shorter than the time for the first byte."""
    async with serving(Server(b"", hangs=True)) as url, upstream(idle_seconds=0.05) as made:
        with pytest.raises(UpstreamTimeout):
            await send(made, url, seconds=600)


@pytest.mark.parametrize(
    "part",
    [
        b"",
        b"HTTP/1.1 200",
        b"nonsense\r\n\r\n",
        OK + b"content-length: x\r\n\r\n",
        OK + b" : \r\n\r\n",
    ],
)
async def test_an_answer_without_a_whole_head_is_broken(part: bytes) -> None:
    """Closed too early, or not HTTP."""
    async with serving(Server(part)) as url, upstream() as made:
        with pytest.raises(UpstreamBroken):
            await send(made, url)


@pytest.mark.parametrize(
    "cut",
    [
        b"content-length: 10\r\n\r\nhalf",
        b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n9\r\nx",
        b"transfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ],
)
async def test_a_body_that_is_cut_is_broken(cut: bytes) -> None:
    """A cut never looks like a clean end."""
    async with serving(Server(OK + cut)) as url, upstream() as made:
        with pytest.raises(UpstreamBroken):
            await read(made, url)


async def test_a_body_that_stands_still_is_broken() -> None:
    """After the idle time."""
    head = OK + b"content-length: 10\r\n\r\nhalf"
    async with serving(Server(head, hangs=True)) as url, upstream(idle_seconds=0.05) as made:
        with pytest.raises(UpstreamBroken):
            await read(made, url)


async def test_what_came_before_a_cut_is_given_out() -> None:
    """The caller has paid for it."""
    head = OK + b"content-length: 10\r\n\r\nhalf"
    async with serving(Server(head, hangs=True)) as url, upstream(idle_seconds=0.05) as made:
        answer = await send(made, url)
        first = await anext(answer.chunks())
        await answer.close()

    assert first == b"half"


async def test_a_stream_is_given_out_as_it_comes() -> None:
    """The first chunk is here before the last one was sent."""
    go_on = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'{"a":1}')
        writer.write(OK + b"transfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        writer.write(b"3\r\ntwo\r\n0\r\n\r\n")
        await writer.drain()
        writer.close()

    async with serving(serve) as url, upstream() as made:
        chunks = (await send(made, url)).chunks()
        first = await anext(chunks)
        go_on.set()
        rest = [chunk async for chunk in chunks]

    assert (first, rest) == (b"one", [b"two"])


async def test_closing_an_unread_answer_drops_its_connection() -> None:
    """Its rest would be the next call's answer."""
    is_dropped = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b'{"a":1}')
        writer.write(OK + b"content-length: 10\r\n\r\nhalf")
        await reader.read()
        is_dropped.set()
        writer.close()

    async with serving(serve) as url, upstream() as made:
        await (await send(made, url)).close()
        async with asyncio.timeout(30):
            await is_dropped.wait()

    assert is_dropped.is_set()


async def test_the_query_is_sent_as_it_came() -> None:
    """No quoting is undone or done again on the way."""
    server = Server(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
    await exchange(server, path="/x?a=%2F%41&b=c%20d")

    assert server.received[0].startswith(b"POST /x?a=%2F%41&b=c%20d HTTP/1.1")


async def test_a_fresh_connection_that_breaks_is_not_tried_again() -> None:
    """The backend may have begun to work: whether to fail over is not decided here."""
    server = Server()
    async with serving(server) as url, upstream() as made:
        with pytest.raises(UpstreamBroken):
            await send(made, url)

    assert len(server.received) == 1
