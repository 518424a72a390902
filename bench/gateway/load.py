"""Closed-loop load over keep-alive connections that compares every answer with the right bytes."""

import asyncio
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import httptools

LONGEST_SECONDS = 120.0

type Wire = tuple[bytes, bytes]
"""A request as it is sent, and the body that must come back."""


class Refused(Exception):
    """A server answered with another status than 200, or closed the connection."""


@dataclass(slots=True)
class Window:
    """Load on one server for some time. `changed` are answers that were not the backend's bytes."""

    calls: int = 0
    changed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    latencies: list[float] = field(default_factory=list)
    first_bytes: list[float] = field(default_factory=list)

    @property
    def cpu_ms(self) -> float:
        """The server's CPU milliseconds per call."""
        return self.cpu_seconds / self.calls * 1000

    def p_ms(self, percent: int) -> float:
        """A percentile of the latencies."""
        return self.latencies[len(self.latencies) * percent // 100] * 1000


class _Caller(asyncio.Protocol):
    """One connection: a call at a time, until the deadline."""

    def __init__(self, load: "_Load") -> None:
        self._load = load
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Make the first call."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._parser = httptools.HttpResponseParser(self)
        self._call()

    def connection_lost(self, exc: Exception | None) -> None:
        """The server left in the middle of a call."""
        self._fail(f"the connection was closed ({exc})")

    def data_received(self, data: bytes) -> None:
        """Read on."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._fail(str(exc))
            self._transport.abort()

    def on_body(self, body: bytes) -> None:
        """A piece of the answer."""
        if not self._pieces:
            self._first = time.perf_counter()
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Check the answer; call again."""
        now, body = time.perf_counter(), b"".join(self._pieces)
        if self._parser.get_status_code() != 200:
            self._fail(f"status {self._parser.get_status_code()}: {body[:300]!r}")
        else:
            window = self._load.window
            window.calls += 1
            window.changed += body != self._expected
            window.latencies.append(now - self._begun)
            window.first_bytes.append((self._first or now) - self._begun)
        if now < self._load.deadline and not self.done.done():
            self._call()
        else:
            if not self.done.done():
                self.done.set_result(None)
            self._transport.abort()

    def _call(self) -> None:
        wire, self._expected = next(self._load.wires)
        self._pieces: list[bytes] = []
        self._first = 0.0
        self._begun = time.perf_counter()
        self._transport.write(wire)

    def _fail(self, reason: str) -> None:
        if not self.done.done():
            self.done.set_exception(Refused(reason))


@dataclass(slots=True)
class _Load:
    wires: Iterator[Wire]
    deadline: float
    window: Window = field(default_factory=Window)


async def load(
    port: int,
    wires: Iterator[Wire],
    *,
    connections: int,
    seconds: float,
    cpu: Callable[[], float],
    settle_seconds: float = 0.3,
) -> Window:
    """Call for so long; calls under way at the end are awaited. Raises Refused, OSError.

    `cpu` reads the server's CPU seconds; what it still does for `settle_seconds` counts.
    """
    run = _Load(wires, deadline=time.perf_counter() + seconds)
    loop = asyncio.get_running_loop()
    cpu_before, begun = cpu(), time.perf_counter()
    callers: list[_Caller] = []
    try:
        async with asyncio.timeout(seconds + LONGEST_SECONDS):
            for _ in range(connections):
                _, caller = await loop.create_connection(lambda: _Caller(run), "127.0.0.1", port)
                callers.append(caller)
            await asyncio.gather(*(caller.done for caller in callers))
    finally:
        for caller in callers:
            caller.done.cancel()
            caller._transport.abort()
    run.window.seconds = time.perf_counter() - begun
    await asyncio.sleep(settle_seconds)
    run.window.cpu_seconds = cpu() - cpu_before
    run.window.latencies.sort()
    run.window.first_bytes.sort()
    return run.window
