"""Finds the error that an answer states, in a whole body or in an event of a stream.

| shape                                                              | seen from                  |
|--------------------------------------------------------------------|----------------------------|
| `{"error": {"code", "message", "type", "param", "innererror"}}`    | Azure OpenAI, OpenAI       |
| `{"type": "error", "error": {...}}`                                | Azure OpenAI (v1)          |
| `{"type": "error", "code", "message"}`                             | OpenAI Responses           |
| `{"type": "response.failed", "response": {"error": {...}}}`        | Responses; `error` may be null |
| `{"statusCode", "message"}`, `{"code", "message"}`                 | API Management             |
| `{"fault": {"faultstring", "detail": {"errorcode"}}}`              | gateways                   |
| `{"error": "text"}`, a number, a list; `{"errors": [...]}`         | proxies                    |
| `{"exception": ...}`, `{"errorCode"}`, `{"object": "error"}`       | proxies, model servers     |
| `{"type", "title", "status", "detail"}` (RFC 9457)                 | web frameworks             |
| `{"detail"}` or `{"message"}` with nothing else                    | web frameworks             |
| `{"choices": [{"error": {...}}]}`                                  | proxies                    |
| any of these in a list; in a stream, without `data:`               | proxies                    |
| `event: error` with any data; a first event that is a status line  | all, in streams            |

Names of members are read in any case. An answer that has output or usage is no error, whatever else
it says, and neither is one with the members of a known answer but for its `error`.
"""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator, Mapping
from typing import cast

from meter.gateway.answer.reading.counts import read_usage
from meter.gateway.answer.reading.members import decoded_json
from meter.gateway.answer.sse import event_name, frame_data
from meter.gateway.answer.stated_error import (
    MAX_MESSAGE_CHARS,
    MAX_WORD_CHARS,
    StatedError,
    status_of_message,
    status_of_number,
    status_of_word,
    text_of,
)
from meter.gateway.answer.usage import json_object
from meter.patterns import lazy_pattern
from meter.usage import NO_USAGE

MAX_INNER_CHARS = 16_384
_MAX_DEPTH = 3
_MAX_TEXT_BYTES = 4 * MAX_MESSAGE_CHARS
_MAX_WORDS_OF_A_CODE = 4

_FAILED = "response.failed"
_ERROR_EVENTS = frozenset({"error", "exception", "fault", "response.error", _FAILED})
_ERROR_TYPES = ("error", "response.error")  # `in` takes values of any kind
# An event of a known kind may repeat much output: it is not parsed twice.
_KNOWN_KIND = (
    rb"(?:response\.(?!failed|error)|transcript\.|speech\.|image_generation\.|image_edit\.)[a-z_.]+"
)
_KNOWN_TYPE = lazy_pattern(rb'"type"[ \t]*:[ \t]*"' + _KNOWN_KIND)
_KNOWN_FRAME = lazy_pattern(
    rb"(?:event: ?" + _KNOWN_KIND + rb"\r?\n)?data: ?"
    rb'(?:\[DONE\]|\{[ \t]*"type"[ \t]*:[ \t]*"' + _KNOWN_KIND + rb")"
)
_TYPE_WITHIN = 200
# Members of known answers. Where one stands, only a member `error` makes an error.
_KNOWN_ANSWER = lazy_pattern(
    rb'"(?:choices|output|data|text|object)"[ \t\r\n]*+:[ \t\r\n]*+(?!null|"error")'
)
_ERROR_MEMBER = lazy_pattern(rb'rror"[ \t\r\n]*+:[ \t\r\n]*+(?!null|\{\}|\[\])')
_CONTENT = frozenset(
    {"choices", "data", "delta", "item", "output", "part", "response", "text", "usage"}
)

