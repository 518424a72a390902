"""How an event stream that cannot be finished says so: an error in its API's own form.

- Responses: `response.failed` with the response's id, `error.code`, `error.message` and the next
  sequence number.
- Others: `data: {"error": {"message", "type", "param", "code"}}`.

The connection is broken off behind it. An error before a clean end is silent in .NET's SDKs, and a
clean end without a closing frame in all of them.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from meter.gateway.answer.usage import json_object
from meter.gateway.http import event_stream_error

_KEPT = ("id", "object", "created_at", "model")


@dataclass(slots=True)
class StreamFailure:
    """The failure of one stream, as far as its frames tell what it must say.

    `response_id` names a response of whose stream nothing was seen; None where the stream is none of
    the Responses API. `has_ends` says that the API closes every stream that succeeds.
    """

    response_id: str | None = None
    has_ends: bool = False
    _first: bytes = b""
    _last: bytes = b""
    _before_last: bytes = b""

    def note(self, data: bytes) -> None:
        """Take a frame's data. It is parsed only if the stream fails."""
        if not self._first:
            self._first = data
        self._before_last, self._last = self._last, data

    @property
    def is_cut_short(self) -> bool:
        """Whether a stream that ended cleanly, but without a closing frame, had more to say."""
        if not self.has_ends or not self._last:
            return False
        return self.response_id is not None or not (
            _ends_chat(self._last) or _ends_chat(self._before_last)
        )

    def event(self, document: Mapping[str, object]) -> bytes:
        """The event for an error document, `{"error": {...}}`."""
        if self.response_id is None:
            return event_stream_error(document)
        error = document.get("error")
        words = error if isinstance(error, dict) else {}
        event = {
            "type": "response.failed",
            "sequence_number": self._next_number(),
            "response": {
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
            },
        }
        return b"event: response.failed\n" + event_stream_error(event)

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


def _ends_chat(data: bytes) -> bool:
    """Whether a frame of chat or completions says that the text has ended, or what it cost."""
    document = json_object(data) or {}
    choices = document.get("choices")
    has_reason = isinstance(choices, list) and any(
        isinstance(choice, dict) and choice.get("finish_reason") is not None for choice in choices
    )
    return has_reason or document.get("usage") is not None
