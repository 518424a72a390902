"""Streamed forms over real connections: what a backend gets, and when it gets no end."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from meter.adapters.spool import MAX_MEMORY_BYTES, FileSpool
from meter.adapters.upstream.client import HttpUpstream
from meter.errors import TooLarge, UpstreamBroken, UpstreamTimeout
from meter.gateway.request.form import FormBody
from meter.ports import UpstreamAnswer, UpstreamRequest
from tests.fakes.gateway import FakeRequestBody, Part
from tests.support.gateway import BOUNDARY, form

KIND = f"multipart/form-data; boundary={BOUNDARY}"
FILE = bytes(range(256)) * 1_024
BODY = form(("file", FILE), ("model", b"gpt"))
RENAMED = BODY.replace(b"gpt", b"whisper-eu")

type Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def backend(
    handle: Callable[[web.Request], Awaitable[web.StreamResponse]],
) -> AsyncIterator[str]:
    """A backend on aiohttp."""
    app = web.Application(client_max_size=0)
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def wire(serve: Serve) -> AsyncIterator[str]:
    """A backend that is a bare connection."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


@asynccontextmanager
async def upstream() -> AsyncIterator[HttpUpstream]:
    made = HttpUpstream(connect_timeout_seconds=1, idle_timeout_seconds=5)
    try:
        yield made
    finally:
        await made.close()


def held(*parts: Part, declared: int | None = None) -> FormBody:
    return FormBody(source=FakeRequestBody(parts), spool=FileSpool(), declared_bytes=declared)


async def send(
    made: HttpUpstream, url: str, body: FormBody, *, model: str | None = None, seconds: float = 2
) -> UpstreamAnswer:
    length = body.length(model)
    declared = () if length is None else (("content-length", str(length)),)
    request = UpstreamRequest(
        backend="a",
        method="POST",
        url=url,
        headers=(("content-type", KIND), *declared),
        body=lambda: body.parts(model),
    )
    return await made.send(request, first_byte_timeout_seconds=seconds)


def in_parts(body: bytes, size: int = 10_007) -> list[bytes]:
    return [body[at : at + size] for at in range(0, len(body), size)]


@pytest.mark.parametrize("declared", [len(BODY), None], ids=["length", "chunked"])
async def test_a_streamed_form_arrives_intact(declared: int | None) -> None:
    """Under its true length where the caller told one, else in chunks."""
    got: list[tuple[str | None, str | None, bytes]] = []

    async def handle(request: web.Request) -> web.Response:
        headers = request.headers
        got.append(
            (headers.get("content-length"), headers.get("transfer-encoding"), await request.read())
        )
        return web.Response()

    async with backend(handle) as url, upstream() as made:
        body = held(*in_parts(BODY), declared=declared)
        await body.read_model(KIND)
        answer = await send(made, url, body, model="whisper-eu")
        await answer.close()
        body.close()

    length = None if declared is None else str(len(RENAMED))
    assert got == [(length, None if declared else "chunked", RENAMED)]


async def test_a_form_is_on_its_way_before_its_end_is_here() -> None:
    """The backend reads the beginning while the caller still sends the rest."""
    go_on = asyncio.Event()
    first: list[bytes] = []

    async def handle(request: web.Request) -> web.Response:
        first.append(await request.content.readany())
        go_on.set()
        return web.Response(body=await request.read())

    async with backend(handle) as url, upstream() as made:
        body = held(BODY[:5_000], go_on, BODY[5_000:])
        answer = await send(made, url, body)
        rest = b"".join([chunk async for chunk in answer.chunks()])
        await answer.close()
        body.close()

    assert first[0] + rest == BODY
    assert len(first[0]) <= 5_000


@pytest.mark.parametrize("declared", [len(BODY), None], ids=["length", "chunked"])
async def test_a_form_that_went_out_is_not_sent_again(declared: int | None) -> None:
    """The backend closed the kept connection while it read: whether to try another is not decided here."""
    asked = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal asked
        asked += 1
        if asked == 2:
            assert request.transport is not None
            request.transport.abort()
        await request.read()
        return web.Response()

    async with backend(handle) as url, upstream() as made:
        body = held(*in_parts(BODY), declared=declared)
        await (await send(made, url, body)).close()
        with pytest.raises(UpstreamBroken):
            await send(made, url, body)
        body.close()

    assert asked == 2


async def test_a_form_whose_caller_breaks_off_has_no_end() -> None:
    """The backend sees a broken connection, not a last chunk."""
    got = bytearray()
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            got.extend(part)
        writer.close()
        is_over.set()

    async with wire(serve) as url, upstream() as made:
        body = held(BODY[:5_000], TooLarge("It stopped.", status=408))
        with pytest.raises(UpstreamBroken):
            await send(made, url, body)
        async with asyncio.timeout(30):
            await is_over.wait()
        body.close()

    assert body.error is not None
    assert BODY[4_000:5_000] in got
    assert not got.endswith(b"0\r\n\r\n")


