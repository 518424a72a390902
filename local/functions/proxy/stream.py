"""One connection: reads with bounds, writes that wait for the peer, and the moment the peer leaves."""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import cast

# Reading pauses while more than this is unread.
HIGH_WATER_BYTES = 262_144
PART_BYTES = 65_536


class Ended(Exception):
    """The peer has sent all that it will send."""


class LineTooLong(Exception):
    """A line is longer than allowed."""


class Stream(asyncio.Protocol):
    """A connection. `gone` is set once the peer has sent its FIN, or a reset: then `was_reset`, too."""

    def __init__(self, on_connect: Callable[["Stream"], None] | None = None) -> None:
        self.gone = asyncio.Event()
        self._on_connect = on_connect
        self._buffer = bytearray()
        self._is_lost = False
        self.was_reset = False
        self._arrival: asyncio.Future[None] | None = None
        self._writable = asyncio.Event()
        self._writable.set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the connection."""
        self._transport = cast(asyncio.Transport, transport)
        if self._on_connect is not None:
            self._on_connect(self)

    def data_received(self, data: bytes) -> None:
        """Keep what arrives."""
        self._buffer += data
        if len(self._buffer) > HIGH_WATER_BYTES:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """The peer has left, as the host sees it; what it still reads can be sent."""
        self.gone.set()
        self._wake()
        return True

    def connection_lost(self, exc: Exception | None) -> None:
        """No byte goes either way any more."""
        self._is_lost = True
        self.was_reset = exc is not None
        self.gone.set()
        self._writable.set()
        self._wake()

    def pause_writing(self) -> None:
        """The peer does not read."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """The peer reads again."""
        self._writable.set()

    @property
    def peer(self) -> str:
        """The peer's IP address."""
        name = self._transport.get_extra_info("peername")
        return str(name[0]) if name else ""

    @property
    def is_empty(self) -> bool:
        """Whether nothing is unread."""
        return not self._buffer

    async def line(self, most: int) -> bytes:
        """A line with its end, of at most that many bytes. Raises Ended, LineTooLong."""
        while (end := self._buffer.find(b"\n", 0, most)) < 0:
            if len(self._buffer) >= most:
                raise LineTooLong
            await self._more()
        return self._take(end + 1)

    async def part(self, most: int = PART_BYTES) -> bytes:
        """At least one byte. Raises Ended."""
        if not self._buffer:
            await self._more()
        return self._take(most)

    async def first_byte(self) -> None:
        """Wait until something is unread. Raises Ended."""
        if not self._buffer:
            await self._more()

    async def write(self, data: bytes) -> None:
        """Send, and wait while the peer does not read. Raises ConnectionError."""
        if not self._is_lost:
            self._transport.write(data)
            await self._writable.wait()
        if self._is_lost:
            raise ConnectionResetError("the connection is lost")

    def finish(self) -> None:
        """Send FIN behind what was written; the peer may still send."""
        if not self._is_lost and self._transport.can_write_eof():
            with suppress(OSError):  # it is lost, and the loop has not said so yet
                self._transport.write_eof()

    def close(self) -> None:
        """Send what was written, then close."""
        self._transport.close()

    def drop(self) -> None:
        """Close at once; what the peer has not taken is lost."""
        self._transport.abort()

    def reset(self) -> None:
        """Break the connection off with RST, unsent bytes lost."""
        raw = self._transport.get_extra_info("socket")
        if raw is not None and not self._is_lost:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    async def _more(self) -> None:
        if self.gone.is_set():
            raise Ended
        self._transport.resume_reading()
        unread = len(self._buffer)
        self._arrival = asyncio.get_running_loop().create_future()
        await self._arrival
        if len(self._buffer) == unread:
            raise Ended

    def _take(self, most: int) -> bytes:
        taken = bytes(self._buffer[:most])
        del self._buffer[:most]
        return taken

    def _wake(self) -> None:
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)
