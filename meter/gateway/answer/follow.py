"""Follows one streamed answer: decides which bytes to relay, and reads its usage.

Only frames that can matter are parsed as JSON: usage, errors, the closing frame.
"""

import json
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from typing import cast

from msgspec.structs import replace

from meter.gateway.answer.error_shapes import error_in_document, error_in_frame
from meter.gateway.answer.reading.byte_reader import ByteReader as ByteReader
from meter.gateway.answer.reading.members import MemberReader
from meter.gateway.answer.reading.plain import (
    Likeness,
    plain_chunk,
    plain_chunks,
    plain_delta,
    plain_run,
)
from meter.gateway.answer.seen import SeenContent, UnreadContent, is_typed
from meter.gateway.answer.sse import (
    DEFAULT_MAX_FRAME_BYTES,
    FrameCutter,
    Piece,
    PieceKind,
    event_name,
    frame_data,
)
from meter.gateway.answer.stated_error import StatedError
from meter.gateway.answer.usage import (
    NOTHING_READ,
    Reading,
    added_usage,
    json_object,
    later_usage,
    read_document,
)
from meter.gateway.http import error_document
from meter.gateway.stream_failure import ENDS, IMAGE_ENDS, StreamFailure
from meter.patterns import lazy_pattern

_HEAD_BYTES = 512
_MAX_PLAIN_BYTES = 65_536  # as much as may be written to the caller in one part

_USAGE_KEY = b'"usage"'
_NULL_USAGE = lazy_pattern(rb'"usage"[ \t]*:[ \t]*null')
_MODEL_KEY = b'"model"'
_MODEL = lazy_pattern(rb'"model"[ \t]*:[ \t]*"([^"\\]{1,128})"')
_TIER_KEY = b'"service_tier"'
_TIER = lazy_pattern(rb'"service_tier"[ \t]*:[ \t]*(?:"[^"\\]{0,128}"|null)')
_BACKGROUND = lazy_pattern(rb'"background"[ \t]*:[ \t]*true')
_PARTIAL_IMAGE_TYPES = frozenset({"image_generation.partial_image", "image_edit.partial_image"})
_TERMINAL_WORDS = tuple(kind.encode() for kind in ENDS)
_CUT = error_document(
    "The answer was broken off: the backend closed it, or the call took too long.",
    code="upstream_cut",
)


