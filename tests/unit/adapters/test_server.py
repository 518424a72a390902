"""The front door behind the real server: what is on the wire, byte for byte."""

import asyncio
import gc
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from copy import replace
from dataclasses import dataclass
from typing import Any

import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from meter.adapters.functions.web import gateway_request, response_of
from meter.adapters.spool import FileSpool
from meter.adapters.upstream.client import HttpUpstream
from meter.errors import UpstreamBroken
from meter.usage import Outcome
from tests.fakes.gateway import FakeAnswer, json_answer, stream_answer
from tests.support.gateway import (
    BOUNDARY,
    CHAT_BODY,
    CHAT_PATH,
    DONE_FRAME,
    SERVED,
    SPEECH_PATH,
    STREAM_BODY,
    TEXT_FRAME,
    TRANSCRIPTION_PATH,
    USAGE_FRAME,
    V1_RESPONSES_PATH,
    V1_TRANSCRIPTION_PATH,
    Door,
    backend,
    door,
    form,
    request_limits,
    token,
)
from tests.support.serving import on_loopback

MOST = 300_000
FORM = form(("file", bytes(range(256)) * 400), ("model", b"gpt"))
KIND = f"multipart/form-data; boundary={BOUNDARY}"


@dataclass
class Wire:
    """One connection to the server."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    server: uvicorn.Server | None = None

    def unsent(self) -> int:
        """The bytes that the server keeps for callers that have not taken them."""
        assert self.server is not None
        connections: set[Any] = self.server.server_state.connections
        return sum(each.transport.get_write_buffer_size() for each in connections)

    async def send(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        more: str = "",
        length: int | None = None,
    ) -> None:
        if path.startswith("/openai/deployments/"):
            path += "?api-version=2024-10-21"
        if body is not None:
            more += f"content-length: {len(body) if length is None else length}\r\n"
        head = (
            f"{method} {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token()}\r\n{more}\r\n"
        )
        self.writer.write(head.encode() + (body or b""))
        await self.writer.drain()

    async def head(self) -> tuple[int, dict[str, str]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines[1:] if line)
        return int(lines[0].split(" ")[1]), headers

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        status, headers = await self.head()
        return status, headers, await self.reader.readexactly(int(headers["content-length"]))

    async def rest(self) -> bytes:
        async with asyncio.timeout(30):
            return await self.reader.read()


@asynccontextmanager
async def serving(
    made: Door, *, read_seconds: float = 5, write_seconds: float = 5
) -> AsyncIterator[Wire]:
    """A connection to the front door behind uvicorn, as the app runs it."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        limits = request_limits(max_body_bytes=MOST, read_timeout_seconds=read_seconds)
        request = gateway_request(scope, receive, limits)
        response = response_of(
            await made.front_door.handle(request),
            made.front_door.detached,
            write_seconds=write_seconds,
        )
        await response(scope, receive, send)

    try:
        async with on_loopback(app, is_bounded=False) as (server, address):
            reader, writer = await asyncio.open_connection(*address)
            try:
                yield Wire(reader, writer, server)
            finally:
                writer.close()
    finally:
        await made.front_door.detached.finish(5, cut_seconds=0)


async def test_options_has_no_body_and_no_length() -> None:
    """204 (RFC 9110 section 8.6); the next answer on the connection is read where it begins."""
    made = door(json_answer(200, SERVED))
    async with serving(made) as wire:
        await wire.send("OPTIONS", CHAT_PATH)
        status, headers = await wire.head()
        await wire.send("POST", CHAT_PATH, CHAT_BODY)
        after = await wire.answer()

    assert (status, headers["allow"]) == (204, "post, options")
    assert not {"content-length", "transfer-encoding"} & headers.keys()
    assert (after[0], after[2]) == (200, SERVED)


@pytest.mark.parametrize("path", ["/openai/v1/models", f"{V1_RESPONSES_PATH}/resp_1"])
async def test_head_is_get_without_the_body(path: str) -> None:
    """Its length is that of the body that GET would give (RFC 9110 section 9.3.2)."""
    made = door(json_answer(200, SERVED), json_answer(200, SERVED))
    async with serving(made) as wire:
        await wire.send("HEAD", path)
        status, headers = await wire.head()
        await wire.send("GET", path)
        after = await wire.answer()

    assert (status, after[0]) == (200, 200)
    assert headers["content-length"] == str(len(after[2]))


