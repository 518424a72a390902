"""Reads token usage out of a copy of an answer, whole or streamed.

Sources: Azure OpenAI REST reference (chat, completions, embeddings) and Responses API reference.
Answers are hostile input: whatever is not a sane count makes the usage `missing`, never an error.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import cast

from meter.gateway.sse import FrameCutter, PieceKind, frame_data
from meter.usage import TokenUsage, is_writable

MAX_COUNT = 10**11  # a tenth of what the aggregator accepts, since some counts are sums
MAX_MODEL_CHARS = 128

_USAGE_KEY = b'"usage"'
_NULL_USAGE = re.compile(rb'"usage"[ \t]*:[ \t]*null')
_MODEL = re.compile(rb'"model"[ \t]*:[ \t]*"([^"\\]{1,128})"')
_CONTENT = re.compile(rb'"(?:content|text|arguments|refusal)"[ \t]*:[ \t]*"[^"]')
_TERMINAL_TYPES = frozenset({"response.completed", "response.incomplete", "response.failed"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """What an answer says of itself: its raw usage object and model, where it names them."""

    usage_raw: Mapping[str, object] | None = None
    model: str | None = None

    @property
    def usage(self) -> TokenUsage | None:
        """The counts; None when there is no usage, or none that makes sense."""
        return None if self.usage_raw is None else read_usage(self.usage_raw)


def read_usage(raw: Mapping[str, object]) -> TokenUsage | None:
    """Translate a usage object of any AOAI API. An explicit 0 is a count, an absent one is 0.

    None when it names neither tokens nor seconds, or a count is negative, absurd or no number.
    """
    try:
        prompt = _first(raw, "prompt_tokens", "input_tokens")
        completion = _first(raw, "completion_tokens", "output_tokens")
        seconds = _count(raw.get("seconds"))
        total = _count(raw.get("total_tokens"))
        if prompt is completion is seconds is total is None:
            return None
        inside_prompt = _details(raw, "prompt_tokens_details", "input_tokens_details")
        inside_completion = _details(raw, "completion_tokens_details", "output_tokens_details")
        return TokenUsage(
            prompt_tokens=prompt or 0,
            completion_tokens=completion or 0,
            total_tokens=(prompt or 0) + (completion or 0) if total is None else total,
            cached_tokens=_count(inside_prompt.get("cached_tokens")) or 0,
            reasoning_tokens=_count(inside_completion.get("reasoning_tokens")) or 0,
            audio_tokens=_sum_of("audio_tokens", inside_prompt, inside_completion),
            image_tokens=_sum_of("image_tokens", inside_prompt, inside_completion),
            seconds=seconds or 0,
        )
    except ValueError:
        return None


def read_answer(body: bytes) -> Reading:
    """Read a whole JSON answer."""
    document = _object(body)
    if document is None:
        return Reading()
    usage, model = document.get("usage"), document.get("model")
    return Reading(
        usage_raw=usage if isinstance(usage, dict) else None,
        model=_model(model),
    )


@dataclass(slots=True)
class StreamReader:
    """Follows one streamed answer: gives out what to relay and keeps what the stream says of itself.

    `feed` returns the bytes to relay now. Once the stream's closing frame has come, `is_complete`
    is true and that frame and all after it gather in `held`, to be sent when the call's usage
    event is safe. With `hides_usage` the frame that we asked for, and the caller did not, is left
    out; everything else is relayed byte for byte, in whole frames.

    Only frames that can matter are parsed as JSON: the usage, an error, the closing one.
    """

    hides_usage: bool = False
    usage_raw: Mapping[str, object] | None = None
    model: str | None = None
    is_complete: bool = False
    has_error: bool = False
    content_frames: int = 0
    _held: bytearray = field(default_factory=bytearray)
    _cutter: FrameCutter = field(default_factory=FrameCutter)
    _hid_last_frame: bool = False

    @property
    def reading(self) -> Reading:
        """What is known so far."""
        return Reading(usage_raw=self.usage_raw, model=self.model)

    @property
    def is_inside_frame(self) -> bool:
        """Whether what was given out ends in the middle of a frame that is too long to hold."""
        return self._cutter.is_oversize

    def feed(self, chunk: bytes) -> bytes:
        """Take the next bytes of the stream; return those to relay now."""
        relayed = bytearray()
        for piece in self._cutter.feed(chunk):
            match piece.kind:
                case PieceKind.FRAME:
                    self._hid_last_frame = self._is_hidden(piece.data)
                case PieceKind.OVERSIZE:
                    self._hid_last_frame = False
                case PieceKind.TRAILING_LF:
                    pass
            if not self._hid_last_frame:
                (self._held if self.is_complete else relayed).extend(piece.data)
        return bytes(relayed)

    def take_held(self) -> bytes:
        """The closing frame and what has come after it, once its usage event is safe."""
        held = bytes(self._held)
        self._held.clear()
        return held

    def take_rest(self) -> bytes:
        """At the stream's end: what is still held, and an unfinished last frame."""
        rest = self._cutter.rest()
        is_hidden = bool(rest) and self._is_hidden(rest)
        return self.take_held() + (b"" if is_hidden else rest)

    def _is_hidden(self, frame: bytes) -> bool:
        data = frame_data(frame)
        if data == b"[DONE]":
            self.is_complete = True
            return False
        if self.model is None and (named := _MODEL.search(data)):
            self.model = named[1].decode(errors="replace")
        self.content_frames += _has_content(data)
        says_usage = _USAGE_KEY in data and (
            data.count(_USAGE_KEY) > len(_NULL_USAGE.findall(data))
        )
        if not (says_usage or b'"error"' in data or b'"response.' in data[:200]):
            return False
        return self._read_frame(data, says_usage)

    def _read_frame(self, data: bytes, says_usage: bool) -> bool:
        if not says_usage and not any(kind.encode() in data for kind in _ERROR_OR_END):
            return False
        document = _object(data)
        if document is None:
            return False
        kind = str(document.get("type"))
        if kind in _TERMINAL_TYPES:
            self.is_complete = True
        if isinstance(document.get("error"), dict) or kind in {"error", "response.failed"}:
            self.has_error = True
        response = document.get("response")
        source = response if isinstance(response, dict) else document
        usage = source.get("usage")
        if not isinstance(usage, dict):
            return False
        self.usage_raw = usage
        self.model = _model(source.get("model")) or self.model
        return self.hides_usage and document.get("choices") == []


