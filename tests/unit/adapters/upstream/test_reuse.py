"""A request is sent once: only a pooled connection that is dead before any byte may be replaced."""

import asyncio
import gc
import socket
import struct
from asyncio.sslproto import SSLProtocol
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from meter.adapters.upstream.client import HttpUpstream
from meter.errors import UpstreamBroken
from meter.ports import UpstreamRequest
from tests.support.wire import serving, tls
from tests.unit.adapters.upstream.test_client import read, send, upstream

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
BODY = b'{"a":1}'


@asynccontextmanager
async def peer(
    *, gather: int = 1, reads: bytes = BODY, end: Callable[[socket.socket], object] | None = None
) -> AsyncIterator["Peer"]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        made = Peer(url=url, gather=gather, reads=reads, end=end)
        accepting = asyncio.create_task(made.accept(listener))
        try:
            yield made
        finally:
            tasks = {accepting, *made.tasks}
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            for connection in made.connections:
                connection.close()


@dataclass
class Peer:
    """A backend on plain sockets, so that a test can end one at once, without the event loop.

    Each connection is answered once, together with `gather` others. The next request on it is read
    once `end` is set: as far as `reads`, then it is worked on, then `end` is called.
    """

    url: str
    gather: int
    reads: bytes
    end: Callable[[socket.socket], object] | None
    is_ending: asyncio.Event = field(default_factory=asyncio.Event)
    posts: int = 0
    connections: list[socket.socket] = field(default_factory=list)
    tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, listener: socket.socket) -> None:
        gathered = asyncio.Barrier(self.gather)
        while True:
            connection, _ = await asyncio.get_running_loop().sock_accept(listener)
            connection.setblocking(False)
            self.connections.append(connection)
            self.tasks.add(asyncio.create_task(self._serve(connection, gathered)))

    async def _serve(self, connection: socket.socket, gathered: asyncio.Barrier) -> None:
        await self._read(connection, until=BODY)
        if len(self.connections) <= self.gather:
            await gathered.wait()
        await asyncio.get_running_loop().sock_sendall(connection, OK)
        await self.is_ending.wait()
        await self._read(connection, until=self.reads)
        await asyncio.sleep(0.01)
        if self.end is not None:
            self.end(connection)

    async def _read(self, connection: socket.socket, *, until: bytes) -> None:
        received = b""
        while until not in received:
            part = await asyncio.get_running_loop().sock_recv(connection, 65_536)
            if not part:
                raise ConnectionResetError
            received += part
        self.posts += 1


def close(connection: socket.socket) -> None:
    connection.close()


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


async def warm(made: HttpUpstream, backend: Peer) -> None:
    """Leave idle connections in the pool."""
    await asyncio.gather(*(read(made, backend.url) for _ in range(backend.gather)))
    assert len(backend.connections) == backend.gather


@pytest.mark.parametrize("end", [close, reset])
@pytest.mark.parametrize("connections", [1, 4])
@pytest.mark.parametrize("reads", [b"\r\n\r\n", BODY], ids=["after the head", "after the body"])
async def test_a_request_that_went_out_is_not_sent_again(
    end: Callable[[socket.socket], None], connections: int, reads: bytes
) -> None:
    """The backend may have worked on it, and will be paid for it: the caller of the port decides."""
    async with peer(gather=connections, reads=reads, end=end) as backend, upstream() as made:
        await warm(made, backend)
        backend.is_ending.set()
        with pytest.raises(UpstreamBroken):
            await send(made, backend.url)
        await asyncio.sleep(0.03)

        assert (backend.posts, len(backend.connections)) == (connections + 1, connections)


@pytest.mark.parametrize("method", ["GET", "DELETE", "HEAD", "OPTIONS", "PUT"])
@pytest.mark.parametrize("is_warm", [True, False])
async def test_nor_is_a_request_that_http_would_let_repeat(method: str, *, is_warm: bool) -> None:
    """Every request to a backend is in the call's attempts, whatever its method."""
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        while await reader.readuntil(b"\r\n\r\n"):
            requests += 1
            if requests > int(is_warm):
                break
            writer.write(OK)
        writer.close()

    async def ask(made: HttpUpstream, url: str) -> None:
        request = UpstreamRequest(backend="a", method=method, url=url, headers=(), body=b"")
        answer = await made.send(request, first_byte_timeout_seconds=2)
        assert [chunk async for chunk in answer.chunks()] == []
        await answer.close()

    async with serving(serve) as url, upstream() as made:
        if is_warm:
            await ask(made, url)
        with pytest.raises(UpstreamBroken):
            await ask(made, url)

    assert requests == 1 + int(is_warm)


def answer_late(connection: socket.socket) -> None:
    """Say that the time for another request is over; some servers do so before they close."""
    connection.send(b"HTTP/1.1 408 Request Timeout\r\ncontent-length: 0\r\n\r\n")


@pytest.mark.parametrize("end", [close, reset, answer_late])
async def test_connections_that_ended_while_idle_are_replaced_unseen(
    end: Callable[[socket.socket], None],
) -> None:
    """Also right before the next request, when the event loop has not seen it yet."""
    async with peer(gather=4) as backend, upstream() as made:
        await warm(made, backend)
        for connection in backend.connections:
            end(connection)
        await read(made, backend.url)

        assert (backend.posts, len(backend.connections)) == (5, 5)


async def test_a_late_answer_that_was_read_already_is_nobodys() -> None:
    """It would be taken for the answer to the next call."""
    async with peer() as backend, upstream() as made:
        await warm(made, backend)
        answer_late(backend.connections[0])
        await asyncio.sleep(0.02)
        answer = await send(made, backend.url)
        await answer.close()

        assert (answer.status, len(backend.connections)) == (200, 2)


async def test_a_silent_connection_is_used_again() -> None:
    """That is what the pool is for."""
    async with (
        peer(end=lambda connection: connection.send(OK)) as backend,
        upstream() as made,
    ):
        await warm(made, backend)
        backend.is_ending.set()
        await read(made, backend.url)

        assert (backend.posts, len(backend.connections)) == (2, 1)


@pytest.mark.parametrize("closes", [False, True])
async def test_connections_over_tls_are_replaced_too(tmp_path: Path, *, closes: bool) -> None:
    """A server's session tickets do not count; its end does."""
    server, client = tls(tmp_path)
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        while await reader.readuntil(BODY):
            writer.write(OK)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    async with upstream(make_context=lambda: client) as made:
        await read(made, f"https://localhost:{port}")
        if closes:
            raw = writers[0].transport.get_extra_info("socket").dup()
            with socket.socket(fileno=raw.detach()) as end:
                end.shutdown(socket.SHUT_RDWR)
        await read(made, f"https://localhost:{port}")
    listening.close()

    assert len(writers) == 1 + int(closes)


async def test_connections_over_tls_receive_records_into_one_buffer(tmp_path: Path) -> None:
    """asyncio would keep 256 KiB for each."""
    server, client = tls(tmp_path)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(BODY):
            writer.write(OK)

    listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
    url = f"https://localhost:{listening.sockets[0].getsockname()[1]}"
    async with upstream(make_context=lambda: client) as made:
        await asyncio.gather(read(made, url), read(made, url))
        secure: list[Any] = [each for each in gc.get_objects() if isinstance(each, SSLProtocol)]
        buffers = [each._ssl_buffer for each in secure if not each._server_side]

        assert len(buffers) == 2
        assert buffers[0] is buffers[1]
    listening.close()
