"""Backends that follow a script byte by byte, and what an upstream client makes of them."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import Enum
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import NameOID

from meter.errors import UpstreamError
from meter.ports import Headers, Upstream, UpstreamRequest
from tests.support.gateway import rsa_key

BODY = b'{"a":1}'


class End(Enum):
    """How a backend goes on after its last byte."""

    KEEP = "keeps the connection"
    CLOSE = "closes it"
    SHUT = "closes its own direction"
    RESET = "resets it"


@dataclass(frozen=True, slots=True)
class Script:
    """What a backend sends upon each request, in parts, and its end."""

    parts: Sequence[bytes]
    end: End = End.CLOSE


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a request. `error` is the class of the UpstreamError, if there was one."""

    status: int = 0
    headers: Headers = ()
    body: bytes = b""
    error: str | None = None


@dataclass(slots=True)
class Backend:
    """A server on plain streams, which counts its connections and requests."""

    script: Script
    url: str = ""
    connections: int = 0
    requests: list[bytes] = field(default_factory=list)
    writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        with suppress(ConnectionError, asyncio.IncompleteReadError, TimeoutError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r")[0] or b"0")
        self.requests.append(head + await reader.readexactly(length))
        for part in self.script.parts:
            writer.write(part)
            await writer.drain()
            await asyncio.sleep(0)
        match self.script.end:
            case End.KEEP:
                return True
            case End.SHUT:
                writer.write_eof()
                await reader.read()
            case End.RESET:
                reset(writer)
            case End.CLOSE:
                pass
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """End a connection without a FIN."""
    raw: socket.socket = writer.transport.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def playing(script: Script) -> AsyncIterator[Backend]:
    """A backend that follows a script."""
    backend = Backend(script)
    async with serving(backend.serve) as url:
        backend.url = url
        yield backend
        for writer in backend.writers:
            writer.transport.abort()


@asynccontextmanager
async def serving(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[str]:
    """The address of a server on loopback."""
    server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**20)
    try:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()


def post(url: str, *, method: str = "POST", body: bytes = BODY) -> UpstreamRequest:
    """A request as calls make them."""
    headers = (("content-type", "application/json"), ("api-key", "k"))
    return UpstreamRequest(backend="a", method=method, url=url, headers=headers, body=body)


async def outcome(upstream: Upstream, request: UpstreamRequest, *, seconds: float = 5.0) -> Outcome:
    """Send a request and read its answer to the end, whatever that is."""
    try:
        answer = await upstream.send(request, first_byte_timeout_seconds=seconds)
    except UpstreamError as exc:
        return Outcome(error=type(exc).__name__)
    body, error = b"", None
    try:
        async for chunk in answer.chunks():
            body += chunk
    except UpstreamError as exc:
        error = type(exc).__name__
    await answer.close()
    return Outcome(answer.status, answer.headers, body, error)


def tls(folder: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """A server's context and one of a client that trusts it."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    begin, key = datetime.now(UTC) - timedelta(days=1), rsa_key()
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begin)
        .not_valid_after(begin + timedelta(days=2))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = certificate.public_bytes(serialization.Encoding.PEM)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "both.pem").write_bytes(private + pem)
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.load_cert_chain(folder / "both.pem")
    return server, ssl.create_default_context(cadata=pem.decode())
