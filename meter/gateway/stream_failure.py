"""When an event stream has come to its end, and how one that cannot says so in its API's own form.

| stream       | its end                                                        | else                   |
|--------------|----------------------------------------------------------------|------------------------|
| Responses    | `response.completed`, `.incomplete`, `.failed` or `.cancelled` | `response.failed`      |
| chat,        | `[DONE]`, or the `finish_reason` of each choice                | `data: {"error": ...}` |
| completions  |                                                                |                        |
| image, audio | a `*.completed` or `*.done`, and nothing begun behind it       | `data: {"error": ...}` |

`response.failed` has the response's id, `error.code`, `error.message` and the next sequence number; its
`event:` line is left out where the stream has none. Behind a backend's own error it says the same
once more, since some clients read no other event. The connection is broken off behind it: an error
before a clean end is silent in .NET's SDKs, and a clean end without a closing frame in all of them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from meter.gateway.answer.usage import json_object
from meter.gateway.http import event_stream_error
from meter.patterns import lazy_pattern

RESPONSE_ENDS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
# One stream may hold several images, each closed by a frame of its own with its own usage.
IMAGE_ENDS = frozenset({"image_generation.completed", "image_edit.completed"})
# The types of the events that close a stream.
ENDS = RESPONSE_ENDS | IMAGE_ENDS | {"transcript.text.done", "speech.audio.done"}
_FAMILIES = ("response.", "image_generation.", "image_edit.", "transcript.", "speech.")
_MEDIA = (b"image_generation.", b"image_edit.", b"transcript.", b"speech.")
_TYPES = lazy_pattern(rb'"type"[ \t]*:[ \t]*"([a-z0-9_.-]+)"')
_KEPT = ("id", "object", "created_at", "model")
_REASON = lazy_pattern(rb'"finish_reason"[ \t]*:[ \t]*"')
_LATER_INDEX = lazy_pattern(rb'"index"[ \t]*:[ \t]*[1-9]')


@dataclass(slots=True)
class StreamFailure:
    """The failure of one stream, as far as its frames show what it must say.

    `response_id` names a response of whose stream nothing was seen; None where the stream is none of
    the Responses API. `has_choices` says that it is one of chat or completions, with as many as
    `choices`, `is_media` that it is one of images or audio. `is_named`: its frames have `event:` lines.
    """

    response_id: str | None = None
    has_choices: bool = False
    is_media: bool = False
    choices: int = 1
    is_named: bool = False
    _first: bytes = b""
    _last: bytes = b""
    _before_last: bytes = b""
    _is_open: bool = True  # whether a media stream has no end behind what has begun
    _begun: set[int] = field(init=False)
    _finished: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._begun = set(range(self.choices))

    def note(self, data: bytes, *, is_named: bool = False) -> None:
        """Take a frame's data. Most frames are parsed only if the stream fails."""
        self.is_named = self.is_named or is_named
        if not self._first and b'"response"' in data:
            self._first = data
        self._before_last, self._last = self._last, data
        if self.has_choices:
            if _REASON.search(data) or _LATER_INDEX.search(data):
                self._note_choices(json_object(data) or {})
        elif self.is_media:
            self._note_kinds(_TYPES.findall(data))

    def _note_choices(self, document: Mapping[str, object]) -> None:
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, dict) else None
            if isinstance(index, int):
                self._begun.add(index)
                if choice.get("finish_reason") is not None:
                    self._finished.add(index)

    def _note_kinds(self, kinds: Sequence[bytes]) -> None:
        if any(kind.endswith((b".completed", b".done")) for kind in kinds):
            self._is_open = False
        elif any(kind.startswith(_MEDIA) for kind in kinds):
            self._is_open = True

    @property
    def is_cut_short(self) -> bool:
        """Whether a stream that ended cleanly, but without a closing frame, had more to say."""
        if self.has_choices:
            return not self._begun <= self._finished
        if self.is_known:
            return self._is_open
        kind = str((json_object(self._last) or {}).get("type"))
        return kind.startswith(_FAMILIES) and kind not in ENDS

    @property
    def is_known(self) -> bool:
        """Whether it is known how such a stream ends."""
        return self.has_choices or self.is_media or self.response_id is not None

    def event(self, document: Mapping[str, object]) -> bytes:
        """The event for an error document, `{"error": {...}}`."""
        if self.response_id is None:
            return event_stream_error(document)
        error = document.get("error")
        words = error if isinstance(error, dict) else {}
        response = {
            "id": self.response_id,
            "object": "response",
            **self._seen_response(),
            "status": "failed",
            "error": {
                "code": str(words.get("code") or "server_error"),
                "message": str(words.get("message") or "The response failed."),
            },
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        event = response_event("response.failed", self._next_number(), response)
        return event if self.is_named or not self._last else event.partition(b"\n")[2]

    def _next_number(self) -> int:
        for data in (self._last, self._before_last):
            number = (json_object(data) or {}).get("sequence_number")
            if isinstance(number, int) and not isinstance(number, bool):
                return number + 1
        return 0

    def _seen_response(self) -> Mapping[str, object]:
        response = (json_object(self._first) or {}).get("response")
        if not isinstance(response, dict):
            return {}
        return {name: response[name] for name in _KEPT if response.get(name) is not None}


def response_event(kind: str, number: int, response: Mapping[str, object]) -> bytes:
    """An event of the Responses API that tells of the whole response."""
    event = {"type": kind, "sequence_number": number, "response": response}
    return b"event: %b\n%b" % (kind.encode(), event_stream_error(event))
