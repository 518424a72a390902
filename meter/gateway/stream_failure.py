"""How an event stream that cannot be finished says so: an error in its API's own form.

- Responses: `response.failed` with the response's id, `error.code`, `error.message` and the next
  sequence number.
- Others: `data: {"error": {"message", "type", "param", "code"}}`.

The connection is broken off behind it. An error before a clean end is silent in .NET's SDKs, and a
clean end without a closing frame in all of them.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from meter.gateway.answer.usage import json_object
from meter.gateway.http import event_stream_error

RESPONSE_ENDS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
# One stream may hold several images, each closed by a frame of its own with its own usage.
IMAGE_ENDS = frozenset({"image_generation.completed", "image_edit.completed"})
# The types of the events that close a stream.
ENDS = RESPONSE_ENDS | IMAGE_ENDS | {"transcript.text.done", "speech.audio.done"}
_FAMILIES = ("response.", "image_generation.", "image_edit.", "transcript.", "speech.")
_KEPT = ("id", "object", "created_at", "model")
_REASON = re.compile(rb'"finish_reason"[ \t]*:[ \t]*"')
_LATER_INDEX = re.compile(rb'"index"[ \t]*:[ \t]*[1-9]')


@dataclass(slots=True)
class StreamFailure:
    """The failure of one stream, as far as its frames tell what it must say.

    `response_id` names a response of whose stream nothing was seen; None where the stream is none of
    the Responses API. `has_choices` says that it is one of chat or completions.
    """

    response_id: str | None = None
    has_choices: bool = False
    _first: bytes = b""
    _last: bytes = b""
    _before_last: bytes = b""
    _choices: set[int] = field(default_factory=lambda: {0})
    _finished: set[int] = field(default_factory=set)

    def note(self, data: bytes) -> None:
        """Take a frame's data. Most frames are parsed only if the stream fails."""
        if not self._first and b'"response"' in data:
            self._first = data
        self._before_last, self._last = self._last, data
        if self.has_choices and (_REASON.search(data) or _LATER_INDEX.search(data)):
            self._note_choices(json_object(data) or {})

    def _note_choices(self, document: Mapping[str, object]) -> None:
        choices = document.get("choices")
        for choice in choices if isinstance(choices, list) else ():
            index = choice.get("index", 0) if isinstance(choice, dict) else None
            if isinstance(index, int):
                self._choices.add(index)
                if choice.get("finish_reason") is not None:
                    self._finished.add(index)

    @property
    def is_cut_short(self) -> bool:
        """Whether a stream that ended cleanly, but without a closing frame, had more to say."""
        if not self._last:
            return False
        if self.has_choices:
            is_counted = _is_usage(self._last) or _is_usage(self._before_last)
            return not is_counted and not self._choices <= self._finished
        kind = str((json_object(self._last) or {}).get("type"))
        is_known = self.response_id is not None or kind.startswith(_FAMILIES)
        return is_known and kind not in ENDS

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
        return response_event("response.failed", self._next_number(), response)

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


def _is_usage(data: bytes) -> bool:
    """Whether a frame of chat or completions only says what the whole text cost."""
    document = json_object(data) or {}
    return document.get("usage") is not None and not document.get("choices")
