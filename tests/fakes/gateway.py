"""In-memory stand-ins for what the front door needs; each obeys its protocol in `meter.ports`."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import repeat
from random import Random
from threading import get_ident

from meter.errors import (
    CallerError,
    CallerGone,
    KeysUnavailable,
    Overloaded,
    UpstreamBroken,
    UpstreamError,
)
from meter.ports import Headers, UpstreamRequest
from meter.usage import UsageEvent
from meter.waiting.bypass import Bypass

START = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)

type Key = Mapping[str, object]
type Part = bytes | Exception | asyncio.Event


@dataclass
class FakeClock:
    """A clock that moves only when a test moves it."""

    moment: datetime = START
    seconds: float = 1000.0

    def now(self) -> datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.seconds

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)
        self.seconds += seconds


def seeded_dice(seed: int = 7) -> Random:
    """Reproducible randomness; `Random` satisfies `Dice`."""
    return Random(seed)


@dataclass
class FixedDice:
    """Returns the same number each time."""

    value: float = 0.0

    def random(self) -> float:
        return self.value

    def randbytes(self, n: int) -> bytes:
        return bytes(range(n))


@dataclass
class FakeKeySource:
    """Key sets by issuer; `is_down` makes each fetch fail, `gate` holds it until set."""

    keys: dict[str, Sequence[Key]]
    is_down: bool = False
    gate: asyncio.Event | None = None
    fetched: list[str] = field(default_factory=list)

    async def fetch(self, issuer: str) -> Sequence[Key]:
        self.fetched.append(issuer)
        if self.gate is not None:
            await self.gate.wait()
        if self.is_down:
            raise KeysUnavailable("the issuer did not answer")
        return self.keys[issuer]


class FakeAnswer:
    """A backend's answer: parts are bytes to give, an exception to raise or an event to wait for."""

    has_arrived = False  # to its end, when its head did

    def __init__(self, status: int, headers: Headers, parts: Sequence[Part]) -> None:
        self.status = status
        self.headers = headers
        self.times_closed = 0
        self.parts_read = 0
        self.is_waiting = asyncio.Event()
        self.is_closed = asyncio.Event()
        self._parts = parts

    async def chunks(self, bypass: Bypass | None = None) -> AsyncIterator[bytes]:
        for part in self._parts:
            self.parts_read += 1
            if isinstance(part, Exception):
                raise part
            if isinstance(part, bytes):
                if bypass is None or not bypass.take(part):
                    yield part
            else:
                self.is_waiting.set()
                await part.wait()

    def arrived(self) -> bytes | None:
        if not self.has_arrived:
            return None
        parts, self._parts = [part for part in self._parts if isinstance(part, bytes)], ()
        return b"".join(parts)

    async def close(self) -> None:
        self.times_closed += 1
        self.is_closed.set()


def json_answer(status: int, body: bytes, *headers: tuple[str, str]) -> FakeAnswer:
    """A whole JSON answer."""
    return FakeAnswer(status, (("content-type", "application/json"), *headers), [body])


def stream_answer(*parts: Part, headers: Headers = ()) -> FakeAnswer:
    """An event stream."""
    return FakeAnswer(200, (("content-type", "text/event-stream"), *headers), parts)


@dataclass
class FakeSpool:
    """A spool in memory, with room for `room` bytes."""

    data: bytearray = field(default_factory=bytearray)
    room: int | None = None
    is_closed: bool = False

    def append(self, data: bytes) -> None:
        self._check_open()
        if self.room is not None and len(self.data) + len(data) > self.room:
            raise Overloaded("There is no room.", retry_after_seconds=1, status=503)
        self.data += data

    def read(self, start: int, size: int) -> bytes:
        self._check_open()
        return bytes(self.data[start : start + size])

    def close(self) -> None:
        self.is_closed = True

    def _check_open(self) -> None:
        if self.is_closed:
            raise ValueError("the spool is closed")


class FakeRequestBody:
    """A caller's body: parts are bytes that arrive, an exception to raise or an event to wait for.

    After an exception nothing else comes.
    """

    def __init__(self, parts: Sequence[Part]) -> None:
        self._parts = list(parts)
        self.is_waiting = asyncio.Event()

    async def read(self) -> bytes:
        parts = []
        while part := await self.next_part():
            parts.append(part)
        return b"".join(parts)

    async def next_part(self) -> bytes:
        while self._parts:
            part = self._parts[0]
            if isinstance(part, Exception):
                raise part
            if isinstance(part, asyncio.Event):
                self.is_waiting.set()
                await part.wait()
            self._parts.pop(0)
            if isinstance(part, bytes) and part:
                return part
        return b""