_HOLDERS = ("error", "errors", "fault", "exception")
_MESSAGES_OF = (
    *("message", "errormessage", "error_message", "exceptionmessage", "faultstring", "detail"),
    *("msg", "error_msg", "errormsg", "error_description", "description", "title"),
)
_CODES_OF = ("code", "errorcode", "error_code")
_STATUSES_OF = (
    *("statuscode", "status_code", "httpstatus", "http_status", "httpstatuscode", "status"),
    *_CODES_OF,
)
# Only an error has them.
_TELLING = ("errorcode", "error_code", "exceptiontype", "exceptionmessage")
_BARE = frozenset({"message", "errormessage", "error_message", "exceptionmessage", "detail"})
# What may stand beside them in a document that is nothing but an error.
_BESIDE = frozenset(
    (*_MESSAGES_OF, *_STATUSES_OF, "type", "instance", "object", "param", "path", "timestamp")
) | frozenset(
    {
        "activityid",
        "requestid",
        "request_id",
        "traceid",
        "trace_id",
        "correlationid",
        "success",
        "ok",
    }
)
_BAD = lazy_pattern(r"error|exception|fail|about:|/", re.IGNORECASE)  # RFC 9457: a type is a URI

_FIELD = lazy_pattern(rb"(?:data|event|id|retry)[ \t]*(?::|$)|:")
_STATUS_LINE = lazy_pattern(
    r"\W*(?:error\W{1,3})?(?:http[ /0-9.]*\s)?\s*([45][0-9]{2})\b", re.ASCII | re.IGNORECASE
)
# As proxies word it, after `The service is` or the like.
_STATUS_NAME = lazy_pattern(
    r"\W*(?:(?:[\w'-]{1,20} ){0,2}(?:too many requests|rate.?limit|throttl|quota|overload|busy|"
    r"internal (?:server )?error|bad gateway|gateway time-?out|timed out|timeout|unavailable|"
    r"upstream|unauthorized|forbidden|not found|bad request)|error\b|[a-z.]{0,40}exception\b)",
    re.IGNORECASE,
)


def error_in_frame(frame: bytes, *, has_output: bool = False) -> StatedError | None:
    """The error that an event states; None for any other event, at little cost.

    After output a text or a lone message may be anything.
    """
    is_comment = frame[:1] == b":" and b"data" not in frame and b"event" not in frame
    if is_comment or _KNOWN_FRAME.match(frame):
        return None
    name = event_name(frame).lower() if b"event:" in frame else ""
    data = frame_data(frame)
    if name in _ERROR_EVENTS:
        return _named_error(data)
    if _is_ordinary(data):
        return None
    data = data.strip() or _unframed(frame)
    is_json = data[:1] in {b"{", b"["}
    if is_json and (document := decoded_json(data)) is not None:
        return _error_in(document, may_be_bare=not has_output)
    text = _text_in(data)
    is_status = _STATUS_LINE.match(text) or _STATUS_NAME.match(text)
    return _text_error(text) if is_status and not has_output else None


def error_in_body(body: bytes) -> StatedError | None:
    """The error in the body of an answer whose status says that it is one; None for a page."""
    document = decoded_json(body)
    if isinstance(document, dict | list):
        return _error_in(document, may_be_bare=True)
    text = _text_in(body)
    return _text_error(text) if text and text[0] not in "<{[" else None


def error_in_served(body: bytes) -> StatedError | None:
    """The error in a whole JSON answer whose status says that it is none.

    A response object is none: what has failed is stored, and can be read.
    """
    if _KNOWN_ANSWER.search(body) and not _ERROR_MEMBER.search(body):
        return None  # nearly every answer
    document = decoded_json(body)
    if isinstance(document, dict) and (
        document.get("object") == "response" or has_output(document)
    ):
        return None
    return _error_in(document, may_be_bare=True)


def error_in_document(
    document: Mapping[str, object] | None, *, may_be_bare: bool = True
) -> StatedError | None:
    """The error that a JSON object states."""
    if not document:
        return None
    kind, members = document.get("type"), _lowered(document)
    if kind == _FAILED:
        response = document.get("response")
        inside = response if isinstance(response, dict) else document
        return _error(inside.get("error"), document) or StatedError()
    if kind not in _ERROR_TYPES and isinstance(kind, str) and kind.startswith("response."):
        return None
    is_answer = any(members.get(name) is not None for name in _CONTENT)
    for name in _HOLDERS[:1] if is_answer else _HOLDERS:
        if (found := _error(members.get(name), members)) is not None:
            return found
    if kind in _ERROR_TYPES or (not is_answer and _is_flat(members, may_be_bare=may_be_bare)):
        return _error(document, members)
    return _error_in_choices(document, members)


