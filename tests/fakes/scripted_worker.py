"""A worker under a test's control: its HTTP port speaks raw bytes, its invocations end as told."""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from local.functions.messages import TypedData
from local.functions.worker import Function, Invoked

FUNCTION = Function(
    id="1",
    name="front_door",
    trigger={
        "route": "{*path}",
        "methods": ["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"],
    },
    retry=None,
)
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"

# Answers a request, the how many-th of its path, on its connection; whether that stays open.
type Script = Callable[["Delivery", asyncio.StreamWriter, int], Awaitable[bool]]


@dataclass(slots=True)
class Delivery:
    """A request as the worker's port saw it."""

    head: bytes
    body: bytes = b""
    is_whole: bool = False
    is_ended: bool = False  # the host closed the connection

    @property
    def line(self) -> str:
        """The request line without its version."""
        return self.head.split(b"\r\n")[0].decode().rpartition(" ")[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """The headers, names in lower case."""
        pairs = [line.partition(": ") for line in self.head.decode().split("\r\n")[1:] if line]
        return [(name.lower(), value) for name, _, value in pairs]


@dataclass(slots=True)
class ScriptedWorker:
    """Records all deliveries by path. Without a script a request is answered `ok`."""

    http_uri: str = ""
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
    scripts: dict[str, Script] = field(default_factory=dict)
    # Invocations of these paths end with that error, or never; all others succeed.
    errors: dict[str, str | None] = field(default_factory=dict)
    invoked: dict[str, list[str]] = field(default_factory=dict)
    connections: int = 0
    _server: asyncio.Server | None = None

    async def start(self) -> None:
        """Listen on a free port."""
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.http_uri = f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()

    def triggered_by(self, kind: str) -> tuple[Function, ...]:
        """The one function."""
        return (FUNCTION,) if kind == "httpTrigger" else ()

    async def invoke(
        self, function: Function, argument: TypedData, *, invocation_id: str | None = None
    ) -> Invoked:
        """End as told."""
        request: Any = argument
        path = urlsplit(request.http.url).path
        self.invoked.setdefault(path, []).append(str(invocation_id))
        while self.errors.get(path, "") is None:  # noqa: ASYNC110  # a test's thread ends it
            await asyncio.sleep(0.01)
        return Invoked(self.errors.get(path) or None)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._serve(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        delivery = Delivery(await reader.readuntil(b"\r\n\r\n"))
        path = delivery.line.partition(" ")[2].partition("?")[0]
        seen = self.deliveries.setdefault(path, [])
        seen.append(delivery)
        await _read_body(delivery, reader)
        script = self.scripts.get(path)
        if script is None:
            writer.write(OK)
            return True
        run = asyncio.ensure_future(script(delivery, writer, len(seen)))
        leaving = asyncio.ensure_future(reader.read(1))
        await asyncio.wait({run, leaving}, return_when=asyncio.FIRST_COMPLETED)
        delivery.is_ended = leaving.done()
        leaving.cancel()
        await asyncio.wait({leaving})
        return await run and not delivery.is_ended


async def _read_body(delivery: Delivery, reader: asyncio.StreamReader) -> None:
    headers = dict(delivery.headers)
    if headers.get("expect"):
        return
    try:
        if "transfer-encoding" in headers:
            while size := int(await reader.readline(), 16):
                delivery.body += (await reader.readexactly(size + 2))[:-2]
            await reader.readline()
        else:
            delivery.body = await reader.readexactly(int(headers.get("content-length", 0)))
    except (asyncio.IncompleteReadError, ValueError):
        delivery.is_ended = True
        raise ConnectionError from None
    delivery.is_whole = True


def answering(*pieces: bytes | float, closes: bool = False, resets: bool = False) -> Script:
    """A script that writes bytes and pauses for seconds, then goes on, closes or resets."""

    async def script(delivery: Delivery, writer: asyncio.StreamWriter, number: int) -> bool:
        for piece in pieces:
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                writer.write(piece)
        if resets:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return not (closes or resets)

    return script


def first_closing(then: Script) -> Script:
    """A script that closes on the first delivery."""

    async def script(delivery: Delivery, writer: asyncio.StreamWriter, number: int) -> bool:
        return number > 1 and await then(delivery, writer, number)

    return script