@dataclass
class FakeUpstream:
    """Gives each backend's scripted answers in order; the last one is not repeated.

    A body that is still arriving is read first, into `bodies`: to its end, or, by the backends named
    in `parts_read`, only that many parts. `whole` are the backends that got a body's end.
    """

    script: dict[str, list[FakeAnswer | UpstreamError]]
    clock: FakeClock | None = None
    seconds_per_send: float = 0.0
    gate: asyncio.Event | None = None
    requests: list[UpstreamRequest] = field(default_factory=list)
    patience: list[float] = field(default_factory=list)
    parts_read: dict[str, int] = field(default_factory=dict)
    bodies: list[bytes] = field(default_factory=list)
    whole: list[str] = field(default_factory=list)
    given: list[FakeAnswer] = field(default_factory=list)

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> FakeAnswer:
        self.requests.append(request)
        self.patience.append(first_byte_timeout_seconds)
        if self.clock is not None:
            self.clock.advance(self.seconds_per_send)
        if self.gate is not None:
            await self.gate.wait()
        await self._read(request)
        answer = self.script[request.backend].pop(0)
        if isinstance(answer, UpstreamError):
            raise answer
        self.given.append(answer)
        return answer

    async def _read(self, request: UpstreamRequest) -> None:
        self.bodies.append(b"")
        parts = request.body() if callable(request.body) else _whole(request.body)
        most = self.parts_read.get(request.backend)
        try:
            while most is None or most > 0:
                self.bodies[-1] += await anext(parts)
                most = None if most is None else most - 1
        except StopAsyncIteration:
            self.whole.append(request.backend)
        except CallerError as exc:
            raise UpstreamBroken(request.backend) from exc  # as an HTTP client would

    @property
    def order(self) -> list[str]:
        """The backends in the order in which they were called."""
        return [request.backend for request in self.requests]


async def _whole(body: bytes | tuple[bytes | memoryview, ...]) -> AsyncIterator[bytes]:
    yield body if isinstance(body, bytes) else b"".join(body)


@dataclass
class FakeCredentials:
    """One API key per backend; a backend in `refused` has none."""

    refused: frozenset[str] = frozenset()

    def at_hand(self, backend: str) -> Headers | None:
        return None if backend in self.refused else (("api-key", f"key-of-{backend}"),)

    async def headers_for(self, backend: str) -> Headers:
        if backend in self.refused:
            raise UpstreamError("the managed identity gave no token")
        return (("api-key", f"key-of-{backend}"),)


@dataclass
class FakeSink:
    """Keeps the events it is given; `gate` holds the acknowledgement until set."""

    events: list[UsageEvent] = field(default_factory=list)
    gate: asyncio.Event | None = None
    is_asked: asyncio.Event = field(default_factory=asyncio.Event)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)
    has_events: asyncio.Event = field(default_factory=asyncio.Event)

    async def publish(self, event: UsageEvent) -> None:
        task = asyncio.create_task(self._publish(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        await asyncio.shield(task)

    async def _publish(self, event: UsageEvent) -> None:
        self.is_asked.set()
        if self.gate is not None:
            await self.gate.wait()
        self.events.append(event)
        self.has_events.set()


@dataclass
class WordCounter:
    """Counts words as tokens; `fault` is raised instead. `texts` are the texts it counted."""

    fault: Exception | None = None
    texts: list[str] = field(default_factory=list)
    threads: set[int] = field(default_factory=set)

    def count(self, text: str) -> int:
        self.texts.append(text)
        self.threads.add(get_ident())
        if self.fault is not None:
            raise self.fault
        return len(text.split())


@dataclass
class FakeCaller:
    """A caller that reads until it disconnects after `leaves_after` writes.

    `room` says each time whether it takes some bytes at once; `puts` are those that it took so.
    """

    leaves_after: int | None = None
    room: Iterator[bool] = field(default_factory=lambda: repeat(True))
    puts: list[bytes] = field(default_factory=list)
    writes: list[bytes] = field(default_factory=list)
    is_written_to: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def put(self) -> Callable[[bytes], None] | None:
        return None if self._has_left or not next(self.room, True) else self._put

    async def write(self, data: bytes) -> None:
        if self._has_left:
            raise CallerGone
        self.writes.append(data)
        self.is_written_to.set()

    def _put(self, data: bytes) -> None:
        self.puts.append(data)
        self.writes.append(data)
        self.is_written_to.set()

    @property
    def _has_left(self) -> bool:
        return self.leaves_after is not None and len(self.writes) >= self.leaves_after

    @property
    def received(self) -> bytes:
        """All the bytes that arrived."""
        return b"".join(self.writes)