def has_output(document: Mapping[str, object]) -> bool:
    """Whether an answer, or an event, has any output or counted usage: then it is charged."""
    response = document.get("response")
    members = cast(Mapping[str, object], response) if isinstance(response, dict) else document
    usage = members.get("usage")
    if isinstance(usage, dict) and usage and read_usage(usage) != NO_USAGE:
        return True
    choices = members.get("choices")
    return (
        any(isinstance(members.get(name), list) and members[name] for name in ("output", "data"))
        or bool(isinstance(members.get("text"), str) and members["text"])
        or any(map(_has_content, choices if isinstance(choices, list) else ()))
    )


def _has_content(choice: object) -> bool:
    if not isinstance(choice, dict):
        return False
    parts = [choice.get("delta"), choice.get("message")]
    said = [part for part in parts if isinstance(part, dict)]
    return bool(choice.get("text")) or any(
        value for part in said for name, value in part.items() if name != "role"
    )


def _is_ordinary(data: bytes) -> bool:
    """Whether an event is one of the known kinds, without an error beside its content."""
    if b'"choices"' in data:
        return b'rror"' not in data
    return _KNOWN_TYPE.search(data, 0, _TYPE_WITHIN) is not None


def _named_error(data: bytes) -> StatedError:
    """The error of an event that is one by its name."""
    document = json_object(data)
    found = error_in_document(document)
    if found is None and document:
        found = _error(document, document)
    if found is None or (found.is_empty and document and document.get("type") != _FAILED):
        return _text_error(_text_in(data))
    return found


def _unframed(frame: bytes) -> bytes:
    """What stands where an event should: JSON or text without a field."""
    text = frame.removeprefix(b"\xef\xbb\xbf").strip()
    return b"" if _FIELD.match(text) else text


def _error_in(document: object, *, may_be_bare: bool) -> StatedError | None:
    if isinstance(document, list):
        document = document[0] if document else None
    is_object = isinstance(document, dict)
    members = cast(Mapping[str, object], document) if is_object else None
    return error_in_document(members, may_be_bare=may_be_bare)


def _error_in_choices(
    document: Mapping[str, object], members: Mapping[str, object]
) -> StatedError | None:
    choices = document.get("choices")
    errors = (
        _error(choice.get("error"), members)
        for choice in (choices if isinstance(choices, list) else ())
        if isinstance(choice, dict)
    )
    return next(filter(None, errors), None)


def _is_flat(members: Mapping[str, object], *, may_be_bare: bool) -> bool:
    """Whether a document is an error itself: it has a code or a status, or a message and no more."""
    kind = members.get("object")
    if kind is not None:
        return kind == "error"
    if any(members.get(name) for name in _TELLING):
        return True
    numbers = [_number(members.get(name)) for name in _STATUSES_OF]
    is_good = members.get("success") is True or members.get("ok") is True
    if is_good or any(number is not None and number < 400 for number in numbers):
        return False  # `{"code": 0, "message": "ok"}`
    statuses = (status_of_number(members.get(name)) for name in _STATUSES_OF)
    is_alone = members.keys() <= _BESIDE
    if bool(members.get("code")) or any(statuses):
        return _message(members) is not None or is_alone
    is_bare = bool(members.keys() & _BARE) or {"title", "type"} <= members.keys()
    is_said = is_bare and _message(members) is not None
    is_bad = all(_sounds_bad(members.get(name)) for name in ("type", "status"))
    return may_be_bare and is_alone and is_said and is_bad


def _sounds_bad(value: object) -> bool:
    text = text_of(value) or "error"
    return text.isdecimal() or _BAD.search(text) is not None


