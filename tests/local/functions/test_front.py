"""The local host's HTTP side, between raw sockets and a worker that records what it gets."""

import asyncio
import gc
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from local.functions.admin import Admin
from local.functions.front import Front
from local.functions.invocations import HttpInvocations
from local.functions.real_proxy import ProxyFailed, RealProxy
from local.functions.worker import Function, Invoked

FUNCTION = Function(id="1", name="front_door", trigger={"route": "{*path}"}, retry=None)
PACKED = gzip.compress(b"hi", compresslevel=9)  # longer than what it holds


class FakeWorker:
    """`local.functions.worker.Worker` as the front uses it: an HTTP server and invocations."""

    def __init__(self) -> None:
        self.http_uri = ""
        self.invoked: list[str | None] = []
        self.requests: list[tuple[Mapping[str, str], list[str], bytes]] = []
        self.answers = asyncio.Event()
        self.answers.set()
        self.is_asked, self.has_lost = asyncio.Event(), asyncio.Event()

    def triggered_by(self, kind: str) -> tuple[Function, ...]:
        return (FUNCTION,) if kind == "httpTrigger" else ()

    async def invoke(self, function: Function, argument: object, **options: Any) -> Invoked:
        self.invoked.append(options["invocation_id"])
        return Invoked(error=None)

    async def serve(self, request: web.BaseRequest) -> web.StreamResponse:
        ids = request.headers.getall("x-ms-invocation-id")
        self.requests.append((request.headers, ids, await request.read()))
        self.is_asked.set()
        try:
            await self.answers.wait()
        except asyncio.CancelledError:
            self.has_lost.set()
            raise
        return web.Response(text="ok")


async def _run_by_name(name: str, argument: object) -> bool:
    return name == "outbox"


@asynccontextmanager
async def serving() -> AsyncIterator[tuple[FakeWorker, int]]:
    """The front on a free port, and its worker."""
    worker = FakeWorker()
    runner = web.ServerRunner(
        web.Server(worker.serve, auto_decompress=False, access_log=None, handler_cancellation=True)
    )
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    worker.http_uri = f"http://127.0.0.1:{runner.addresses[0][1]}"
    invocations = HttpInvocations(worker, "", timeout_seconds=60)
    front = Front(worker.http_uri, invocations, Admin("key", _run_by_name))
    port = await front.start(0)
    try:
        yield worker, port
    finally:
        await front.stop(grace_seconds=1)
        await runner.cleanup()


async def call(
    port: int, headers: bytes, body: bytes, *, line: bytes = b"POST /openai/v1/responses"
) -> bytes:
    """The answer to a request on a connection of its own."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    length = b"content-length: %d\r\nconnection: close\r\n" % len(body)
    writer.write(line + b" HTTP/1.1\r\nhost: x\r\n" + length + headers)
    writer.write(b"\r\n" + body)
    async with asyncio.timeout(30):
        answer = await reader.read()
    writer.close()
    return answer


async def test_a_packed_body_is_forwarded_as_it_is() -> None:
    """Unpacked under its old length it would take the next call's bytes with it."""
    async with serving() as (worker, port):
        packed = await call(port, b"content-encoding: gzip\r\n", PACKED)
        after = await call(port, b"", b"next")

    assert [answer.split(b" ")[1] for answer in (packed, after)] == [b"200", b"200"]
    assert [body for _, _, body in worker.requests] == [PACKED, b"next"]
    assert worker.requests[0][0]["content-encoding"] == "gzip"


async def test_a_forward_is_freed_when_its_caller_leaves() -> None:
    """Its cancellation must not keep it for a garbage collection: memory would grow with calls."""
    gc.collect()
    gc.disable()
    try:
        async with serving() as (worker, port):
            worker.answers.clear()
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            async with asyncio.timeout(30):
                await worker.is_asked.wait()
            writer.close()
            async with asyncio.timeout(30):
                await worker.has_lost.wait()
            worker.answers.set()
        tasks = [each for each in gc.get_objects() if isinstance(each, asyncio.Task)]
    finally:
        gc.enable()

    assert [each for each in tasks if "Forwarder.run" in repr(each)] == []


@pytest.mark.parametrize(
    ("line", "headers", "status"),
    [
        (b"POST /admin/functions/outbox", b"", b"401"),
        (b"POST /admin/functions/outbox", b"x-functions-key: other\r\n", b"401"),
        (b"POST /admin/functions/outbox", b"x-functions-key: key\r\n", b"202"),
        (b"POST /admin/functions/outbox?code=key", b"", b"202"),
        (b"POST /Admin/%66unctions/outbox", b"", b"401"),
        (b"POST /admin/functions/none", b"x-functions-key: key\r\n", b"404"),
        (b"GET /admin/functions", b"", b"401"),
        (b"GET /admin/host/status", b"", b"401"),
        (b"GET /admin/host/keys", b"", b"401"),
        (b"GET /admin/vfs/site", b"", b"401"),
        (b"POST /runtime/webhooks/blobs", b"", b"401"),
        (b"GET /admin/host/ping", b"", b"200"),
    ],
)
async def test_the_hosts_own_addresses_need_its_key(
    line: bytes, headers: bytes, status: bytes
) -> None:
    """They never reach a function; a ping alone is answered without a key."""
    async with serving() as (worker, port):
        answer = await call(port, headers, b"", line=line)

    assert answer.split(b" ")[1] == status
    assert worker.invoked == []


@pytest.mark.parametrize("path", [b"/admin", b"/admin/x", b"/admin/warmup", b"/administrators"])
async def test_other_addresses_are_the_functions(path: bytes) -> None:
    """The host keeps no more for itself than it needs; a wrong key does no harm there."""
    async with serving() as (worker, port):
        answer = await call(port, b"x-functions-key: other\r\n", b"", line=b"GET " + path)

    assert answer.split(b" ")[1] == b"200"
    assert len(worker.invoked) == 1


@pytest.mark.parametrize("program", ["/bin/false", "/bin/echo"])
async def test_a_program_that_is_no_proxy_is_reported(program: str) -> None:
    """With what it printed, and nothing is left running."""
    invocations = HttpInvocations(FakeWorker(), "", timeout_seconds=None)
    proxy = RealProxy(Path(program), "http://127.0.0.1:1", invocations)

    with pytest.raises(ProxyFailed, match=f"^{program} printed: "):
        await proxy.start(0)
