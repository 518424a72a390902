"""Requests and answers as the front door sees them, independent of the server."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Protocol
from uuid import UUID

from msgspec import Struct, field, to_builtins
from msgspec.structs import force_setattr, replace

from meter.errors import (
    MAX_TOLD_SECONDS,
    CallerError,
    EncodingRefused,
    ErrorKind,
    MethodNotAllowed,
    NotServed,
    TooLarge,
    Unauthenticated,
    UpgradeRefused,
)
from meter.gateway.headers import by_name, size_of
from meter.ports import Headers
from meter.usage import Principal

MAX_QUOTED = 100


class RequestBody(Protocol):
    """A request's body as it arrives. Both methods raise TooLarge (413, 408, or 400 when it is cut)."""

    async def read(self) -> bytes:
        """All of it."""

    async def next_part(self) -> bytes:
        """The next bytes; empty at the end. Cancelling the call loses no bytes."""


class RequestLimits(Struct, frozen=True, kw_only=True):
    """Bounds on one request: its headers, its body, and the time in which the body must arrive.

    As many refused requests at once as `max_refused_uploads` may go on sending their bodies, which are
    dropped.
    """

    max_headers: int
    max_header_bytes: int
    max_body_bytes: int
    read_timeout_seconds: float
    max_refused_uploads: int


def _nothing() -> None:
    """What is done where nobody waits for it."""


async def _never() -> None:
    """How long a caller stays of whom nothing else is known."""
    await asyncio.get_running_loop().create_future()


class Request(Struct, frozen=True, kw_only=True):
    """A caller's HTTP request. `raw_path` is undecoded, `named` has the first header of each name.

    `left` returns once the caller has closed its connection, and says nothing before the body's end.
    """

    method: str
    raw_path: str
    query: str
    headers: Headers
    body: RequestBody
    left: Callable[[], Awaitable[None]] = _never
    named: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        force_setattr(self, "named", by_name(self.headers))

    def check_headers(self, limits: RequestLimits) -> None:
        """Raise TooLarge (431, RFC 6585 section 5) for more or larger headers than are accepted."""
        size = size_of(self.headers)
        if len(self.headers) > limits.max_headers or size > limits.max_header_bytes:
            raise TooLarge("The request has too many or too large headers.", status=431)


class Arrival(Struct, frozen=True, kw_only=True):
    """The request of a verified caller: the id of its call, and when it came, also in monotonic seconds."""

    event_id: UUID
    request: Request
    principal: Principal
    came_at: datetime
    came: float


class CallerSink(Protocol):
    """Takes a streamed answer's bytes."""

    async def write(self, data: bytes) -> None:
        """Send bytes to the caller. Raises CallerGone."""

    @property
    def put(self) -> Callable[[bytes], None] | None:
        """Sends some bytes at once; None where `write` might wait, or do more."""


class Relay(Protocol):
    """Moves an answer's body to the caller and meters it."""

    async def run(self, sink: CallerSink) -> None:
        """Relay to the end. Raises AnswerCut when the connection must be broken off."""


class Answer(Struct, frozen=True, kw_only=True):
    """An answer whose body is complete; `is_served` says that a backend served it, without an error, and
    `is_events` that it is an event stream.

    Who sends it calls `delivered` once the connection has taken all of it, and `release` behind that,
    or when it never will be sent: until then its call holds its slot.
    """

    status: int
    headers: Headers
    body: bytes
    is_served: bool = False
    is_events: bool = False
    delivered: Callable[[], None] = _nothing
    release: Callable[[], None] = _nothing


class StreamingAnswer(Struct, frozen=True, kw_only=True):
    """An answer whose body is streamed."""

    status: int
    headers: Headers
    relay: Relay


def error_answer(exc: CallerError) -> Answer:
    """An error in the shape the OpenAI SDK reads: `{"error": {code, message, type, param}}`."""
    headers = [("content-type", "application/json"), ("x-meter-error", str(exc.kind))]
    if isinstance(exc, Unauthenticated):
        headers.append(("www-authenticate", exc.challenge))
    if isinstance(exc, MethodNotAllowed):
        headers.append(("allow", ", ".join(exc.allowed)))
    if isinstance(exc, EncodingRefused):
        headers.append(("accept-encoding", "identity"))  # RFC 9110 section 15.5.16
    if isinstance(exc, UpgradeRefused):
        # RFC 9110 section 15.5.22: the answer names the protocol that is spoken here.
        headers.append(("upgrade", "HTTP/1.1"))
        headers.append(("connection", "upgrade, close"))
    headers += wait_headers(exc.told_wait_seconds)
    if exc.told_to_retry is not None:
        headers.append(("x-should-retry", exc.told_to_retry))
    error = error_document(exc.message, code=exc.code, status=exc.status)["error"]
    body = json.dumps({"error": {**error, **exc.words}}).encode()
    return Answer(status=exc.status, headers=tuple(headers), body=body)


def wait_headers(seconds: int | None) -> Headers:
    """The same wait for clients that read either header; none for None."""
    if seconds is None:
        return ()
    return (("retry-after", str(seconds)), ("retry-after-ms", str(seconds * 1000)))


def marked[A: Answer | StreamingAnswer](answer: A, event_id: UUID) -> A:
    """The answer as a caller gets it: with its call's id, and not for any cache to keep unless it may."""
    text = to_builtins(event_id)  # as `str`, but in C
    headers = (*answer.headers, ("x-meter-event-id", text))
    if "cache-control" not in dict(headers):
        headers = (*headers, ("cache-control", "no-store"))
    return replace(answer, headers=headers)


def quoted(value: object) -> str:
    """A caller's word as messages repeat it: on one line, in ASCII, and short."""
    text = value if isinstance(value, str) else json.dumps(value)
    return ascii(text if len(text) <= MAX_QUOTED else f"{text[:MAX_QUOTED]}...")


def unknown_deployment(name: object) -> NotServed:
    """The error for a deployment that no backend has."""
    return NotServed(
        f"The API deployment {quoted(name)} does not exist here. GET /openai/v1/models lists those "
        "that do.",
        code="DeploymentNotFound",
        kind=ErrorKind.DEPLOYMENT,
    )


def error_document(
    message: str, *, code: str, status: int = 500
) -> Mapping[str, Mapping[str, object]]:
    """An error in the shape the OpenAI SDK reads, as a JSON document."""
    kind = "invalid_request_error" if status < 500 else "server_error"
    kind = "rate_limit_error" if status == 429 else kind
    return {"error": {"message": message, "type": kind, "param": None, "code": code}}


def event_stream_error(document: object) -> bytes:
    """An error inside an event stream that has begun: one frame, on which the SDK raises."""
    return b"data: %s\n\n" % json.dumps(document).encode()


NOT_CONFIGURED = CallerError(
    "This gateway is not configured yet: settings are missing or invalid. GET /readyz lists them, "
    "as does `python -m meter check-config`.",
    status=503,
    code="ServiceUnavailable",
    kind=ErrorKind.SETTINGS,
    retry_after_seconds=MAX_TOLD_SECONDS,
)
NO_KEYS = CallerError(
    "Tokens cannot be verified now.",
    status=503,
    code="ServiceUnavailable",
    kind=ErrorKind.KEYS,
    retry_after_seconds=5,
)
INTERNAL_ERROR = CallerError(
    "The gateway failed unexpectedly.", status=500, code="InternalServerError"
)
