"""Follows one streamed answer: decides which bytes to relay, and reads its usage.

Only frames that can matter are parsed as JSON: usage, errors, the closing frame.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from meter.gateway.answer.sse import DEFAULT_MAX_FRAME_BYTES, FrameCutter, PieceKind, frame_data
from meter.gateway.answer.stated_error import error_in_frame
from meter.gateway.answer.usage import (
    TAIL_BYTES,
    Reading,
    json_object,
    model_name,
    read_ends,
    read_tail,
)
from meter.gateway.http import error_document, event_stream_error

MAX_SEEN_BYTES = 1_048_576
_HEAD_BYTES = 512

_USAGE_KEY = b'"usage"'
_NULL_USAGE = re.compile(rb'"usage"[ \t]*:[ \t]*null')
_MODEL = re.compile(rb'"model"[ \t]*:[ \t]*"([^"\\]{1,128})"')
_CONTENT = re.compile(
    rb'"(?:content|text|arguments|refusal|delta)"[ \t]*:[ \t]*"((?:[^"\\]++|\\.)++)"'
)
_TYPED = re.compile(rb'"type"[ \t]*:[ \t]*"(?:response\.|image_|transcript\.|speech\.)')
_TERMINAL_TYPES = frozenset(
    {
        "response.completed",
        "response.incomplete",
        "response.failed",
        "image_generation.completed",
        "image_edit.completed",
        "transcript.text.done",
        "speech.audio.done",
    }
)
_OVERSIZE_TYPE = re.compile(
    rb'(?:(?:^|[\r\n])event:[ ]?|"type"[ \t]*:[ \t]*")(%b)["\r\n]'
    % b"|".join(re.escape(kind.encode()) for kind in sorted(_TERMINAL_TYPES))
)
_ERROR_OR_END = (*(kind.encode() for kind in _TERMINAL_TYPES), b'"error"')
_CUT_FRAME = event_stream_error(
    error_document("The backend closed this answer before its end.", code="upstream_cut")
)


@dataclass(slots=True)
class SeenContent:
    """The text of an answer so far, for estimates: about one frame per token."""

    frames: int = 0
    _texts: bytearray = field(default_factory=bytearray)  # pieces of JSON strings, one per line

    def add(self, data: bytes) -> None:
        """Keep a frame's piece of text, still as a JSON string, while there is room."""
        if _is_typed(data) and b'.delta"' not in data[:200]:
            return
        found = _CONTENT.search(data)
        if found is None:
            return
        self.frames += 1
        if len(self._texts) + len(found[1]) < MAX_SEEN_BYTES:
            self._texts += found[1] + b"\n"

    def text(self) -> str:
        """The text."""
        return "".join(_string(text) for text in bytes(self._texts).split(b"\n"))