def _error(error: object, document: Mapping[str, object]) -> StatedError | None:
    """The error that a value is; `document` is the one around it."""
    if isinstance(error, list):
        error = next(filter(None, error), None)
    if not error:
        return None
    if not isinstance(error, dict):
        return _text_error(text_of(error) or "", document)
    members = _lowered(error)
    if not any(members.values()):
        return None
    inside = members.get("error")
    if isinstance(inside, dict) and _message(members) is None and _code(members) is None:
        members = _lowered(inside)
    message, code = _message(members) or _message(document), _code(members)
    kind, inner = text_of(members.get("type")), members.get("innererror")
    is_kept = isinstance(inner, dict) and _size(inner) <= MAX_INNER_CHARS
    return StatedError(
        message=message and message[:MAX_MESSAGE_CHARS],
        code=code and code[:MAX_WORD_CHARS],
        kind=None if kind == "error" else kind and kind[:MAX_WORD_CHARS],
        param=_param(members),
        inner=cast(Mapping[str, object], inner) if is_kept else None,
        status=_named_status(members, document),
    )


def _text_error(text: str, document: Mapping[str, object] | None = None) -> StatedError:
    message = text.strip()[:MAX_MESSAGE_CHARS] or None
    line, name = _STATUS_LINE.match(text), _STATUS_NAME.match(text)
    # `TooManyRequests` is a word; a sentence is not.
    is_word = message is not None and len(message.split()) <= _MAX_WORDS_OF_A_CODE
    word = name[0] if name else message if is_word else None
    named = (
        int(line[1]) if line else _named_status({"message": message, "code": word}, document or {})
    )
    return StatedError(message=message, status=named)


def _named_status(error: Mapping[str, object], document: Mapping[str, object]) -> int | None:
    return next(filter(None, _statuses(error, document)), None)


def _statuses(error: Mapping[str, object], document: Mapping[str, object]) -> Iterator[int | None]:
    """The statuses that an error names, the plainest first."""
    for members in (error, document):
        for name in _STATUSES_OF:
            yield status_of_number(members.get(name))
    inner = error.get("innererror")
    code = _code(error)
    yield status_of_number(code)
    yield status_of_word(code)
    yield status_of_word(error.get("type"))
    yield status_of_word(inner.get("code")) if isinstance(inner, dict) else None
    yield status_of_word(document.get("code"))
    yield status_of_message(_message(error) or _message(document) or "")


def _lowered(members: Mapping[str, object]) -> dict[str, object]:
    """The members by their names in lower case."""
    return {name.lower(): value for name, value in members.items()}


def _message(members: Mapping[str, object], depth: int = _MAX_DEPTH) -> str | None:
    said = (_said(members.get(name), depth) for name in _MESSAGES_OF)
    return next(filter(None, said), None)


def _said(value: object, depth: int) -> str | None:
    """A text, also where it is that of a list's first item, as validators write it, or nested."""
    if isinstance(value, list):
        value = value[0] if value else None
    if isinstance(value, dict):
        return _message(_lowered(value), depth - 1) if depth else None
    return text_of(value)


def _code(members: Mapping[str, object]) -> str | None:
    inside = (members.get(name) for name in ("detail", "message"))
    places = [members, *(_lowered(each) for each in inside if isinstance(each, dict))]
    return next(filter(None, (text_of(place.get(n)) for place in places for n in _CODES_OF)), None)


def _param(members: Mapping[str, object]) -> str | None:
    """The member that is refused; validators name the path to each in its `loc`."""
    detail = members.get("detail")
    items = detail if isinstance(detail, list) else ()
    paths = [item.get("loc") for item in items if isinstance(item, dict)]
    located = [".".join(map(str, path)) for path in paths if isinstance(path, list)]
    text = text_of(members.get("param")) or ", ".join(located)
    return text[:MAX_WORD_CHARS] or None


def _number(value: object) -> int | None:
    text = text_of(value) or ""
    return int(text) if text.isdecimal() and len(text) < 10 else None


def _size(members: Mapping[str, object]) -> int:
    try:
        return len(json.dumps(members))
    except RecursionError:
        return MAX_INNER_CHARS + 1


def _text_in(data: bytes) -> str:
    """A short text on one line; empty where it is none."""
    try:
        # Incremental: the cut may go through a character.
        is_whole = len(data) <= _MAX_TEXT_BYTES
        text = getincrementaldecoder("utf-8")().decode(data[:_MAX_TEXT_BYTES], final=is_whole)
    except UnicodeDecodeError:
        return ""
    text = " ".join(text.split()).strip('"')
    return text if text.isprintable() else ""