async def test_a_form_that_names_two_models_has_no_end() -> None:
    """Nor does the second name reach the backend."""
    got = bytearray()
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            got.extend(part)
        writer.close()
        is_over.set()

    second = form(("model", b"gpt"), ("file", FILE), ("model", b"gpt-expensive"))
    async with wire(serve) as url, upstream() as made:
        body = held(*in_parts(second), declared=len(second))
        await body.read_model(KIND)
        with pytest.raises(UpstreamBroken):
            await send(made, url, body)
        async with asyncio.timeout(30):
            await is_over.wait()
        body.close()

    assert b"gpt-expensive" not in got


async def test_an_early_answer_ends_the_sending() -> None:
    """Its connection is dropped, and what the caller sends later is not waited for."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\n{}")
        while await reader.read(65_536):
            pass
        writer.close()
        is_over.set()

    async with wire(serve) as url, upstream() as made:
        body = held(BODY[:5_000], asyncio.Event(), BODY[5_000:])
        answer = await send(made, url, body)
        told = b"".join([chunk async for chunk in answer.chunks()])
        await answer.close()
        body.close()
        async with asyncio.timeout(30):
            await is_over.wait()

    assert (answer.status, told) == (413, b"{}")


async def test_a_form_can_be_sent_again_after_an_early_answer() -> None:
    """What had been on its way to the first backend is not lost to the second."""
    go_on = asyncio.Event()

    async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 429 No\r\ncontent-length: 2\r\n\r\n{}")
        await reader.read()
        writer.close()

    async def handle(request: web.Request) -> web.Response:
        go_on.set()
        return web.Response(body=await request.read())

    async with wire(busy) as first, backend(handle) as second, upstream() as made:
        body = held(BODY[:5_000], go_on, BODY[5_000:])
        answer = await send(made, first, body)
        await answer.close()
        answer = await send(made, second, body)
        got = b"".join([chunk async for chunk in answer.chunks()])
        await answer.close()
        body.close()

    assert got == BODY


async def test_a_caller_that_sends_slowly_is_no_backends_fault() -> None:
    """The time to the first byte is the backend's own: waiting for the caller takes none of it."""
    go_on = asyncio.Event()

    async def handle(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async with backend(handle) as url, upstream() as made:
        body = held(BODY[:5_000], go_on, BODY[5_000:])
        asyncio.get_running_loop().call_later(0.3, go_on.set)
        answer = await send(made, url, body, seconds=0.15)
        got = b"".join([chunk async for chunk in answer.chunks()])
        await answer.close()
        body.close()

    assert got == BODY


@pytest.mark.parametrize("reads", [True, False], ids=["reads", "does not read"])
async def test_a_backend_that_does_not_answer_a_form_times_out(reads: bool) -> None:
    """After the last byte of the form, and when it does not take the form's bytes."""
    is_over = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if reads:
            while await reader.read(65_536):
                pass
        else:
            await is_over.wait()
        writer.close()

    large = form(("file", bytes(20_000_000)), ("model", b"gpt"))
    async with wire(serve) as url, upstream() as made:
        body = held(*in_parts(BODY if reads else large, 65_536))
        with pytest.raises(UpstreamTimeout):
            await send(made, url, body, seconds=0.2)
        is_over.set()
        body.close()


class Arriving:
    """A caller's body that is made as it is read: its file is `parts` times 64 KiB."""

    def __init__(self, parts: int) -> None:
        opening, closing = form(("file", b"|"), ("model", b"gpt")).split(b"|")
        self.size = parts * 65_536 + len(opening) + len(closing)
        self._made = self._make(opening, parts, closing)

    @staticmethod
    async def _make(opening: bytes, parts: int, closing: bytes) -> AsyncIterator[bytes]:
        yield opening
        for _ in range(parts):
            yield bytes(65_536)
        yield closing

    async def next_part(self) -> bytes:
        return await anext(self._made, b"")

    async def read(self) -> bytes:
        raise AssertionError("a form is not read as a whole")


async def test_a_large_form_is_not_held_in_memory() -> None:
    """Beyond a megabyte it is on disk, also while its model has not come yet."""
    received = 0

    async def handle(request: web.Request) -> web.Response:
        nonlocal received
        async for chunk in request.content.iter_any():
            received += len(chunk)
        return web.Response()

    source = Arriving(parts=400)
    async with backend(handle) as url, upstream() as made:
        body = FormBody(source=source, spool=FileSpool(), declared_bytes=None)
        tracemalloc.start()
        await body.read_model(KIND)
        await (await send(made, url, body, model="whisper-eu")).close()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        body.close()

    assert received == source.size + len("whisper-eu") - len("gpt")
    assert peak < 6 * MAX_MEMORY_BYTES