@dataclass(slots=True)
class StreamReader:
    """Follows one event stream.

    `reports_usage` says that the rest may report more about the tokens. `feed` returns the bytes to
    relay now. Once the closing frame has arrived, `is_complete` is true, and that frame and all
    after it are held until the call's usage event is safe. With `hides_usage` the usage frame,
    which only the gateway asked for, is dropped; all else is relayed byte for byte, in whole frames.
    """

    hides_usage: bool = False
    max_frame_bytes: int = DEFAULT_MAX_FRAME_BYTES
    usage_raw: Mapping[str, object] | None = None
    model: str | None = None
    is_complete: bool = False
    has_error: bool = False
    reports_usage: bool = True
    seen: SeenContent = field(default_factory=SeenContent)
    _held: bytearray = field(default_factory=bytearray)
    _cutter: FrameCutter = field(init=False)
    _hid_last_frame: bool = False
    _oversize_head: bytes = b""
    _oversize_tail: bytes = b""

    def __post_init__(self) -> None:
        self._cutter = FrameCutter(self.max_frame_bytes)

    @property
    def reading(self) -> Reading:
        """The usage and model so far."""
        return Reading(usage_raw=self.usage_raw, model=self.model)

    @property
    def takes_comments(self) -> bool:
        """False in the middle of a frame that is too long to hold."""
        return not self._cutter.is_oversize

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; return those to relay now."""
        relayed = bytearray()
        for piece in self._cutter.feed(chunk):
            match piece.kind:
                case PieceKind.FRAME:
                    self._hid_last_frame = self._is_hidden(piece.data)
                case PieceKind.OVERSIZE | PieceKind.OVERSIZE_END:
                    self._hid_last_frame = False
                    self._note_oversize(piece.data)
                    if piece.kind is PieceKind.OVERSIZE_END:
                        self.is_complete = self._read_oversize() or self.is_complete
                case PieceKind.TRAILING_LF:
                    pass
            if not self._hid_last_frame:
                (self._held if self.is_complete else relayed).extend(piece.data)
        return bytes(relayed)

    def take_held(self) -> bytes:
        """The closing frame and all after it, once the usage event is safe."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def take_rest(self) -> bytes:
        """At the stream's end: the held bytes, and an unfinished last frame."""
        was_oversize, rest = self._cutter.is_oversize, self._cutter.rest()
        is_hidden = False
        if was_oversize:
            self._note_oversize(rest)
            self._read_oversize()
        elif rest:
            is_hidden = self._is_hidden(rest)
        return self.take_held() + (b"" if is_hidden else rest)

    def cut_notice(self) -> bytes:
        """An error frame; a frame that was cut is ended first, so that a parser does not merge the two."""
        return (b"" if self.takes_comments else b"\n\n") + _CUT_FRAME

    def _is_hidden(self, frame: bytes) -> bool:
        self.has_error = self.has_error or error_in_frame(frame) is not None
        data = frame_data(frame)
        if data == b"[DONE]":
            self.is_complete = True
            return False
        if self.model is None and (named := _MODEL.search(data)):
            self.model = named[1].decode(errors="replace")
        self.seen.add(data)
        has_usage = _USAGE_KEY in data and (data.count(_USAGE_KEY) > len(_NULL_USAGE.findall(data)))
        if not (has_usage or b'"error"' in data or _is_typed(data)):
            return False
        return self._read_frame(data, has_usage)

    def _read_frame(self, data: bytes, has_usage: bool) -> bool:
        if not has_usage and not any(kind in data for kind in _ERROR_OR_END):
            return False
        document = json_object(data)
        if document is None:
            return False
        kind = str(document.get("type"))
        if kind in _TERMINAL_TYPES:
            self.is_complete = True
        response = document.get("response")
        source = response if isinstance(response, dict) else document
        usage = source.get("usage")
        if not isinstance(usage, dict):
            return False
        self.usage_raw = usage
        self.model = model_name(source.get("model")) or self.model
        return self.hides_usage and document.get("choices") == []

    def _note_oversize(self, data: bytes) -> None:
        if len(self._oversize_head) < _HEAD_BYTES:
            self._oversize_head += data[: _HEAD_BYTES - len(self._oversize_head)]
        self._oversize_tail = (self._oversize_tail + data[-TAIL_BYTES:])[-TAIL_BYTES:]

    def _read_oversize(self) -> bool:
        """Read the kept ends of a frame too long to parse; whether it is a closing frame.

        Its type is at its beginning, its usage near its end, inside `response` where there is one.
        """
        found = _OVERSIZE_TYPE.search(self._oversize_head)
        tail, self._oversize_head, self._oversize_tail = self._oversize_tail, b"", b""
        if found is None:
            return False
        self.has_error = self.has_error or found[1] == b"response.failed"
        reading = read_tail(tail, level=2 if found[1].startswith(b"response.") else 1)
        self.usage_raw = reading.usage_raw or self.usage_raw
        self.model = self.model or reading.model
        return True


@dataclass(slots=True)
class ByteReader:
    """Follows an answer that is no event stream: audio, or JSON too long to hold.

    Its last byte is held until the usage event is safe, so no caller has a whole answer that is not
    counted. The usage of JSON is read from its end.
    """

    reports_usage: bool
    is_complete: bool = False
    has_error: bool = False
    takes_comments: bool = False
    seen: SeenContent = field(default_factory=SeenContent)
    _held: bytes = b""
    _beginning: bytes = b""
    _tail: bytes = b""

    @property
    def reading(self) -> Reading:
        """The usage and model in the ends of the answer so far."""
        return read_ends(self._beginning, self._tail) if self.reports_usage else Reading()

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes; return those to relay now."""
        if not chunk:
            return b""
        if self.reports_usage:
            if len(self._beginning) < _HEAD_BYTES:
                self._beginning += chunk[: _HEAD_BYTES - len(self._beginning)]
            self._tail = (self._tail + chunk[-TAIL_BYTES:])[-TAIL_BYTES:]
        relayed, self._held = self._held + chunk[:-1], chunk[-1:]
        return relayed

    def take_held(self) -> bytes:
        """Nothing: there is no closing frame."""
        return b""

    def take_rest(self) -> bytes:
        """The last byte."""
        rest, self._held = self._held, b""
        return rest

    def cut_notice(self) -> bytes:
        """Nothing: a cut answer is short of its length or its last chunk."""
        return b""


type AnswerReader = StreamReader | ByteReader


def _is_typed(data: bytes) -> bool:
    """Whether a frame is of an API whose events have a type: Responses, images, audio."""
    return _TYPED.search(data, 0, 200) is not None


def _string(text: bytes) -> str:
    try:
        return str(json.loads(b'"%b"' % text))
    except ValueError:
        return ""  # not UTF-8: an estimate does without it