def _has_content(data: bytes) -> bool:
    """Whether a frame carries a piece of the answer, for estimates."""
    if b'"response.' in data[:200]:
        return b'.delta"' in data[:200]
    return _CONTENT.search(data) is not None


_ERROR_OR_END = (*_TERMINAL_TYPES, '"error"')


def _object(text: bytes) -> dict[str, object] | None:
    try:
        document = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def _model(name: object) -> str | None:
    is_name = isinstance(name, str) and 0 < len(name) <= MAX_MODEL_CHARS and is_writable(name)
    return str(name) if is_name else None


def _first(raw: Mapping[str, object], *names: str) -> int | None:
    for name in names:
        if (count := _count(raw.get(name))) is not None:
            return count
    return None


def _count(value: object) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError(value)
    if not 0 <= value <= MAX_COUNT:  # also refuses NaN
        raise ValueError(value)
    return -int(-value // 1)  # audio seconds may be fractions; they are rounded up


def _details(raw: Mapping[str, object], *names: str) -> Mapping[str, object]:
    for name in names:
        if isinstance(details := raw.get(name), dict):
            return cast(Mapping[str, object], details)
    return {}


def _sum_of(name: str, *details: Mapping[str, object]) -> int:
    return sum(_count(part.get(name)) or 0 for part in details)
