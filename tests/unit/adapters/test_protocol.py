"""What a caller can send before its request is known, over real sockets, under plain uvicorn."""

import asyncio
import gc
import json
import socket
import sys
import tracemalloc
import weakref
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from copy import replace
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from meter.adapters.functions.protocol import (
    BoundedHttp,
    ConnectionLimits,
    bound_server,
    connection_limits,
)
from tests.support.gateway import request_limits

LIMITS = ConnectionLimits(
    max_headers=20, max_header_bytes=4_096, seconds=0.4, rest_seconds=0.4, max_rests=2
)
GET = b"GET / HTTP/1.1\r\nhost: x\r\n"
POST = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"


class Served:
    """An app that reads each body and remembers each request."""

    def __init__(self, answer: bytes = b"ok") -> None:
        self.scopes: list[Scope] = []
        self.bodies: list[bytes] = []
        self.answer = answer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            bound_server(receive, LIMITS)
            await send({"type": "lifespan.startup.complete"})
            await receive()
            return
        self.scopes.append(scope)
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        self.bodies.append(body)
        length = str(len(self.answer)).encode()
        headers = [(b"content-length", length)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": self.answer})


@asynccontextmanager
async def serving(app: Served, http: Any = "auto") -> AsyncIterator[tuple[Any, uvicorn.Server]]:
    """A server as `uvicorn module:app` starts it; gives what opens a connection."""
    # No log settings: they stay set after the server's end, for every later test.
    config = uvicorn.Config(app, http=http, access_log=False, log_config=None)
    config.load()
    server = uvicorn.Server(config)
    server.lifespan = config.lifespan_class(config)
    await server.lifespan.startup()
    listening = socket.create_server(("127.0.0.1", 0))
    await server.startup(sockets=[listening])
    writers: list[asyncio.StreamWriter] = []

    async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection(*listening.getsockname())
        writers.append(writer)
        return reader, writer

    try:
        yield connect, server
    finally:
        for writer in writers:
            writer.close()
        server.force_exit = True
        await server.shutdown(sockets=[listening])


async def answered(app: Served, *pieces: bytes) -> bytes:
    """All that a connection gives for these bytes, until the server closes it."""
    async with serving(app) as (connect, _):
        reader, writer = await connect()
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            return bytes(await reader.read())


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


@pytest.mark.parametrize(
    ("pieces", "status"),
    [
        ([GET, *[b"a: b\r\n"] * 30], 431),
        ([GET, b"a: " + b"x" * 100_000], 431),
        ([GET, b"x" * 100_000], 431),
        ([b"GET /" + b"a" * 20_000], 414),
        ([b"GET /?" + b"a" * 20_000 + b" HTTP/1.1\r\n"], 414),
        ([b"GET / HTTP/1.1\r\n\r\n"], 400),
        ([GET, b"host: y\r\n\r\n"], 400),
        ([b"nonsense\r\n\r\n"], 400),
        ([b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n"], 400),
        ([b"GET http://x:99999/ HTTP/1.1\r\nhost: x\r\n\r\n"], 400),
        ([b"CONNECT x:80 HTTP/1.1\r\nhost: x\r\n\r\n"], 400),
        ([POST, b"z\r\n"], 400),
        ([POST, b"0\r\n", b"a: " + b"x" * 100_000], 431),
        ([POST, b"0\r\n", *[b"a: b\r\n"] * 30], 431),
        ([POST, b"1;" + b"x" * 100_000], 431),
        ([GET, b"a: b\r\n"], 408),
    ],
    ids=[
        "many headers",
        "long value",
        "long name",
        "long path",
        "long query",
        "no host",
        "two hosts",
        "no HTTP",
        "no host in the address",
        "no port",
        "no path",
        "no chunk",
        "long trailer",
        "many trailers",
        "long chunk extension",
        "slow head",
    ],
)
async def test_a_head_beyond_the_bounds_is_refused_and_ends_the_connection(
    pieces: list[bytes], status: int
) -> None:
    """In the shape that SDKs read, with an id, before the app sees more of it."""
    app = Served()

    answer = await answered(app, *pieces)

    head, _, body = answer.partition(b"\r\n\r\n")
    assert (status_of(answer), app.bodies) == (status, [])
    assert b"x-meter-event-id: " in head
    assert b"x-meter-error: " in head
    assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}


async def test_a_connection_that_sends_nothing_is_closed() -> None:
    """Without an answer: there was no request."""
    assert await answered(Served()) == b""


async def test_sixty_megabytes_of_headers_cost_about_nothing() -> None:
    """Not while they arrive, either: reading stops at the first chunk beyond the bounds."""
    app, line = Served(), b"x" * 1_000
    async with serving(app) as (connect, _):
        reader, writer = await connect()
        gc.collect()
        tracemalloc.start()
        writer.write(GET)
        try:
            for number in range(60_000):
                writer.write(b"h%d: %b\r\n" % (number, line))
                await writer.drain()
            await reader.read()
        except OSError:
            pass  # the connection is closed while it is still sent to
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 2_000_000
    assert app.scopes == []


async def test_a_head_within_the_bounds_is_served_however_it_is_cut() -> None:
    """A byte at a time, several requests on one connection, with a body and trailers."""
    app = Served()
    whole = POST + b"2\r\nhi\r\n0\r\ntrailer: x\r\n\r\n"
    request = GET + b"a: b\r\n" * 18 + b"\r\n"
    async with serving(app) as (connect, _):
        reader, writer = await connect()
        for byte in whole:
            writer.write(bytes([byte]))
            await writer.drain()
        first = await reader.readuntil(b"ok")
        writer.write(request)
        second = await reader.readuntil(b"ok")

    assert (status_of(first), status_of(second)) == (200, 200)
    assert app.bodies == [b"hi", b""]
    assert [name for name, _ in app.scopes[0]["headers"]] == [b"host", b"transfer-encoding"]
    assert len(app.scopes[1]["headers"]) == 19


async def test_a_large_body_in_small_chunks_is_no_head() -> None:
    """The bound is on bytes without a body, however many chunks there are."""
    app = Served()
    async with serving(app) as (connect, _):
        reader, writer = await connect()
        writer.write(POST + b"1\r\nx\r\n" * 20_000 + b"0\r\n\r\n")
        answer = await reader.readuntil(b"ok")

    assert (status_of(answer), app.bodies) == (200, [b"x" * 20_000])


async def test_an_answer_that_nobody_reads_does_not_keep_a_closed_connection() -> None:
    """Closing waits for the buffer to be sent; here only for so long."""
    app = Served(b"x" * 30_000_000)
    async with serving(app) as (connect, server):
        _, writer = await connect()
        writer.transport.pause_reading()
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(30):
            while not app.bodies or server.server_state.connections:  # noqa: ASYNC110  # uvicorn's
                await asyncio.sleep(0.01)

    assert app.bodies == [b""]


def rests_of(server: uvicorn.Server) -> set[BoundedHttp]:
    """The connections on which the rest of a body is dropped."""
    protocol = server.config.http_protocol_class
    assert issubclass(protocol, BoundedHttp)
    return protocol.rests


class Refusing(Served):
    """An app that refuses each request before it has read any of the body."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await super().__call__(scope, receive, send)
            return
        self.scopes.append(scope)
        headers = [(b"content-length", b"2")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": b"no"})


async def test_a_body_that_goes_on_behind_its_answer_is_dropped_for_so_long() -> None:
    """Then the connection is closed, however steadily it is sent."""
    async with serving(Refusing()) as (connect, server):
        reader, writer = await connect()
        writer.write(POST)
        answer = await reader.readuntil(b"no")
        async with asyncio.timeout(30):
            while server.server_state.connections:
                writer.write(b"1\r\nx\r\n")
                await asyncio.sleep(0.02)

    assert status_of(answer) == 401
    assert not rests_of(server)


@pytest.mark.parametrize("ending", [b"", b"connection: close\r\n"])
@pytest.mark.parametrize("length", [1, 70_000, 5_000_000])
async def test_a_refused_upload_is_read_to_its_end(length: int, ending: bytes) -> None:
    """The answer is there although all of the body is sent first; the connection ends as it was asked to."""
    head = b"POST / HTTP/1.1\r\nhost: x\r\n%bcontent-length: %d\r\n\r\n" % (ending, length)
    async with serving(Refusing()) as (connect, server):
        reader, writer = await connect()
        writer.write(head)
        for start in range(0, length, 50_000):
            writer.write(b"x" * min(50_000, length - start))
            await writer.drain()
        first = await reader.readuntil(b"no")
        if ending:
            rest = await reader.read()
        else:
            writer.write(GET + b"\r\n")
            rest = await reader.readuntil(b"no")
        assert not rests_of(server)

    assert status_of(first) == 401
    assert rest == b"" if ending else status_of(rest) == 401


async def test_only_so_many_refused_uploads_go_on_at_once() -> None:
    """Further connections are closed; a place is free again when an upload has ended."""
    async with serving(Refusing()) as (connect, _):
        connections = [await connect() for _ in range(3)]
        for reader, writer in connections:
            writer.write(POST)
            await reader.readuntil(b"no")
        assert await connections[2][0].read() == b""

        connections[0][1].write(b"0\r\n\r\n")
        connections[0][1].write(GET + b"\r\n")
        assert status_of(await connections[0][0].readuntil(b"no")) == 401
        reader, writer = await connect()
        writer.write(POST)
        await reader.readuntil(b"no")
        writer.write(b"0\r\n\r\n" + GET + b"\r\n")
        assert status_of(await reader.readuntil(b"no")) == 401


async def test_a_refused_upload_is_read_up_to_the_hosts_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The host passes no more, so what comes beyond it is no caller's of its."""
    monkeypatch.setattr("meter.adapters.functions.protocol.MAX_DROPPED_BYTES", 100_000)
    monkeypatch.setattr(sys.modules[__name__], "LIMITS", replace(LIMITS, rest_seconds=3_600))
    async with serving(Refusing()) as (connect, server):
        reader, writer = await connect()
        writer.write(POST)
        await reader.readuntil(b"no")
        writer.write(b"1000000\r\n" + b"x" * 200_000)
        async with asyncio.timeout(30):
            while server.server_state.connections:  # noqa: ASYNC110  # uvicorn's
                await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "wrong", [b"zz\r\n", b"0\r\na: " + b"x" * 100_000], ids=["chunk", "trailer"]
)
async def test_what_is_wrong_in_a_dropped_body_gets_no_second_answer(wrong: bytes) -> None:
    """It would be taken for the answer to the next request: the connection is closed."""
    async with serving(Refusing()) as (connect, server):
        reader, writer = await connect()
        writer.write(POST)
        await reader.readuntil(b"no")
        writer.write(wrong)

        with suppress(ConnectionResetError):  # it has been answered
            assert await reader.read() == b""
        assert not rests_of(server)


async def test_a_connection_is_kept_no_longer_after_a_dropped_body() -> None:
    """uvicorn's own time for idle connections applies from the body's end."""
    async with serving(Refusing()) as (connect, server):
        server.config.timeout_keep_alive = 1
        reader, writer = await connect()
        writer.write(POST)
        await reader.readuntil(b"no")
        writer.write(b"0\r\n\r\n")

        assert await reader.read() == b""


async def test_a_connection_is_kept_for_a_time_behind_each_answer() -> None:
    """uvicorn's own: it ends then, and not before."""
    async with serving(Served()) as (connect, server):
        server.config.timeout_keep_alive = 1
        reader, writer = await connect()
        loop = asyncio.get_running_loop()
        for _ in range(3):
            writer.write(GET + b"\r\n")
            await reader.readuntil(b"ok")
            answered_at = loop.time()
            await asyncio.sleep(0.5)

        assert await reader.read() == b""
        assert 0.9 < loop.time() - answered_at < 5


async def test_a_connection_that_has_ended_is_no_garbage() -> None:
    """It goes at once: garbage is looked for rarely."""
    async with serving(Served()) as (connect, server):
        reader, writer = await connect()
        writer.write(GET + b"\r\n")
        await reader.readuntil(b"ok")
        gone = asyncio.Event()
        [connection] = server.server_state.connections
        weakref.finalize(connection, gone.set)
        del connection
        gc.collect()
        gc.disable()
        try:
            writer.close()
            async with asyncio.timeout(5):
                await gone.wait()
        finally:
            gc.enable()


class Reading(Served):
    """An app that answers the first request at once, and then each body slowly: when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.go_on = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["method"] == "POST":
            await self.go_on.wait()
        await super().__call__(scope, receive, send)


@pytest.mark.parametrize("cut_at", [5, len(POST), len(POST) + 3])
async def test_a_request_behind_another_is_no_refused_upload(cut_at: int) -> None:
    """Its head or body is still coming when the first is answered, and takes its own time."""
    app, upload = Reading(), POST + b"1\r\nx\r\n0\r\n\r\n"
    async with serving(app) as (connect, server):
        reader, writer = await connect()
        writer.write(GET + b"\r\n" + upload[:cut_at])
        await reader.readuntil(b"ok")
        assert not rests_of(server)
        if cut_at >= len(POST):
            await asyncio.sleep(2 * LIMITS.rest_seconds)
        app.go_on.set()
        writer.write(upload[cut_at:])

        assert status_of(await reader.readuntil(b"ok")) == 200
    assert app.bodies == [b"", b"x"]


async def test_a_request_behind_a_dropped_body_is_not_timed_as_idle() -> None:
    """Although it comes in the same bytes as that body's end."""

    class Late(Refusing):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http" and scope["method"] == "GET":
                await asyncio.sleep(1.2)
            await super().__call__(scope, receive, send)

    async with serving(Late()) as (connect, server):
        server.config.timeout_keep_alive = 1
        reader, writer = await connect()
        writer.write(POST)
        await reader.readuntil(b"no")
        writer.write(b"0\r\n\r\n" + GET + b"\r\n")

        assert status_of(await reader.readuntil(b"no")) == 401


async def test_a_websocket_handshake_reaches_the_app_as_a_request() -> None:
    """Which answers 426; nothing after it is parsed, so the connection ends."""
    app = Served()
    handshake = b"connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-key: x\r\n\r\n"

    answer = await answered(app, GET + handshake)

    assert status_of(answer) == 200
    assert b"connection: close" in answer
    assert app.scopes[0]["type"] == "http"


@pytest.mark.parametrize(
    "second",
    [
        b"nonsense\r\n\r\n",
        b"GET http:// HTTP/1.1\r\nhost: x\r\n\r\n",
        POST + b"z\r\n",
    ],
    ids=["no HTTP", "no address", "no chunk"],
)
async def test_a_request_behind_another_does_not_break_into_its_answer(second: bytes) -> None:
    """The connection ends; what is wrong with the second is not said in the first one's place."""
    go_on = asyncio.Event()

    class Slow(Served):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "http":
                await go_on.wait()
            await super().__call__(scope, receive, send)

    app = Slow()
    async with serving(app) as (connect, _):
        reader, writer = await connect()
        writer.write(GET + b"\r\n" + second)
        async with asyncio.timeout(30):
            answer = await reader.read()
        go_on.set()

    assert answer == b""


@pytest.mark.parametrize("pieces", [[POST + b"z\r\n"], [POST, b"z\r\n"]], ids=["at once", "later"])
async def test_an_app_whose_request_was_refused_says_nothing_more(
    pieces: list[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    """The server has answered a body that is no body: to the app its caller is gone."""
    is_answered, is_over = asyncio.Event(), asyncio.Event()
    told: list[str] = []

    class Answering(Served):
        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http":
                await super().__call__(scope, receive, send)
                return
            await is_answered.wait()
            try:
                await send({"type": "http.response.start", "status": 401, "headers": []})
                await send({"type": "http.response.body", "body": b"no"})
                told.append((await receive())["type"])
            finally:
                is_over.set()

    async with serving(Answering()) as (connect, _):
        reader, writer = await connect()
        for piece in pieces:
            writer.write(piece)
            await asyncio.sleep(0)
        async with asyncio.timeout(30):
            answer = await reader.read()
            is_answered.set()
            await is_over.wait()

    assert status_of(answer) == 400
    assert answer.count(b"HTTP/1.1") == 1
    assert told == ["http.disconnect"]
    assert "Exception in ASGI application" not in caplog.text


async def test_an_absolute_address_is_not_one_of_ours() -> None:
    """The app sees it whole, and finds nothing there."""
    app = Served()
    async with serving(app) as (connect, _):
        reader, writer = await connect()
        writer.write(b"GET http://x/openai/v1/models HTTP/1.1\r\nhost: x\r\n\r\n")
        await reader.readuntil(b"ok")

    assert app.scopes[0]["raw_path"] == b"http://x/openai/v1/models"


@pytest.mark.parametrize(("http", "is_bounded"), [("httptools", True), ("h11", True)])
async def test_a_running_uvicorn_is_bounded_however_it_was_started(
    http: str, is_bounded: bool
) -> None:
    """`uvicorn meter.bootstrap:asgi_app` needs no option for it."""
    async with serving(Served(), http) as (_, server):
        assert issubclass(server.config.http_protocol_class, BoundedHttp) is is_bounded


async def test_another_server_is_left_alone() -> None:
    """Whatever calls the app's lifespan."""

    async def receive() -> dict[str, object]:
        return {}

    bound_server(receive, LIMITS)


def test_the_bounds_let_through_what_the_app_accepts() -> None:
    """Its own limits decide within them; without settings they are the widest."""
    own = connection_limits(request_limits(max_headers=200, max_header_bytes=65_536))

    assert own.max_headers == 200
    assert own.max_bytes > 65_536 + 200 * len(": \r\n")
    assert connection_limits(None) == ConnectionLimits()
