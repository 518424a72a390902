"""Reads an event stream as far as its first output, so that an error before it can fail over.

| event                                                        | what it means                      |
|--------------------------------------------------------------|------------------------------------|
| comments, blank lines, `id` and `retry` alone                | not an event yet                   |
| `response.created`, `.queued`, `.in_progress`; a chat chunk  | a preamble: Azure sends it before  |
| without choices, or with a role and nothing else             | an error, too; held for a moment   |
| an error                                                     | the opening ends with this error   |
| an error with output or usage                                | output: it is charged              |
| an error that names nothing (`response.failed`, error null)  | the next event may name it         |
| any other                                                    | output: the opening ends           |

All bytes are kept, in order; nothing is relayed before the opening has ended. A stream that breaks
after an event counts as begun: the backend may go on working.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from enum import Enum

from msgspec import Struct, field

from meter.errors import UpstreamBroken
from meter.gateway.answer.error_shapes import error_in_frame, has_output
from meter.gateway.answer.sse import FrameCutter, Piece, PieceKind, event_name, frame_data
from meter.gateway.answer.stated_error import StatedError
from meter.gateway.answer.usage import json_object
from meter.patterns import lazy_pattern
from meter.ports import Clock, UpstreamAnswer
from meter.waiting.bypass import Bypass

PREAMBLE_SECONDS = 1.0
COMMENTS_SECONDS = 20.0
MAX_OPENING_BYTES = 524_288

_FIELD = lazy_pattern(rb"(?:data|event|id|retry)[ \t]*:|:")
_LONGEST_FIELD = len(b"retry:")
_PREAMBLE = frozenset({"response.created", "response.queued", "response.in_progress"})
_PREAMBLE_TYPE = lazy_pattern(rb'"type"[ \t]*:[ \t]*"response\.(?:created|queued|in_progress)"')
_TYPE_WITHIN = 200
_MAX_PREAMBLE_CHUNK_BYTES = 16_384


class _Kind(Enum):
    NO_EVENT = 1
    PREAMBLE = 2
    ERROR = 3
    OUTPUT = 4


class Chunks(Struct):
    """The chunks of a body; a read that is given up is not lost, but goes on."""

    source: AsyncIterator[bytes]
    bypass: Bypass = field(default_factory=Bypass)  # of the source, if it has one
    _reading: asyncio.Task[bytes | None] | None = None
    _broken: UpstreamBroken | None = None

    @classmethod
    def of(cls, answer: UpstreamAnswer) -> "Chunks":
        """The chunks of an answer's body as it is, and its bypass."""
        bypass = Bypass()
        return cls(answer.chunks(bypass), bypass)

    async def next(self, seconds: float | None = None) -> bytes | None:
        """The next chunk, None at the end. Raises UpstreamBroken, every time; or TimeoutError, and
        the chunk is then the next one's.
        """
        if self._broken is not None:
            raise self._broken
        if seconds is None and self._reading is None:
            return await self._read()
        if self._reading is None:
            self._reading = asyncio.ensure_future(self._read())
        await asyncio.wait({self._reading}, timeout=seconds)
        if not self._reading.done():
            raise TimeoutError
        reading, self._reading = self._reading, None
        return reading.result()

    async def rest(self, first: bytes) -> AsyncIterator[bytes]:
        """What was read already, then the rest."""
        yield first
        if self._reading is not None and (chunk := await self.next()) is not None:
            yield chunk
        if self._broken is not None:
            raise self._broken
        self.bypass.open()
        async for chunk in self.source:  # with as few awaits per chunk as there can be
            yield chunk

    async def close(self) -> None:
        """Give up a read that still goes on."""
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.cancel()
            with suppress(asyncio.CancelledError, UpstreamBroken):
                await reading

    async def _read(self) -> bytes | None:
        try:
            return await anext(self.source, None)
        except UpstreamBroken as exc:
            self._broken = exc
            raise


class Opening(Struct, kw_only=True):
    """A stream's bytes as far as its first output, when its first event came, and its error."""

    data: bytearray = field(default_factory=bytearray)
    begun_at: float
    error: StatedError | None = None


async def looks_like_events(chunks: Chunks, first: bytes = b"") -> tuple[bytes, bool]:
    """The beginning of a body, whose first bytes are known, and whether it is one of an event stream (WHATWG
    HTML, 9.2.5).
    """
    data, chunk = b"", first or await chunks.next()
    while chunk is not None:
        data += chunk
        text = data.lstrip(b"\xef\xbb\xbf\r\n")
        if len(text) >= _LONGEST_FIELD or b"\n" in text or b":" in text:
            return data, _FIELD.match(text) is not None
        chunk = await chunks.next()
    return data, False


