"""Reads the errors that backends state, in a whole answer or as an event of a stream.

| shape                                                            | seen from                    |
|------------------------------------------------------------------|------------------------------|
| `{"error": {"code", "message", "type", "param", "innererror"}}`  | Azure OpenAI, OpenAI         |
| `{"type": "error", "error": {...}}`                              | Azure OpenAI (v1)            |
| `{"error": "text"}`                                              | proxies                      |
| `{"statusCode", "message"}`, `{"code", "message"}`               | API Management               |
| `{"type": "error", "code", "message"}`                           | OpenAI Responses             |
| `{"type": "response.failed", "response": {"error": {...}}}`      | Responses; `error` may be null |
| `event: error` with any data                                     | all, in streams              |

The status that an error names is a number, or follows from its code, its type, or its message, in
that order. A code is a number, a numeral or a word such as `too_many_requests`.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import cast

from meter.gateway.answer.sse import event_name, frame_data
from meter.gateway.answer.usage import json_object

MAX_MESSAGE_CHARS = 4_096
MAX_WORD_CHARS = 256
MAX_INNER_CHARS = 16_384

_FAILED = "response.failed"
_HINT = re.compile(rb'rror"|"message"|response\.failed')
_OTHER_RESPONSE = re.compile(rb'"type"[ \t]*:[ \t]*"response\.(?!failed|error)')
_TYPE_WITHIN = 200
_STATUS_MEMBERS = ("statusCode", "status_code", "status", "code")
_STATUS = re.compile(r"\s*([45][0-9]{2})(?![0-9])", re.ASCII)
_NO_LETTERS = re.compile(r"[^a-z]+")
_UNKNOWN_STATUS = 500
# The first that is part of a word decides: `invalid_api_key` before `invalid`.
_WORDS = {
    429: ("toomanyrequests", "ratelimit", "quota", "throttl", "usagelimit", "limitreached"),
    401: ("unauthorized", "authentication", "apikey", "permissiondenied"),
    403: ("forbidden", "accessdenied"),
    503: ("unavailable", "overload", "nocapacity"),
    504: ("gatewaytimeout",),
    408: ("requesttimeout",),
    500: ("servererror", "internal", "apierror", "modelerror", "timeout", "badgateway"),
    404: ("notfound",),
    400: (
        *("invalid", "badrequest", "contentfilter", "policy", "contextlength", "unsupported"),
        *("image", "toolarge", "toolong", "toosmall", "missing", "maxlength", "unprocessable"),
    ),
}
_EXACT_WORDS = {"tokens": 429, "requests": 429}  # OpenAI's types of a rate limit
_MESSAGES = (
    (429, re.compile(r"rate.?limit|too many requests|throttl|quota|\b429\b", re.IGNORECASE)),
    (503, re.compile(r"overloaded|unavailable|no capacity|\b503\b", re.IGNORECASE)),
)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = (
    r"([0-9]{1,9}(?:\.[0-9]{1,9})?)\s?"
    r"(milliseconds?|ms|seconds?|secs?|s|minutes?|mins?|m|hours?|h)(?![a-z])"
)
_WAIT_PART = re.compile(_PART, re.ASCII | re.IGNORECASE)
_WAIT = re.compile(
    rf"(\b(?:retry|again|wait)\b[^0-9.]{{0,40}})((?:{_PART},?\s?)+)", re.ASCII | re.IGNORECASE
)
_ACCOUNT = re.compile(
    r"[a-z0-9-]\.(?:openai|cognitiveservices|services\.ai)\.azure\.|[a-z0-9-]\.azure-api\.|"
    r"/subscriptions/[0-9a-f]",
    re.IGNORECASE,
)
# Anchored: a message may repeat the caller's own words further on.
_NO_DEPLOYMENT = re.compile(
    r"could not find an existing deployment|the api deployment for this resource does not exist",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class StatedError:
    """An error in a backend's own words, each bounded; `status` is the one that it names, if any."""

    message: str | None = None
    code: str | None = None
    kind: str | None = None
    param: str | None = None
    inner: Mapping[str, object] | None = None
    status: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether it says nothing but that something failed."""
        return self.message is None and self.code is None and self.status is None

    @property
    def likely_status(self) -> int:
        """The status to judge it by; an error that names none is the backend's own."""
        return self.status or _UNKNOWN_STATUS

    @property
    def wait_seconds(self) -> float | None:
        """The wait that the message asks for."""
        found = _WAIT.search(self.message or "")
        return _seconds(found[2]) or None if found else None

    @property
    def names_no_deployment(self) -> bool:
        """Whether the account says that it does not have the deployment."""
        is_named = _NO_DEPLOYMENT.match(self.message or "") is not None
        return is_named or _plain(self.code) == "deploymentnotfound"

    def message_with_wait(self, seconds: int) -> str | None:
        """The message with its wait replaced, so that it says what the headers say."""
        if self.message is None:
            return None
        return _WAIT.sub(
            lambda found: f"{found[1]}{seconds} seconds{found[2][len(found[2].rstrip(', ')) :]}",
            self.message,
        )

    @property
    def names_an_account(self) -> bool:
        """Whether any of its texts has the address of an account, or its id in Azure."""
        return any(_ACCOUNT.search(text) for text in self._texts)

    def mentions(self, secret: str) -> bool:
        """Whether any of its texts contains the secret."""
        return any(secret.lower() in text.lower() for text in self._texts)

    @property
    def _texts(self) -> list[str]:
        inner = json.dumps(self.inner, ensure_ascii=False) if self.inner else ""
        return list(filter(None, (self.message, self.code, self.kind, self.param, inner)))


