"""How a body comes to the app under the bounded server, over real sockets."""

import asyncio
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from starlette.types import Message, Receive, Scope, Send

from meter.adapters.functions.arriving import ArrivingBody, arriving_in
from meter.adapters.functions.web import gateway_request
from meter.errors import TooLarge
from meter.gateway.http import RequestBody
from tests.support.gateway import request_limits
from tests.support.serving import on_loopback

MIB = 1_048_576
LARGE = bytes(range(256)) * 12_288  # 3 MiB
DECLARED = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n%b\r\n"


@dataclass
class Reader:
    """An app that reads a body, whole or in parts, and answers with its length or the refusal."""

    in_parts: bool = False
    most: int = 4 * MIB
    seconds: float = 5
    messages: list[Message] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    arriving: ArrivingBody | None = None
    held_behind: int = 0
    has_read: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def watched() -> Message:
            self.messages.append(await receive())
            return self.messages[-1]

        limits = request_limits(max_body_bytes=self.most, read_timeout_seconds=self.seconds)
        self.arriving = arriving_in(scope)
        status, answer = 200, b""
        try:
            body = await self._read(gateway_request(scope, watched, limits).body)
        except TooLarge as exc:
            status = exc.status
        else:
            self.bodies.append(body)
            answer = str(len(body)).encode()
        self.has_read.set()
        self.held_behind = len(self.arriving or b"")
        headers = [(b"content-length", str(len(answer)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _read(self, body: RequestBody) -> bytes:
        if not self.in_parts:
            return await body.read()
        parts = []
        while part := await body.next_part():
            parts.append(part)
        return b"".join(parts)


@asynccontextmanager
async def connected(
    app: Reader,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with on_loopback(app) as (server, address):
        reader, writer = await asyncio.open_connection(*address)
        try:
            async with asyncio.timeout(30):
                yield reader, writer
        finally:
            writer.close()
            server.force_exit = True


async def answered(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    length = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
    return int(head.split(b" ")[1]), await reader.readexactly(length)


def declared(body: bytes, more: bytes = b"") -> bytes:
    return DECLARED % (len(body), more) + body


async def test_a_body_of_known_length_wakes_the_app_once() -> None:
    """However many pieces it comes in, its bytes are handed over together and unchanged."""
    app = Reader()
    async with connected(app) as (reader, writer):
        writer.write(declared(LARGE))
        answer = await answered(reader)

    assert answer == (200, b"3145728")
    assert app.bodies == [LARGE]
    assert len(app.messages) == 1


@pytest.mark.parametrize("cut_at", [1, 60, 70_000, 200_000])
async def test_what_came_before_the_app_asked_is_handed_over_with_the_rest(cut_at: int) -> None:
    """Also where it came in pieces, one request after the other on one connection."""
    app = Reader()
    async with connected(app) as (reader, writer):
        for _ in range(2):
            wire = declared(LARGE[:300_000])
            writer.write(wire[:cut_at])
            await asyncio.sleep(0.01)
            writer.write(wire[cut_at:])
            assert await answered(reader) == (200, b"300000")

    assert app.bodies == [LARGE[:300_000]] * 2
    assert len(app.messages) == 2


async def test_requests_behind_each_other_get_their_own_bodies() -> None:
    """A body that comes before the app has taken the last one is not mixed with it."""
    app = Reader()
    async with connected(app) as (reader, writer):
        writer.write(declared(b"a" * 100_000) + declared(b"b" * 200_000) + declared(b"c"))
        for _ in range(3):
            await answered(reader)

    assert app.bodies == [b"a" * 100_000, b"b" * 200_000, b"c"]


@pytest.mark.parametrize("size", [300_000, MIB, MIB + 1, 2 * MIB + 77])
async def test_a_request_behind_a_gathered_body_begins_where_that_ends(size: int) -> None:
    """The parser does not see the rest of a body; it must see all that follows it."""
    app = Reader()
    async with connected(app) as (reader, writer):
        wire = declared(LARGE[:size]) + declared(b"next") + declared(LARGE[1:size])
        writer.write(wire[:100])
        await asyncio.sleep(0.01)
        writer.write(wire[100:])
        for _ in range(3):
            await answered(reader)

    assert app.bodies == [LARGE[:size], b"next", LARGE[1:size]]


async def test_a_body_that_was_given_up_is_read_to_its_end() -> None:
    """The request behind it is served; nothing of the body is taken for one."""
    app = Reader(seconds=0.2)
    async with connected(app) as (reader, writer):
        wire = declared(LARGE)
        writer.write(wire[:2_000_000])
        given_up, _ = await answered(reader)
        writer.write(wire[2_000_000:] + declared(b"next"))
        answer = await answered(reader)

    assert (given_up, answer) == (408, (200, b"4"))
    assert app.bodies == [b"next"]


async def test_a_request_that_would_upgrade_leaves_its_body_to_the_parser() -> None:
    """Its connection speaks HTTP no more, so that there is no body."""
    app = Reader(seconds=0.2)
    async with connected(app) as (reader, writer):
        writer.write(declared(b"body", b"connection: upgrade\r\nupgrade: h2c\r\n"))
        answer = await answered(reader)

    assert answer == (200, b"0")


async def test_an_app_that_takes_parts_is_woken_for_each() -> None:
    """It relays them while more comes; what it has not taken stays within the server's bound."""
    app = Reader(in_parts=True)
    async with connected(app) as (reader, writer):
        writer.write(declared(LARGE))
        answer = await answered(reader)

    assert answer == (200, b"3145728")
    assert app.bodies == [LARGE]
    assert max(len(message["body"]) for message in app.messages) <= 65_536 + 262_144


async def test_a_body_of_unknown_length_is_refused_once_it_is_too_large() -> None:
    """It is looked at as it comes, and not gathered beyond the limit."""
    app = Reader(most=100_000)
    async with connected(app) as (reader, writer):
        head = DECLARED.replace(b"content-length: %d", b"transfer-encoding: chunked") % b""
        writer.write(head + b"%x\r\n" % MIB + bytes(500_000))
        status, _ = await answered(reader)

    assert status == 413


async def test_a_body_that_stops_is_given_up_and_dropped() -> None:
    """After the time for it, nothing of it is kept for nobody."""
    app = Reader(seconds=0.2)
    async with connected(app) as (reader, writer):
        writer.write(declared(LARGE)[:2_000_000])
        status, _ = await answered(reader)

    assert (status, app.held_behind) == (408, 0)


async def test_a_caller_that_leaves_in_its_body_is_noticed() -> None:
    """Half a body is never taken for a whole one."""
    app = Reader()
    async with connected(app) as (_, writer):
        writer.write(declared(LARGE)[:2_000_000])
        await writer.drain()
        writer.close()
        await app.has_read.wait()

    assert (app.bodies, app.messages[-1]["type"]) == ([], "http.disconnect")


async def test_a_caller_that_waits_for_leave_to_send_gets_it() -> None:
    """`expect: 100-continue` is answered when the app asks for the body."""
    app = Reader()
    async with connected(app) as (reader, writer):
        wire = declared(LARGE, b"expect: 100-continue\r\n")
        head, _, body = wire.partition(b"\r\n\r\n")
        writer.write(head + b"\r\n\r\n")
        leave = await reader.readuntil(b"\r\n\r\n")
        writer.write(body)
        answer = await answered(reader)

    assert leave.startswith(b"HTTP/1.1 100 ")
    assert answer == (200, b"3145728")


CHUNKED = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n%b"


@pytest.mark.parametrize(
    ("wire", "is_asked"),
    [
        (declared(b"body"), False),
        (declared(b""), False),
        (declared(bytes(1_000)), False),
        (CHUNKED % b"4\r\nbody\r\n0\r\n\r\n", False),
        (CHUNKED % b"2\r\nbo\r\n2\r\ndy\r\n0\r\na: b\r\n\r\n", False),
        (declared(b"body") + declared(b"other") + declared(bytes(1_001)), False),
        (declared(b"body", b"expect: 100-continue\r\n"), True),
        (declared(b"body", b"expect: 100-Continue\r\nexpect: x\r\n"), True),
        (declared(bytes(1_001)), False),
        (CHUNKED % b"3e9\r\n%b\r\n0\r\n\r\n" % bytes(1_001), True),
    ],
)
async def test_a_body_that_has_come_is_read_as_one_in_parts(wire: bytes, is_asked: bool) -> None:
    """The caller gets the same bytes, leave to send included; the server is asked only where it has to be."""
    got, asked = [], []
    for in_parts in (False, True):
        app = Reader(in_parts=in_parts, most=1_000)
        async with connected(app) as (reader, writer):
            writer.write(wire)
            writer.write_eof()
            got.append((re.sub(rb"date: [^\r]*", b"", await reader.read()), app.bodies))
        asked.append(bool(app.messages))

    assert got[0] == got[1]
    assert asked[0] is is_asked


def test_another_servers_requests_have_no_arriving_body() -> None:
    """They are read as ASGI says."""
    assert arriving_in({"type": "http"}) is None
    assert arriving_in({"type": "http", "extensions": {"tls": {}}}) is None


async def test_a_caller_that_leaves_before_its_answer_is_told_of() -> None:
    """Once its connection has closed, behind a whole body; to whoever asks later, too."""
    told = asyncio.Event()
    begun = asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # ASGI 3
        request = gateway_request(scope, receive, request_limits())
        await request.body.read()
        left = asyncio.ensure_future(request.left())
        await asyncio.sleep(0)
        assert not left.done()
        begun.set()
        await left
        await request.left()
        told.set()

    async with on_loopback(app) as (_, address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(DECLARED % (2, b"") + b"ab")
        async with asyncio.timeout(30):
            await begun.wait()
            writer.close()
            await told.wait()


@pytest.mark.parametrize("framing", [b"transfer-encoding: chunked", b"content-length: 81920"])
async def test_a_caller_that_leaves_is_told_of_behind_a_body_of_several_reads(
    framing: bytes,
) -> None:
    """Also where the server stopped reading for it."""
    told, begun = asyncio.Event(), asyncio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # ASGI 3
        request = gateway_request(scope, receive, request_limits(max_body_bytes=MIB))
        while await request.body.next_part():
            pass
        begun.set()
        await request.left()
        told.set()

    body = bytes(81_920)
    if framing.startswith(b"transfer"):
        body = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with on_loopback(app) as (_, address):
        _, writer = await asyncio.open_connection(*address)
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\n%b\r\n\r\n%b" % (framing, body))
        async with asyncio.timeout(30):
            await begun.wait()
            writer.close()
            await told.wait()