async def read_opening(chunks: Chunks, first: bytes, *, clock: Clock) -> Opening:
    """Read to the first output or error. Raises UpstreamBroken when the stream ends before any event."""
    reader = _OpeningReader(Opening(begun_at=clock.monotonic()), clock, clock.monotonic())
    chunk: bytes | None = first or await chunks.next()
    while chunk is not None and not reader.feed(chunk):
        try:
            chunk = await chunks.next(reader.patience_seconds())
        except TimeoutError:
            return reader.opening
        except UpstreamBroken:
            if reader.has_event:
                return reader.opening  # its relay meets the same fault
            raise
    if chunk is None:
        reader.end()
        if not reader.has_event:
            raise UpstreamBroken("an empty stream")  # the next backend may do better
    return reader.opening


class _OpeningReader(Struct):
    opening: Opening
    clock: Clock
    started: float
    has_event: bool = False
    _settles_at: float | None = None
    _cutter: FrameCutter = field(default_factory=lambda: FrameCutter(MAX_OPENING_BYTES))

    def patience_seconds(self) -> float | None:
        """How long to wait for the next bytes: a preamble is held for a moment in all."""
        if self._settles_at is None:
            return None
        return max(0.0, self._settles_at - self.clock.monotonic())

    def feed(self, chunk: bytes) -> bool:
        """Take the next bytes; whether the opening has ended."""
        self.opening.data += chunk
        at = 0
        while at < len(chunk):  # a frame at a time: behind the first output there may be many
            end = chunk.find(b"\n\n", at) + 2
            end = end if end >= 2 else len(chunk)
            if any(map(self._is_output, self._cutter.feed(chunk[at:end]))):
                self.has_event = True
                return True
            at = end
        now = self.clock.monotonic()
        is_late = now >= (self._settles_at or self.started + COMMENTS_SECONDS)
        return is_late or len(self.opening.data) > MAX_OPENING_BYTES

    def _is_output(self, piece: Piece) -> bool:
        is_over = piece.kind in {PieceKind.OVERSIZE, PieceKind.OVERSIZE_END}
        return is_over or (piece.kind is PieceKind.FRAME and self._ends_with(piece.data))

    def end(self) -> None:
        """The stream has ended, perhaps within a frame."""
        if rest := self._cutter.rest():
            self._ends_with(rest)

    def _ends_with(self, frame: bytes) -> bool:
        kind, error = _kind_of(frame)
        if kind is _Kind.NO_EVENT:
            return False
        if not self.has_event:
            self.has_event = True
            self.opening.begun_at = self.clock.monotonic()
            self._settles_at = self.opening.begun_at + PREAMBLE_SECONDS
        if error is not None and (self.opening.error is None or not error.is_empty):
            self.opening.error = error
        return kind is _Kind.OUTPUT or (error is not None and not error.is_empty)


def _kind_of(frame: bytes) -> tuple[_Kind, StatedError | None]:
    data, name, error = frame_data(frame), event_name(frame), error_in_frame(frame)
    if error is not None:
        is_charged = has_output(json_object(data) or {})
        return (_Kind.OUTPUT, None) if is_charged else (_Kind.ERROR, error)
    if not data and not name:
        return _Kind.NO_EVENT, None
    is_preamble = (
        name in _PREAMBLE
        or _PREAMBLE_TYPE.search(data, 0, _TYPE_WITHIN) is not None
        or _is_chat_preamble(data)
    )
    return (_Kind.PREAMBLE if is_preamble else _Kind.OUTPUT), None


def _is_chat_preamble(data: bytes) -> bool:
    """Whether a chat chunk has no choices and no usage, or a role and nothing that was generated."""
    if len(data) > _MAX_PREAMBLE_CHUNK_BYTES or _has_choice_without_role(data):
        return False
    document = json_object(data) or {}
    choices = document.get("choices")
    if not isinstance(choices, list) or document.get("usage"):
        return False
    return all(map(_has_role_only, choices))


def _has_choice_without_role(data: bytes) -> bool:
    """Whether it has choices, and none says who speaks: so it is, as it stands, for nearly every chunk."""
    find = data.find
    return find(b'"role"') < 0 and find(b'"choices":[{') > 0 and data.count(b'"choices"') == 1


def _has_role_only(choice: object) -> bool:
    delta = choice.get("delta") if isinstance(choice, dict) else None
    if not isinstance(delta, dict) or "role" not in delta:
        return False
    is_going_on = isinstance(choice, dict) and choice.get("finish_reason") is None
    return is_going_on and not any(value for name, value in delta.items() if name != "role")
