"""GET /health over HTTP, as Microsoft's emulator answers it, so that the same probes work."""

import asyncio
from typing import Final

REQUEST_SECONDS: Final = 5.0
MAX_HEADER_BYTES: Final = 8192

_OK: Final = b'{"status":"healthy"}'
_MISSING: Final = b'{"status":"not found"}'


async def start_health(host: str, port: int) -> asyncio.Server:
    """Listen for probes."""
    return await asyncio.start_server(_answer, host, port, limit=MAX_HEADER_BYTES)


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(REQUEST_SECONDS):
            head = await reader.readuntil(b"\r\n\r\n")
            writer.write(_response(head))
            await writer.drain()
    except (TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, OSError):
        return  # a probe that speaks no HTTP, or went away, gets no answer
    finally:
        writer.close()


def _response(head: bytes) -> bytes:
    is_health = head.split(b"\r\n", 1)[0].split(b" ")[:2] == [b"GET", b"/health"]
    status, body = (b"200 OK", _OK) if is_health else (b"404 Not Found", _MISSING)
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