async def test_head_of_a_stream_is_its_head() -> None:
    """The answer is read to its end and counted; none of it is sent."""
    made = door(stream_answer(TEXT_FRAME, DONE_FRAME), json_answer(200, SERVED))
    async with serving(made) as wire:
        await wire.send("HEAD", f"{V1_RESPONSES_PATH}/resp_1?stream=true")
        status, headers = await wire.head()
        await wire.send("POST", CHAT_PATH, CHAT_BODY)
        after = await wire.answer()

    assert (status, headers["content-type"]) == (200, "text/event-stream")
    assert (after[0], after[2]) == (200, SERVED)
    assert len(made.sink.events) == 2


async def test_a_stream_goes_out_in_chunks() -> None:
    """Each frame as it comes, and a clean end."""
    go_on = asyncio.Event()
    made = door(stream_answer(TEXT_FRAME, go_on, USAGE_FRAME, DONE_FRAME))
    async with serving(made) as wire:
        await wire.send("POST", CHAT_PATH, STREAM_BODY, more="connection: close\r\n")
        _, headers = await wire.head()
        first = await wire.reader.readuntil(TEXT_FRAME)
        go_on.set()
        rest = await wire.rest()

    assert headers["transfer-encoding"] == "chunked"
    assert first.endswith(TEXT_FRAME)
    assert rest.endswith(DONE_FRAME + b"\r\n0\r\n\r\n")


async def test_audio_goes_out_with_its_length() -> None:
    """The connection stays usable behind it."""
    audio = FakeAnswer(
        200, (("content-type", "audio/mpeg"), ("content-length", "4")), [b"ab", b"cd"]
    )
    made = door(audio, json_answer(200, SERVED))
    async with serving(made) as wire:
        await wire.send("POST", SPEECH_PATH, CHAT_BODY)
        status, headers, body = await wire.answer()
        await wire.send("POST", CHAT_PATH, CHAT_BODY)
        after = await wire.answer()

    assert (status, headers["content-type"], body) == (200, "audio/mpeg", b"abcd")
    assert "transfer-encoding" not in headers
    assert after[0] == 200


@pytest.mark.parametrize("length", ["4", None], ids=["length", "chunked"])
async def test_audio_that_is_cut_is_short_on_the_wire(length: str | None) -> None:
    """Of its length or of its last chunk: no client takes it for whole."""
    declared = () if length is None else (("content-length", length),)
    audio = FakeAnswer(
        200, (("content-type", "audio/mpeg"), *declared), [b"ab", UpstreamBroken("a")]
    )
    made = door(audio)
    async with serving(made) as wire:
        await wire.send("POST", SPEECH_PATH, CHAT_BODY)
        await wire.head()
        rest = await wire.rest()

    assert rest == (b"a" if length else b"1\r\na\r\n")


async def test_a_form_goes_through_intact() -> None:
    """From the caller's chunks to a backend that reads them, with its own name in them."""
    got: list[bytes] = []

    async def whisper(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0])
        got.append(await reader.readexactly(length))
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        await writer.drain()
        writer.close()

    async with real(whisper, own="whisper-eu") as made, serving(made) as wire:
        await wire.send("POST", V1_TRANSCRIPTION_PATH, FORM, more=f"content-type: {KIND}\r\n")
        status, _, body = await wire.answer()

    assert (status, body) == (200, b"{}")
    assert got == [FORM.replace(b"\r\n\r\ngpt\r\n", b"\r\n\r\nwhisper-eu\r\n")]
    assert made.is_idle


@asynccontextmanager
async def real(
    serve: "asyncio.streams._ClientConnectedCallback", *, own: str = "gpt"
) -> AsyncIterator[Door]:
    """A front door with the real HTTP client, before one backend."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    upstream = HttpUpstream(connect_timeout_seconds=1, idle_timeout_seconds=5)
    made = door()
    made.backends = [replace(backend(own=own), url=f"http://127.0.0.1:{port}")]
    made = replace(made)
    made.front_door.instance.forwarder.upstream = upstream
    made.front_door.admission.new_spool = FileSpool
    try:
        yield made
    finally:
        await upstream.close()
        server.close()


class Listening:
    """A backend that takes all it is sent until the connection ends."""

    def __init__(self) -> None:
        self.got = bytearray()
        self.is_spoken_to = asyncio.Event()
        self.is_over = asyncio.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while part := await reader.read(65_536):
            self.got.extend(part)
            self.is_spoken_to.set()
        writer.close()
        self.is_over.set()


@pytest.mark.parametrize("path", [TRANSCRIPTION_PATH, V1_TRANSCRIPTION_PATH])
async def test_a_caller_that_stops_sending_gets_a_408(path: str) -> None:
    """The backend's connection is broken off without an end, and the backend is not benched."""
    listening = Listening()
    opening = form(("model", b"gpt"), ("file", b"|")).split(b"|")[0]
    async with real(listening) as made, serving(made, read_seconds=0.05) as wire:
        await wire.send("POST", path, opening, length=10_000, more=f"content-type: {KIND}\r\n")
        status, _, body = await wire.answer()
        await listening.is_over.wait()

    assert (status, json.loads(body)["error"]["code"]) == (408, "RequestTimeout")
    assert opening in listening.got
    assert made.may_call("a")
    assert (made.sink.events[0].status, made.is_idle) == (408, True)


