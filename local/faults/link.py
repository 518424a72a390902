"""One connection through the proxy, whose bytes can be delayed, throttled, held back or cut off.

| state   | event                                      | next                                     |
|---------|--------------------------------------------|------------------------------------------|
| whole   | bytes, and the rules let them through      | whole                                    |
| whole   | bytes under `blackhole`                    | dead: reads on, forwards nothing         |
| whole   | bytes reach `end_after_bytes`, or an answer begins under `drop_answers` | ended       |
| any     | one side breaks, or the proxy refuses      | ended                                    |
"""

import asyncio
import socket
import struct
from contextlib import suppress
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Self

from local.faults.rules import NO_RULES, Ending, Flow, Rules

PIECE_BYTES = 65_536
SLICES_PER_SECOND = 20  # the granularity of a throttled flow
_LINGER_RESETS = struct.pack("ii", 1, 0)


class Way(StrEnum):
    """The direction of bytes: up to the target, down to the caller."""

    UP = "up"
    DOWN = "down"


class LinkEnded(Exception):
    """The rules have ended the connection."""


@dataclass(slots=True, kw_only=True)
class Traffic:
    """Traffic since the proxy started."""

    connections: int = 0
    bytes_up: int = 0
    bytes_down: int = 0
    ended: int = 0
    requests: int = 0
    struck: int = 0


@dataclass(slots=True)
class Live:
    """The rules in force, shared by all links of a proxy; changed while they run."""

    rules: Rules = NO_RULES
    moving: asyncio.Event = field(default_factory=asyncio.Event)
    endings_left: int | None = None

    def __post_init__(self) -> None:
        self.put(self.rules)

    def put(self, rules: Rules) -> None:
        """Apply these rules from now on."""
        self.rules = rules
        self.endings_left = rules.count
        if rules.freeze:
            self.moving.clear()
        else:
            self.moving.set()

    def may_end(self) -> bool:
        """Whether one more connection may be ended; each is counted."""
        if self.endings_left is None:
            return True
        self.endings_left -= 1
        return self.endings_left >= 0


@dataclass(frozen=True, slots=True)
class Side:
    """One of the two sockets of a link."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, host: str, port: int) -> Self:
        """Connect to the target. Raises OSError."""
        return cls(*await asyncio.open_connection(host, port))

    async def write(self, data: bytes) -> None:
        """Return when the kernel has the bytes, so that a reset cannot overtake them."""
        self.writer.transport.set_write_buffer_limits(0)
        self.writer.write(data)
        await self.writer.drain()

    def end(self, ending: Ending) -> None:
        """Close the socket, or reset it; a second call does nothing."""
        transport = self.writer.transport
        if ending is Ending.CLOSE:
            transport.close()
        elif not transport.is_closing():
            connection: socket.socket = transport.get_extra_info("socket")
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER_RESETS)
            transport.abort()

    async def drop(self) -> None:
        """Discard unwritten bytes; return when the socket is closed."""
        self.writer.transport.abort()
        with suppress(OSError):
            await self.writer.wait_closed()

    def finish(self) -> None:
        """Signal the end of the bytes, if the socket is still open."""
        with suppress(OSError, RuntimeError):
            self.writer.write_eof()


@dataclass(slots=True, eq=False)
class Link:
    """A caller's connection, and the target's once there is one."""

    live: Live
    traffic: Traffic
    caller: Side
    target: Side | None = None
    is_dead: bool = False
    _passed: dict[Way, int] = field(default_factory=dict)
    _counted_under: Rules | None = None

    async def forward(self, way: Way, data: bytes) -> None:
        """Forward bytes under the rules. Raises LinkEnded or ConnectionError."""
        await asyncio.sleep(self._flow(way).latency_ms / 1000)
        await self.live.moving.wait()
        self.is_dead = self.is_dead or self.live.rules.blackhole
        if self.is_dead:
            return
        left = self._left(way)
        is_last = left is not None and len(data) >= left and self.live.may_end()
        await self._write(way, data[:left] if is_last else data)
        if is_last:
            self._cut(way)

    async def finish(self, way: Way) -> None:
        """Forward the end of one side. Raises LinkEnded if bytes were lost."""
        await self.live.moving.wait()
        if self.is_dead:
            self.end(Ending.RESET)
            raise LinkEnded
        side = self.target if way is Way.UP else self.caller
        if side is not None:
            side.finish()

    async def drop(self) -> None:
        """Discard unwritten bytes; return when both sockets are closed."""
        for side in (self.caller, self.target):
            if side is not None:
                await side.drop()

    def end(self, ending: Ending) -> None:
        """End both sides; the target's is closed cleanly, so that it reads what was sent to it."""
        self.caller.end(ending)
        if self.target is not None:
            self.target.end(Ending.CLOSE)

    def _flow(self, way: Way) -> Flow:
        return self.live.rules.up if way is Way.UP else self.live.rules.down

    def _left(self, way: Way) -> int | None:
        rules = self.live.rules
        if self._counted_under is not rules:
            self._counted_under = rules
            self._passed.clear()
        if way is Way.DOWN and rules.drop_answers:
            return 0
        limit = self._flow(way).end_after_bytes
        return None if limit is None else limit - self._passed.get(way, 0)

    async def _write(self, way: Way, data: bytes) -> None:
        side = self.target if way is Way.UP else self.caller
        assert side is not None, "connected before anything is forwarded"
        start = 0
        while start < len(data):
            rate = self._flow(way).bytes_per_second
            size = len(data) if rate is None else max(1, rate // SLICES_PER_SECOND)
            part = data[start : start + size]
            if rate is not None:
                await asyncio.sleep(len(part) / rate)
            await side.write(part)
            start += len(part)
        self._passed[way] = self._passed.get(way, 0) + len(data)
        if way is Way.UP:
            self.traffic.bytes_up += len(data)
        else:
            self.traffic.bytes_down += len(data)

    def _cut(self, way: Way) -> None:
        self.traffic.ended += 1
        if way is Way.UP and self.target is not None:
            self.target.end(self._flow(way).ending)
        self.end(Ending.RESET if self.live.rules.drop_answers else self._flow(way).ending)
        raise LinkEnded
