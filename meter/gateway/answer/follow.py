"""Follows one streamed answer: decides which bytes to relay, and reads its usage.

Only frames that can matter are parsed as JSON: usage, errors, the closing frame.
"""

import json
from collections.abc import Mapping
from copy import copy, replace
from dataclasses import dataclass, field
from typing import cast

from meter.gateway.answer.error_shapes import error_in_document, error_in_frame
from meter.gateway.answer.reading.members import MemberReader
from meter.gateway.answer.reading.plain import Likeness, plain_chunk, plain_delta
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
        """Whether a chunk is what nearly all are: a plain frame before the end. It is read, then."""
        return self._may_pass and len(chunk) <= self._plain_bytes and self._is_plain(chunk)

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
        is_news = data is not None and (
            (self.model is None and data.find(_MODEL_KEY) >= 0)
            or (data.find(_TIER_KEY) >= 0 and not (self._tier_text and self._tier_text in data))
        )
        return None if is_news else data

    def _is_hidden(self, frame: bytes) -> bool:
        error = error_in_frame(frame, has_output=not self._content.is_empty)
        self.error = self.error or error
        data = frame_data(frame)
        if data == b"[DONE]":
            self.is_over = True
            return False
        if self.model is None and (named := _MODEL.search(data)):
            self.model = named[1].decode(errors="replace")
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


@dataclass(slots=True)
class ByteReader:
    """Follows an answer that is no event stream: audio, JSON too long to hold, encoded bytes.

    Its last byte is held until the usage event is safe, so no caller has a whole answer that is not
    counted. The usage of JSON is read as it passes.
    """

    reports_usage: bool
    is_over: bool = False
    is_complete: bool = False
    has_error: bool = False
    is_broken: bool = False
    is_cut_short: bool = False
    takes_comments: bool = False
    seen: SeenContent = field(default_factory=SeenContent)
    _held: bytes = b""
    _members: MemberReader = field(default_factory=MemberReader)

    @property
    def reading(self) -> Reading:
        """What the answer has reported so far."""
        return read_document(self._members.document) if self.reports_usage else NOTHING_READ

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; return those to relay now."""
        if not chunk:
            return b""
        if self.reports_usage:
            self._members.feed(chunk)
        relayed, self._held = self._held + chunk[:-1], chunk[-1:]
        return relayed

    def take_held(self) -> bytes:
        """Nothing: there is no closing frame."""
        return b""

    def drop_rest(self) -> None:
        """At a break: the last byte has nothing to say."""

    def take_rest(self) -> bytes:
        """The last byte."""
        rest, self._held = self._held, b""
        return rest

    def cut_notice(self) -> bytes:
        """Nothing: a cut answer is short of its length or its last chunk."""
        return b""


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
