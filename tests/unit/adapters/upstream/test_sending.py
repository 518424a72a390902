"""Long bodies that are in memory: the same bytes, in pieces, as fast as the backend takes them."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.adapters.upstream.client import HttpUpstream
from meter.adapters.upstream.dial import verifying_context
from meter.adapters.upstream.sending import PIECE_BYTES, SHORT_BYTES, in_pieces
from meter.errors import UpstreamBroken, UpstreamTimeout
from meter.ports import UpstreamRequest
from tests.support.wire import tls

MIB = 1_048_576
SIZES = st.sampled_from([0, 1, SHORT_BYTES, SHORT_BYTES + 1, PIECE_BYTES, 3 * PIECE_BYTES + 7])


@given(st.lists(SIZES, max_size=6))
def test_the_pieces_are_the_parts(sizes: list[int]) -> None:
    """In their order; none is larger than a piece and what is short before it."""
    parts = [bytes([number]) * size for number, size in enumerate(sizes)]

    pieces = list(in_pieces(parts))

    assert b"".join(pieces) == b"".join(parts)
    assert max(map(len, pieces), default=0) <= PIECE_BYTES + 6 * SHORT_BYTES


class Backend:
    """A server that takes a request after `go_on`, and answers with its number of bytes."""

    def __init__(self, *, is_open: bool = True, takes: int | None = None) -> None:
        self.go_on = asyncio.Event()
        self.takes = takes
        if is_open:
            self.go_on.set()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            await self.go_on.wait()
            length = int(head.partition(b"content-length: ")[2].split(b"\r")[0])
            if self.takes is not None:
                await reader.readexactly(self.takes)
                writer.transport.abort()
                return
            body = await reader.readexactly(length)
            answer = b"%d %d" % (len(body), sum(body[:: MIB // 8]))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(answer), answer))


def request(url: str, body: tuple[bytes | memoryview, ...]) -> UpstreamRequest:
    length = (("content-length", str(sum(map(len, body)))),)
    return UpstreamRequest(backend="a", method="POST", url=url, headers=length, body=body)


async def answered(
    backend: Backend, *sizes: int, seconds: float = 20, folder: Path | None = None
) -> list[bytes]:
    """The answers to a long body that is sent twice on one connection."""
    server, client = tls(folder) if folder else (None, verifying_context())
    listening = await asyncio.start_server(backend, "127.0.0.1", 0, limit=65_536, ssl=server)
    port = listening.sockets[0].getsockname()[1]
    made = HttpUpstream(
        connect_timeout_seconds=5, idle_timeout_seconds=20, make_context=lambda: client
    )
    body = tuple(memoryview(b"x" * size) for size in sizes)
    found = []
    try:
        for _ in range(2):
            url = f"{'https' if folder else 'http'}://localhost:{port}/"
            answer = await made.send(request(url, body), first_byte_timeout_seconds=seconds)
            found.append(b"".join([chunk async for chunk in answer.chunks()]))
            await answer.close()
        assert len(made._pool._open) == 1  # the second request had the first one's connection
    finally:
        await made.close()
        listening.close()
        listening.close_clients()
        await listening.wait_closed()
    return found


@pytest.mark.parametrize("is_tls", [False, True])
@pytest.mark.parametrize("sizes", [(100_000,), (3, MIB, 3), (20 * MIB,)])
async def test_a_long_body_arrives_whole(
    tmp_path: Path, sizes: tuple[int, ...], *, is_tls: bool
) -> None:
    """And its connection is used again: all of the request was written before the answer."""
    found = await answered(Backend(), *sizes, folder=tmp_path if is_tls else None)

    total = sum(sizes)
    assert found == [b"%d %d" % (total, ord("x") * -(-total // (MIB // 8)))] * 2


async def test_a_backend_that_takes_nothing_is_late() -> None:
    """It has its time for the first byte from the last piece that it took."""
    with pytest.raises(UpstreamTimeout):
        await answered(Backend(is_open=False), 20 * MIB, seconds=0.05)


async def test_a_connection_that_ends_in_the_middle_is_broken() -> None:
    """Whatever of the body was written."""
    with pytest.raises(UpstreamBroken):
        await answered(Backend(takes=MIB), 20 * MIB)
