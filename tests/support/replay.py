"""Sends recorded requests byte for byte over raw sockets, and records what arrives at a backend.

An HTTP library would reorder headers, add some, and frame bodies in its own way.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "data" / "client-requests"
BOUNDARY = "----replayed-boundary-7"
SECONDS = 10.0

type Pairs = list[tuple[str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """A client's request as it was recorded."""

    client: str
    operation: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    framing: str
    chunks: tuple[int, ...]
    body: bytes

    def __str__(self) -> str:
        return f"{self.client} {self.operation}: {self.method} {self.target}"

    @property
    def is_upgrade(self) -> bool:
        """Whether it asks for a WebSocket."""
        return any(name.lower() == "upgrade" for name, _ in self.headers)

    @property
    def has_credential(self) -> bool:
        """Whether it carries a token or a key."""
        return any("<token>" in value or "<key>" in value for _, value in self.headers)

    def sent_headers(self, token: str) -> Pairs:
        """Its headers with a fresh token, and the true length of the body."""
        return [(name, self._value(name, value, token)) for name, value in self.headers]

    def on_the_wire(self, token: str) -> bytes:
        """All of its bytes."""
        lines = [f"{self.method} {self.target} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in self.sent_headers(token)]
        head = "\r\n".join([*lines, "", ""]).encode("latin-1")
        return head + (self._chunked() if self.framing == "chunked" else self.body)

    def _value(self, name: str, value: str, token: str) -> str:
        if name.lower() == "content-length":
            return str(len(self.body))
        for placeholder, real in (
            ("<token>", token),
            ("<key>", token),
            ("<host>", "gateway.example"),
            ("<resource>", "gateway.example"),
            ("<boundary>", BOUNDARY),
        ):
            value = value.replace(placeholder, real)
        return value

    def _chunked(self) -> bytes:
        sizes, at, parts = list(self.chunks), 0, []
        while at < len(self.body):
            part = self.body[at : at + (sizes.pop(0) if sizes else len(self.body))]
            at += len(part)
            parts.append(b"%x\r\n%b\r\n" % (len(part), part))
        return b"".join([*parts, b"0\r\n\r\n"])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What is made of a request: `served`, `models` or a status; and what that shows by."""

    kind: str
    shows: str


@dataclass(frozen=True, slots=True)
class Arrived:
    """A request as a backend received it."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer as a caller received it."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def error(self) -> Mapping[str, Any]:
        """The error in its body."""
        found: Mapping[str, Any] = json.loads(self.body)["error"]
        return found


@cache
def recorded_requests() -> tuple[Recorded, ...]:
    """All of them."""
    lines = (FOLDER / "requests.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(map(_recorded, lines))


@cache
def outcomes() -> Mapping[tuple[str, str], Outcome]:
    """What is made of each request line."""
    rows = [line.split("\t") for line in (FOLDER / "outcomes.tsv").read_text().splitlines()[1:]]
    return {(method, target): Outcome(kind, shows) for method, target, kind, shows in rows}


def _recorded(line: str) -> Recorded:
    entry = json.loads(line)
    method, target, _ = entry["request_line"].split(" ")
    packed = entry.get("body_base64")
    body = base64.b64decode(packed) if packed else entry.get("body_text", "").encode()
    return Recorded(
        client=f"{entry['client']} {entry['version']}",
        operation=entry["operation"],
        method=method,
        target=target,
        headers=tuple((name, value) for name, value in entry["headers"]),
        framing=entry["framing"],
        chunks=tuple(entry.get("chunks", ())),
        body=body.replace(b"<boundary>", BOUNDARY.encode()),
    )


async def send(address: tuple[str, int], data: bytes, *, method: str = "POST") -> Answered:
    """The answer to bytes on a connection of their own. Raises TimeoutError."""
    async with asyncio.timeout(SECONDS):
        reader, writer = await asyncio.open_connection(*address)
        try:
            writer.write(data)
            await writer.drain()
            return await _answer(reader, has_body=method != "HEAD")
        finally:
            writer.close()


async def _answer(reader: asyncio.StreamReader, *, has_body: bool) -> Answered:
    first, headers = await _head(reader)
    body = await _body(reader, headers) if has_body else b""
    return Answered(int(first.split(" ")[1]), headers, body)


@dataclass
class RecordingBackend:
    """A backend that keeps every request and answers each with the same JSON."""

    answer: bytes = (
        b'{"id":"resp_1","object":"response","usage":{"input_tokens":1,"output_tokens":1}}'
    )
    arrived: list[Arrived] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        try:
            while True:
                first, headers = await _head(reader)
                method, target, _ = first.split(" ")
                body = await _body(reader, headers)
                self.arrived.append(Arrived(method, target, headers, body))
                head = f"content-type: application/json\r\ncontent-length: {len(self.answer)}\r\n"
                writer.write(f"HTTP/1.1 200 OK\r\n{head}\r\n".encode() + self.answer)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def recording_backend() -> AsyncIterator[RecordingBackend]:
    """A backend that is served on loopback."""
    made = RecordingBackend()
    server = await asyncio.start_server(made.serve, "127.0.0.1", 0)
    made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


async def _head(reader: asyncio.StreamReader) -> tuple[str, Mapping[str, str]]:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    first, *lines = head.rstrip("\r\n").split("\r\n")
    pairs = (line.split(": ", 1) for line in lines)
    return first, {name.lower(): value for name, value in pairs}


async def _body(reader: asyncio.StreamReader, headers: Mapping[str, str]) -> bytes:
    if headers.get("transfer-encoding") == "chunked":
        parts = []
        while size := int(await reader.readline(), 16):
            parts.append(await reader.readexactly(size))
            await reader.readexactly(2)
        await reader.readexactly(2)
        return b"".join(parts)
    return await reader.readexactly(int(headers.get("content-length", "0")))