async def test_a_caller_that_leaves_while_it_sends_is_counted() -> None:
    """Its backend was asked; nothing is left behind and nobody is benched."""
    listening = Listening()
    opening = form(("model", b"gpt"), ("file", b"|")).split(b"|")[0]
    async with real(listening) as made, serving(made) as wire:
        await wire.send(
            "POST", TRANSCRIPTION_PATH, opening, length=10_000, more=f"content-type: {KIND}\r\n"
        )
        await listening.is_spoken_to.wait()
        wire.writer.transport.abort()
        await listening.is_over.wait()
        await made.sink.has_events.wait()

    assert (made.sink.events[0].outcome, made.sink.events[0].status) == (Outcome.FAILED, 400)
    assert made.may_call("a")
    assert made.is_idle


async def test_a_form_over_the_limit_is_broken_off_on_both_sides() -> None:
    """413 while it streams, when its length was not told."""
    listening = Listening()
    async with real(listening) as made, serving(made) as wire:
        await wire.send(
            "POST",
            TRANSCRIPTION_PATH,
            more=f"content-type: {KIND}\r\ntransfer-encoding: chunked\r\n",
        )
        wire.writer.write(b"%x\r\n%b\r\n" % (2 * MOST, bytes(2 * MOST)))
        status, _ = await wire.head()
        await listening.is_over.wait()

    assert status == 413
    assert not listening.got.endswith(b"0\r\n\r\n")
    assert made.is_idle


async def test_a_form_that_says_it_is_too_long_costs_no_backend_a_connection() -> None:
    """413 by its length alone."""
    listening = Listening()
    async with real(listening) as made, serving(made) as wire:
        await wire.send(
            "POST", TRANSCRIPTION_PATH, b"", length=MOST + 1, more=f"content-type: {KIND}\r\n"
        )
        status, _ = await wire.head()

    assert (status, bytes(listening.got), made.sink.events) == (413, b"", [])


async def test_a_caller_that_leaves_before_its_stream_begins_is_counted() -> None:
    """Behind the comments the call runs on to its usage."""
    made = door(
        stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME),
        first_keepalive_seconds=0.001,
        keepalive_seconds=0.002,
    )
    made.upstream.gate = asyncio.Event()
    async with serving(made) as wire:
        await wire.send("POST", CHAT_PATH, STREAM_BODY)
        await wire.reader.readuntil(b": keep-alive")
        wire.writer.transport.abort()
        await asyncio.sleep(0.02)
        made.upstream.gate.set()
        await made.sink.has_events.wait()

    event = made.sink.events[0]
    assert (event.outcome, event.usage.total_tokens) == (Outcome.DISCONNECTED, 7)
    assert made.is_idle


async def test_callers_that_do_not_read_hold_their_slots_and_little_memory() -> None:
    """Whole answers of 12 MB, more than sockets take: the server keeps a part of each, for a while."""
    count, body = 6, b'{"choices":[],"x":"' + b"x" * 12_000_000 + b'"}'
    made = door(*[json_answer(200, body)] * count)
    slots = made.front_door.admission.slots
    async with serving(made, write_seconds=0.5) as wire:
        address = wire.writer.get_extra_info("peername")
        others = [await asyncio.open_connection(*address) for _ in range(count)]
        for reader, writer in others:
            writer.transport.pause_reading()  # type: ignore[attr-defined]  # a socket's
            await Wire(reader, writer).send("POST", CHAT_PATH, CHAT_BODY)
        async with asyncio.timeout(30):
            while len(made.sink.events) < count:  # noqa: ASYNC110  # the server's own progress
                await asyncio.sleep(0.01)
        used, waiting = slots.used, wire.unsent()
        async with asyncio.timeout(30):
            while slots.used:  # noqa: ASYNC110  # the server's own progress
                await asyncio.sleep(0.01)
        for _, writer in others:
            writer.transport.abort()

    assert used == count
    assert waiting < count * 300_000


