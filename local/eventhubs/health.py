"""GET /health over HTTP, as Microsoft's emulator answers it, so that the same probes work.

For fault tests, `POST /busy/N` refuses the next N sends with `com.microsoft:server-busy`.
"""

import asyncio
import re
from functools import partial
from typing import Final

from local.eventhubs.busy import BusySends

REQUEST_SECONDS: Final = 5.0
MAX_HEADER_BYTES: Final = 8192

_OK: Final = b'{"status":"healthy"}'
_BUSY: Final = b'{"status":"busy"}'
_MISSING: Final = b'{"status":"not found"}'
_ASKS_BUSY: Final = re.compile(rb"POST /busy/([0-9]{1,9}) ")


async def start_health(host: str, port: int, busy: BusySends) -> asyncio.Server:
    """Listen for probes and for `POST /busy/N`."""
    return await asyncio.start_server(partial(_answer, busy), host, port, limit=MAX_HEADER_BYTES)


async def _answer(
    busy: BusySends, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head, busy))
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return  # a probe that does not speak HTTP, or disconnected, gets no answer
    finally:
        writer.close()


def _response(head: bytes, busy: BusySends) -> bytes:
    if asked := _ASKS_BUSY.match(head):
        busy.ask(int(asked[1]))
        return _http(b"200 OK", _BUSY)
    is_health = head.split(b"\r\n", 1)[0].split(b" ")[:2] == [b"GET", b"/health"]
    return _http(b"200 OK", _OK) if is_health else _http(b"404 Not Found", _MISSING)


def _http(status: bytes, body: bytes) -> bytes:
    return b"\r\n".join(
        (
            b"HTTP/1.1 " + status,
            b"Content-Type: application/json",
            b"Content-Length: " + str(len(body)).encode(),
            b"Connection: close",
            b"",
            body,
        )
    )