@dataclass(slots=True)
class StreamReader:
    """Follows one event stream.

    `reports_usage` says that the rest may report more about the tokens. `feed` returns the bytes to
    relay now. Once the closing frame has arrived, `is_complete` is true, and that frame and all
    after it are held until the call's usage event is safe. `is_over` says that no other frame
    matters; after an image's closing frame the next image may begin, which ends the wait. With
    `hides_usage` the usage frame, which only the gateway asked for, is dropped; all else is relayed
    byte for byte, in whole frames.
    """

    hides_usage: bool = False
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    model: str | None = None
    is_over: bool = False
    error: StatedError | None = None
    reports_usage: bool = True
    failure: StreamFailure = field(default_factory=StreamFailure)
    _content: UnreadContent = field(default_factory=UnreadContent)
    _likeness: Likeness = field(default_factory=Likeness)
    _read_so_far: Reading = NOTHING_READ
    _tier_text: bytes = b""  # as it stood in the last frame that was parsed for it
    _images: int = 0
    _held: bytearray = field(default_factory=bytearray)
    _cutter: FrameCutter = field(init=False)
    _plain_bytes: int = field(init=False)
    _may_pass: bool = True
    _hid_last_frame: bool = False
    _has_typed_end: bool = False
    _closed_image: bool = False
    _partial_usage: Mapping[str, object] | None = None  # the image's closing frame repeats it
    _ends_in_frame: bool = False  # its last one is not whole
    _oversize: MemberReader | None = None
    _oversize_head: bytes = b""

    def __post_init__(self) -> None:
        self._cutter = FrameCutter(self.max_frame_bytes)
        self._plain_bytes = min(self.max_frame_bytes, _MAX_PLAIN_BYTES)

    @property
    def reading(self) -> Reading:
        """What the stream has reported so far."""
        return replace(
            self._read_so_far,
            reported=added_usage(self._read_so_far.reported, self._partial_usage),
            images=self._images or None,
            model=self.model,
            has_failed=False,
        )

    @property
    def seen(self) -> SeenContent:
        """What the stream has said so far."""
        return self._content.read()

    @property
    def has_error(self) -> bool:
        """Whether the stream has stated an error."""
        return self.error is not None

    @property
    def is_complete(self) -> bool:
        """Whether the stream may end here: its closing frame has arrived."""
        return (self.is_over or self._closed_image) and not self._ends_in_frame

    @property
    def is_broken(self) -> bool:
        """Whether the stream ends in an error that its API does not end streams with."""
        return self.has_error and not self._has_typed_end

    @property
    def is_cut_short(self) -> bool:
        """Whether a clean end here would hide that the stream had more to say."""
        is_short = self._ends_in_frame or self.failure.is_cut_short
        return is_short and not self.is_complete and not self.has_error

    @property
    def takes_comments(self) -> bool:
        """False in the middle of a frame that is too long to hold."""
        return not self._cutter.is_oversize

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; return those to relay now."""
        if self.passes(chunk):
            return chunk
        second = chunk.find(b"\n\n") + 2
        if not 2 <= second < len(chunk):
            return self._feed(chunk)
        # However a stream is split, the same bytes are relayed. The first frame may name the model.
        first, rest = self._feed(chunk[:second]), chunk[second:]
        size = self._read_run(rest)
        return b"".join([first, rest[:size], self._feed(rest[size:])])

    def _feed(self, chunk: bytes) -> bytes:
        relayed: list[bytes] = []
        for piece in self._cutter.feed(chunk):
            if self._closed_image and _continues(piece):
                self._closed_image = False
                relayed.append(self.take_held())
            self._read(piece)
            if self._hid_last_frame:
                continue
            if self.is_complete:
                self._held += piece.data
            else:
                relayed.append(piece.data)
        is_before_end = not (self.is_over or self._closed_image)
        self._may_pass = is_before_end and self._cutter.is_between_frames
        return b"".join(relayed)

    def passes(self, chunk: bytes) -> bool:
        """Whether a chunk is what nearly all are: plain frames before the end. They are read, then."""
        if not self._may_pass or len(chunk) > self._plain_bytes:
            return False
        if chunk.find(b"\n\n") + 2 >= len(chunk):
            return self._is_plain(chunk)
        return self.failure.has_choices and self._are_read(plain_chunks(chunk), chunk)

    def _read_run(self, chunk: bytes) -> int:
        """How many bytes at its beginning are plain frames, which are read."""
        if not self._may_pass or len(chunk) > self._plain_bytes or not self.failure.has_choices:
            return 0
        datas, size = plain_run(chunk)
        return size if self._are_read(datas, chunk[:size]) else 0

    def _are_read(self, datas: Sequence[bytes], frames: bytes) -> bool:
        """Whether plain chunks say nothing but text, which is kept then."""
        if not datas or self._is_news(frames):
            return False
        self._content.add_all(datas)
        return True

    def take_held(self) -> bytes:
        """The closing frame and all after it, once the usage event is safe."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def take_rest(self) -> bytes:
        """At the stream's end: the held bytes, and an unfinished last frame."""
        was_oversize, rest = self._cutter.is_oversize, self._cutter.rest()
        if was_oversize:
            self._note_oversize(rest)
            assert self._oversize is not None  # fed just now
            self._ends_in_frame = self._oversize.is_in_object
            self._read_oversize()
            rest += b"" if self._ends_in_frame else _blank_line_behind(rest)
        elif rest:
            rest = self._last_frame(rest)
        return self.take_held() + rest

    def drop_rest(self) -> None:
        """At a break: read what an unfinished last frame reports; the caller does not get it."""
        error, failure, is_in_part = self.error, copy(self.failure), self._cutter.is_oversize
        self.take_rest()
        self.error = error
        if not is_in_part:  # of one too long to hold the caller has the beginning
            self.failure = failure

    def cut_notice(self) -> bytes:
        """What is still to be said of a stream that fails, after what was relayed.

        A backend's own error has been relayed; of a response its words are repeated as its API ends one. A
        frame that was cut is ended first, so that a parser does not merge the two.
        """
        if self.error is not None and self.failure.response_id is None:
            return b""
        words = _CUT if self.error is None else _document(self.error)
        return (b"" if self.takes_comments else b"\n\n") + self.failure.event(words)

    def _last_frame(self, frame: bytes) -> bytes:
        """A frame that only the stream's end has ended, with the blank line that clients wait for.

        A part of one is nothing to a client, and would swallow what is said behind it.
        """
        data = frame_data(frame)
        if _is_whole(data):
            return b"" if self._is_hidden(frame) else frame + _blank_line_behind(frame)
        if self.is_complete or not self.failure.is_known:
            return b"" if self._is_hidden(frame) else frame
        self._ends_in_frame = bool(data or event_name(frame))
        return b""

    def _read(self, piece: Piece) -> None:
        match piece.kind:
            case PieceKind.FRAME:
                is_plain = self._is_plain(piece.data)
                self._hid_last_frame = not is_plain and self._is_hidden(piece.data)
            case PieceKind.OVERSIZE | PieceKind.OVERSIZE_END:
                self._hid_last_frame = False
                self._note_oversize(piece.data)
                if piece.kind is PieceKind.OVERSIZE_END:
                    self._read_oversize()
            case PieceKind.TRAILING_LF:
                pass

    def _is_plain(self, frame: bytes) -> bool:
        """Whether a frame has nothing to read but its text, which is kept."""
        data = self._likeness.data_of(frame)
        if data is None:
            data = self._plain_data(frame)
            if data is None:
                return False
            self._likeness.learn(frame, data)
        if not self.failure.has_choices:
            self.failure.note(data, is_named=frame.startswith(b"event"))
        self._content.add(data)
        return True

    def _plain_data(self, frame: bytes) -> bytes | None:
        if self.failure.has_choices:
            data = plain_chunk(frame)
        else:
            data = None if self.failure.response_id is None else plain_delta(frame)
        return None if data is None or self._is_news(data) else data

    def _is_news(self, data: bytes) -> bool:
        """Whether plain frames may name another service tier, or a model that is not a plain name."""
        if self.model is None and data.find(_MODEL_KEY) >= 0 and not self._note_model(data):
            return True
        tiers = data.count(_TIER_KEY)
        return tiers > 0 and not (self._tier_text and data.count(self._tier_text) == tiers)

    def _note_model(self, data: bytes) -> bool:
        named = _MODEL.search(data)
        if named is not None:
            self.model = named[1].decode(errors="replace")
        return named is not None

    def _is_hidden(self, frame: bytes) -> bool:
        error = error_in_frame(frame, has_output=not self._content.is_empty)
        self.error = self.error or error
        data = frame_data(frame)
        if data == b"[DONE]":
            self.is_over = True
            return False
        if self.model is None:
            self._note_model(data)
        if data:
            is_asked = self.failure.response_id is not None and not self.failure.is_named
            self.failure.note(data, is_named=is_asked and bool(event_name(frame)))
        if error is None:  # its words are no output
            self._content.add(data)
        has_usage = _USAGE_KEY in data and (data.count(_USAGE_KEY) > len(_NULL_USAGE.findall(data)))
        is_ours = not self.failure.has_choices and (
            any(kind in frame for kind in _TERMINAL_WORDS)
            or (is_typed(data) and _BACKGROUND.search(data) is not None)
        )
        if not (has_usage or is_ours or self._has_new_tier(data)):
            return False
        document = json_object(data)
        if document is None:
            return False
        reading = self._note(document, str(document.get("type") or event_name(frame)))
        is_usage_frame = reading.reported is not None and document.get("choices") == []
        return self.hides_usage and is_usage_frame

    def _has_new_tier(self, data: bytes) -> bool:
        """Whether a frame may name another service tier than those before: most streams repeat it."""
        if (self._tier_text and self._tier_text in data) or _TIER_KEY not in data:
            return False
        found = _TIER.search(data)
        self._tier_text = b"" if found is None else found[0]
        self._likeness = Likeness()  # what it knows has another tier
        return True

    def _note(self, document: Mapping[str, object], kind: str) -> Reading:
        """Take what a frame reports, inside its `response` where it has one."""
        response = document.get("response")
        source = cast(Mapping[str, object], response) if isinstance(response, dict) else document
        reading = read_document(source)
        before, later = self._read_so_far.reported, reading
        if kind in _PARTIAL_IMAGE_TYPES:
            self._partial_usage = later_usage(self._partial_usage, reading.reported)
            later = replace(reading, reported=None)
        elif kind in IMAGE_ENDS:
            self._closed_image, self._partial_usage = True, None
            self._images += 1
            later = replace(reading, reported=added_usage(before, reading.reported))
        else:
            self._has_typed_end = self._has_typed_end or kind in ENDS
            self.is_over = self.is_over or self._has_typed_end
        if reading.reported is not None:
            self.model = reading.model or self.model
        self._read_so_far = self._read_so_far.followed_by(later)
        return reading

    def _note_oversize(self, data: bytes) -> None:
        if self._oversize is None:
            self._oversize = MemberReader()
        self._oversize.feed(data)
        if len(self._oversize_head) < _HEAD_BYTES:
            self._oversize_head += data[: _HEAD_BYTES - len(self._oversize_head)]

    def _read_oversize(self) -> None:
        """Read what was kept of a frame too long to parse."""
        assert self._oversize is not None  # fed before
        members, name = self._oversize.members, event_name(self._oversize_head)
        document = self._oversize.document
        self._oversize, self._oversize_head = None, b""
        kind = str(members.get("type") or name)
        error = error_in_document(members, may_be_bare=False)
        if error is None and (name == "error" or kind == "response.failed"):
            error = StatedError()
        self.error = self.error or error
        self.failure.note(json.dumps(members).encode(), is_named=bool(name))
        self._note(document, kind)


def _is_whole(data: bytes) -> bool:
    """Whether an event's data is there to its end."""
    return data == b"[DONE]" or json_object(data) is not None


def _blank_line_behind(frame: bytes) -> bytes:
    """What ends a frame whose blank line is missing, in part or whole."""
    return b"\n" if frame.endswith(b"\n") else b"\n\n"


def _document(error: StatedError) -> Mapping[str, object]:
    return {"error": {"code": error.code, "message": error.message}}


type AnswerReader = StreamReader | ByteReader


def _continues(piece: Piece) -> bool:
    """Whether the stream goes on: comments and line ends say nothing."""
    is_frame = piece.kind is PieceKind.FRAME
    return bool(frame_data(piece.data)) if is_frame else piece.kind is not PieceKind.TRAILING_LF