@pytest.mark.parametrize("leaving", ["fin", "reset", "half"])
@pytest.mark.parametrize("path", [CHAT_PATH, TRANSCRIPTION_PATH])
async def test_a_repeat_joins_the_call_whose_caller_hung_up(leaving: str, path: str) -> None:
    """However the connection ends, behind a body of JSON or a form; nothing is left of the call then."""
    body, more = (CHAT_BODY, "") if path == CHAT_PATH else (FORM, f"content-type: {KIND}\r\n")
    ready = asyncio.Event()
    slow = FakeAnswer(200, (("content-type", "application/json"),), [ready, SERVED])
    made = door(slow)
    joins = made.front_door.joins
    async with serving(made) as wire:
        await wire.send("POST", path, body, more=more)
        address = wire.writer.get_extra_info("peername")
        await slow.is_waiting.wait()
        match leaving:
            case "fin":
                wire.writer.close()
            case "reset":
                wire.writer.transport.abort()
            case "half":
                wire.writer.write_eof()
        (group,) = joins._groups.values()
        await until(lambda: group.left_at > 0)
        repeat = Wire(*await asyncio.open_connection(*address))
        await repeat.send("POST", path, body, more=more)
        await until(lambda: joins.joined.used == 1)
        ready.set()
        status, headers, got = await repeat.answer()
        await until(lambda: made.is_idle)
        repeat.writer.close()

    (event,) = made.sink.events
    assert (status, got, headers["x-meter-joined"]) == (200, SERVED, str(event.id))
    assert len(made.upstream.requests) == 1
    assert joins.is_empty
    assert joins.joined.used == 0


async def test_an_answer_that_was_sent_is_not_kept() -> None:
    """Also not for one that keeps its connection open, or asks again on it."""
    made = door(json_answer(200, SERVED), json_answer(200, SERVED))
    async with serving(made) as wire:
        for _ in range(2):
            await wire.send("POST", CHAT_PATH, CHAT_BODY, more="x-stainless-retry-count: 1\r\n")
            assert (await wire.answer())[0] == 200
            assert made.front_door.joins.is_empty

    assert len(made.sink.events) == 2


async def test_an_answer_that_was_ready_for_a_caller_that_had_left_is_kept() -> None:
    """The server takes its bytes without a word."""
    made = door(json_answer(200, SERVED))
    made.upstream.gate = asyncio.Event()
    async with serving(made) as wire:
        address = wire.writer.get_extra_info("peername")
        await wire.send("POST", CHAT_PATH, CHAT_BODY)
        await until(lambda: bool(made.upstream.requests))
        wire.writer.transport.abort()
        (group,) = made.front_door.joins._groups.values()
        await until(lambda: group.left_at > 0)
        made.upstream.gate.set()
        await until(lambda: made.front_door.joins.kept.quota.used > 0)
        repeat = Wire(*await asyncio.open_connection(*address))
        await repeat.send("POST", CHAT_PATH, CHAT_BODY)
        status, headers, got = await repeat.answer()
        repeat.writer.close()

    assert (status, got, len(made.sink.events)) == (200, SERVED, 1)
    assert headers["x-meter-joined"] == str(made.sink.events[0].id)
    assert made.front_door.joins.is_empty


async def test_a_call_leaves_no_garbage_that_refers_to_itself() -> None:
    """Only a collection would free it, and with it what the call had in hand."""
    made = door(*(json_answer(200, SERVED) for _ in range(25)))
    async with serving(made) as wire:

        async def calls(count: int) -> None:
            for _ in range(count):
                await wire.send("POST", CHAT_PATH, CHAT_BODY)
                await wire.answer()

        await calls(5)
        gc.collect()
        gc.disable()
        try:
            await calls(20)
            unreachable = gc.collect()
        finally:
            gc.enable()

    assert unreachable < 20


async def until(condition: Callable[[], bool]) -> None:
    """Wait for the server's own progress."""
    async with asyncio.timeout(30):
        while not condition():  # noqa: ASYNC110  # the server's own progress
            await asyncio.sleep(0.005)
