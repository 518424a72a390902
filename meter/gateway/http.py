"""Requests and answers as the front door sees them, whichever server they come through."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from meter.errors import CallerError, MethodNotAllowed
from meter.ports import Headers


class RequestBody(Protocol):
    """A request's body as it arrives. Both methods raise TooLarge (413, 408, or 400 when it is cut)."""

    async def read(self) -> bytes:
        """All of it."""
        ...

    async def next_part(self) -> bytes:
        """The next bytes; empty at the end. A cancelled call loses nothing."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A caller's HTTP request. `raw_path` is undecoded."""

    method: str
    raw_path: str
    query: str
    headers: Headers
    body: RequestBody


class CallerSink(Protocol):
    """Where a streamed answer's bytes go."""

    async def write(self, data: bytes) -> None:
        """Send bytes to the caller. Raises CallerGone."""
        ...


class Relay(Protocol):
    """Moves an answer's body to the caller and meters it."""

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the caller must not take the end for a clean one."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer whose body is whole."""

    status: int
    headers: Headers
    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamingAnswer:
    """An answer whose body is relayed as it comes."""

    status: int
    headers: Headers
    relay: Relay


def error_answer(exc: CallerError) -> Answer:
    """An error in the shape the OpenAI SDK reads: `{"error": {code, message, type, param}}`."""
    headers = [("content-type", "application/json")]
    if exc.status == 401:
        headers.append(("www-authenticate", 'Bearer error="invalid_token"'))
    if isinstance(exc, MethodNotAllowed):
        headers.append(("allow", ", ".join(exc.allowed)))
    if exc.retry_after_seconds is not None:
        # Rounded up, so that nobody comes back too early.
        headers.append(("retry-after", str(-int(-exc.retry_after_seconds // 1))))
        headers.append(("retry-after-ms", str(-int(-exc.retry_after_seconds * 1000 // 1))))
    body = json.dumps(error_document(exc)).encode()
    return Answer(status=exc.status, headers=tuple(headers), body=body)


def not_configured() -> Answer:
    """The answer of an app whose settings cannot be used."""
    return error_answer(
        CallerError(
            "This gateway is not configured yet: settings are missing or invalid. GET /readyz "
            "lists them, and so does `python -m meter check-config`.",
            status=503,
            code="ServiceUnavailable",
        )
    )


def internal_error() -> Answer:
    """The answer when the gateway itself fails."""
    return error_answer(
        CallerError("The gateway failed unexpectedly.", status=500, code="InternalServerError")
    )


def error_document(exc: CallerError) -> Mapping[str, object]:
    """The error as a JSON document."""
    return {
        "error": {
            "code": exc.code,
            "message": exc.message,
            "type": _error_type(exc.status),
            "param": None,
        }
    }


def event_stream_error(document: object) -> bytes:
    """An error inside an event stream that has begun: one frame, on which the SDK raises."""
    return b"data: %s\n\n" % json.dumps(document).encode()


def _error_type(status: int) -> str:
    if status == 429:
        return "rate_limit_error"
    return "invalid_request_error" if status < 500 else "server_error"