def error_in_frame(frame: bytes) -> StatedError | None:
    """The error that an event states; None for any other event, at little cost."""
    name = event_name(frame) if b"event:" in frame else ""
    is_named = name in {"error", _FAILED}
    if not is_named and _HINT.search(frame) is None:
        return None
    data = frame_data(frame)
    if not is_named and _OTHER_RESPONSE.search(data, 0, _TYPE_WITHIN):
        return None  # it repeats the whole output: not parsed twice
    found = error_in_document(json_object(data))
    if found is None and is_named:
        return _text_error(data.decode(errors="replace"))
    return found


def error_in_body(body: bytes) -> StatedError | None:
    """The error that a whole answer states; None where it has none of the known shapes."""
    return error_in_document(json_object(body) or json_object(_without_bad_bytes(body)))


def error_in_document(document: Mapping[str, object] | None) -> StatedError | None:
    """The error that a JSON document states."""
    if not document:
        return None
    kind = document.get("type")  # of any JSON type
    if kind == _FAILED:
        response = document.get("response")
        members = response if isinstance(response, dict) else document
        return _error(members.get("error"), document) or StatedError()
    if document.get("error"):
        return _error(document["error"], document)
    if kind in ("error", "response.error") or _is_flat(document):
        return _error(document, document)
    return None


def _is_flat(document: Mapping[str, object]) -> bool:
    if "message" not in document or {"choices", "object", "item", "delta"} & document.keys():
        return False
    statuses = (_STATUS.match(_text(document.get(name)) or "") for name in _STATUS_MEMBERS)
    return bool(document.get("code")) or any(statuses)


def _error(error: object, document: Mapping[str, object]) -> StatedError | None:
    if not error:
        return None
    if not isinstance(error, dict):
        return _text_error(error if isinstance(error, str) else "", document)
    members = cast(Mapping[str, object], error)
    message, code, kind = (_text(members.get(name)) for name in ("message", "code", "type"))
    inner = members.get("innererror")
    is_kept = isinstance(inner, dict) and _size(inner) <= MAX_INNER_CHARS
    return StatedError(
        message=message and message[:MAX_MESSAGE_CHARS],
        code=code and code[:MAX_WORD_CHARS],
        kind=None if kind == "error" else kind and kind[:MAX_WORD_CHARS],
        param=(_text(members.get("param")) or "")[:MAX_WORD_CHARS] or None,
        inner=cast(Mapping[str, object], inner) if is_kept else None,
        status=_named_status(members, document),
    )


def _size(members: Mapping[str, object]) -> int:
    try:
        return len(json.dumps(members))
    except RecursionError:
        return MAX_INNER_CHARS + 1


def _text_error(text: str, document: Mapping[str, object] | None = None) -> StatedError:
    message = text.strip()[:MAX_MESSAGE_CHARS] or None
    return StatedError(message=message, status=_named_status({"message": message}, document or {}))


def _named_status(error: Mapping[str, object], document: Mapping[str, object]) -> int | None:
    return next(filter(None, _statuses(error, document)), None)


def _statuses(error: Mapping[str, object], document: Mapping[str, object]) -> Iterator[int | None]:
    """The statuses that an error names, the plainest first."""
    for members in (error, document):
        for name in _STATUS_MEMBERS:
            text = _text(members.get(name)) or ""
            yield int(found[1]) if (found := _STATUS.match(text)) else None
    inner = error.get("innererror")
    yield _status_of_word(error.get("code"))
    yield _status_of_word(error.get("type"))
    yield _status_of_word(inner.get("code")) if isinstance(inner, dict) else None
    yield _status_of_word(document.get("code"))
    message = _text(error.get("message")) or ""
    yield next((status for status, pattern in _MESSAGES if pattern.search(message)), None)


def _status_of_word(word: object) -> int | None:
    plain = _plain(word if isinstance(word, str) else None)
    if plain in _EXACT_WORDS:
        return _EXACT_WORDS[plain]
    return next((status for status, parts in _WORDS.items() if _has_any(plain, parts)), None)


def _has_any(text: str, parts: tuple[str, ...]) -> bool:
    return any(part in text for part in parts)


def _plain(word: str | None) -> str:
    """A word in one spelling: `TooManyRequests`, `too_many_requests` and `too-many-requests` are one."""
    return _NO_LETTERS.sub("", (word or "")[:MAX_WORD_CHARS].lower())


def _text(value: object) -> str | None:
    if isinstance(value, str):
        return value or None
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return str(value) if is_number else None


def _seconds(text: str) -> float:
    parts = _WAIT_PART.findall(text)
    return sum(float(number) * _UNITS[_unit(name.lower())] for number, name in parts)


def _unit(name: str) -> str:
    return "ms" if name in {"ms", "millisecond", "milliseconds"} else name[0]


def _without_bad_bytes(body: bytes) -> bytes:
    return body.decode(errors="replace").encode()
