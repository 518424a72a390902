"""Cuts a byte stream into server-sent event frames without changing a byte.

A frame ends with a blank line; line ends are LF, CR LF or CR, also mixed (WHATWG HTML, section
9.2.6). Chunk boundaries can fall anywhere. The same bytes give the same frames however they
are split: a frame that ends with CR takes the LF that may follow it, even in the next chunk.
"""

from enum import Enum
from typing import NamedTuple

from msgspec import Struct, field

from meter.patterns import lazy_pattern

DEFAULT_MAX_FRAME_BYTES = 4_194_304  # a Responses stream's closing frame repeats the whole output

_END_OF_LINE = rb"(?>\r\n|\n|\r)"
_FRAME_END = lazy_pattern(_END_OF_LINE + _END_OF_LINE)
# A stream may begin with a byte order mark.
_DATA_LINE = lazy_pattern(rb"(?:^(?:\xef\xbb\xbf)?|[\r\n])data:[ ]?([^\r\n]*)")
_EVENT_LINE = lazy_pattern(rb"(?:^(?:\xef\xbb\xbf)?|[\r\n])event:[ ]?([^\r\n]*)")
_LONGEST_FRAME_END = 4


class PieceKind(Enum):
    """The kinds of pieces."""

    FRAME = 1
    OVERSIZE = 2  # part of a frame that is too long to hold
    OVERSIZE_END = 3  # the last part of such a frame
    TRAILING_LF = 4  # the LF of a CR LF whose CR ended the previous frame


class Piece(NamedTuple):
    """Consecutive bytes of the stream."""

    kind: PieceKind
    data: bytes


class FrameCutter(Struct):
    """Collects chunks and gives out whole frames.

    The pieces' data, over all calls of `feed` and then `rest`, is the input. The bytes of a frame
    beyond `max_frame_bytes` pass through unbuffered until its end, which bounds memory on an
    endless line.
    """

    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    is_oversize: bool = False  # whether a frame's beginning has passed through
    _buffer: bytearray = field(default_factory=bytearray)
    _searched_to: int = 0
    _ended_with_cr: bool = False

    @property
    def is_between_frames(self) -> bool:
        """Whether the next byte begins a frame."""
        return not (self._buffer or self.is_oversize or self._ended_with_cr)

    def feed(self, chunk: bytes) -> list[Piece]:
        """The pieces this chunk completes."""
        pieces: list[Piece] = []
        if not chunk:
            return pieces
        if self._ended_with_cr:
            self._ended_with_cr = False
            if chunk[:1] == b"\n":
                pieces.append(Piece(PieceKind.TRAILING_LF, b"\n"))
                chunk = chunk[1:]
        is_plain = self.is_between_frames and len(chunk) <= self.max_frame_bytes
        if is_plain and chunk.find(b"\r") < 0:
            *frames, rest = chunk.split(b"\n\n")
            pieces += [Piece(PieceKind.FRAME, frame + b"\n\n") for frame in frames]
            self._buffer += rest
            self._searched_to = max(0, len(rest) - _LONGEST_FRAME_END + 1)
            return pieces
        self._buffer += chunk
        self._cut_whole_frames(pieces)
        if len(self._buffer) > self.max_frame_bytes:
            self._let_through(pieces)
        return pieces

    def rest(self) -> bytes:
        """The unfinished frame at the stream's end."""
        rest = bytes(self._buffer)
        self._buffer.clear()
        self._searched_to = 0
        return rest

    def _cut_whole_frames(self, pieces: list[Piece]) -> None:
        start = 0
        while match := _FRAME_END.search(self._buffer, max(start, self._searched_to)):
            is_oversize = self.is_oversize or match.end() - start > self.max_frame_bytes
            kind = PieceKind.OVERSIZE_END if is_oversize else PieceKind.FRAME
            pieces.append(Piece(kind, bytes(self._buffer[start : match.end()])))
            self.is_oversize = False
            start = self._searched_to = match.end()
        ended_here = start > 0 and start == len(self._buffer)
        self._ended_with_cr = ended_here and self._buffer[-1:] == b"\r"
        del self._buffer[:start]
        self._searched_to = max(0, len(self._buffer) - _LONGEST_FRAME_END + 1)

    def _let_through(self, pieces: list[Piece]) -> None:
        keep = _LONGEST_FRAME_END - 1  # the frame's end may have begun
        pieces.append(Piece(PieceKind.OVERSIZE, bytes(self._buffer[:-keep])))
        del self._buffer[:-keep]
        self._searched_to = 0
        self.is_oversize = True


def has_whole_frame(beginning: bytes) -> bool:
    """Whether a stream's beginning holds a whole frame."""
    return _FRAME_END.search(beginning) is not None


def frame_data(frame: bytes) -> bytes:
    """The frame's `data` lines joined with LF; empty when it has none."""
    line = frame.rstrip(b"\r\n")
    if line.startswith(b"data: ") and b"\n" not in line and b"\r" not in line:
        return line[6:]  # nearly every frame
    lines: list[bytes] = _DATA_LINE.findall(frame)
    return lines[0] if len(lines) == 1 else b"\n".join(lines)


def event_name(frame: bytes) -> str:
    """The name in the frame's last `event` line; empty when it has none."""
    names: list[bytes] = _EVENT_LINE.findall(frame)
    return names[-1].decode(errors="replace").strip() if names else ""
