"""Which headers cross the gateway, in each direction: those that are listed, and no others.

A backend gets what describes the request, its client and its trace. Credentials, identity, and
whatever could steer a backend or a proxy in front of it are the gateway's own. The caller gets what
describes the answer, its limits and its ids; where it came from only when that is exposed.
"""

import re
from urllib.parse import quote

from meter.ports import Headers
from meter.trace import valid_traceparent

# The head that .NET reads from a worker has at most 65,536 bytes, status line and framing included.
MAX_ANSWER_BYTES = 61_440
# The gateway's own headers are far below the difference.
MAX_BACKEND_BYTES = MAX_ANSWER_BYTES - 2_048

IMAGE_DEPLOYMENT = "x-ms-oai-image-generation-deployment"
REQUEST_ID = "x-ms-client-request-id"
RETRY_COUNT = "x-stainless-retry-count"
TRACEPARENT, TRACESTATE = "traceparent", "tracestate"

_UPSTREAM = frozenset(
    {
        "accept",
        "content-type",
        TRACEPARENT,
        TRACESTATE,
        "user-agent",
        "x-ms-return-client-request-id",  # Azure's SDKs: asks for the id in the answer
        "x-ms-useragent",  # Azure's SDKs in browsers, which may not set `user-agent`
    }
)
_UPSTREAM_PREFIXES = ("openai-", "x-stainless-")
_REQUEST_IDS = frozenset(
    {
        "request-id",
        "x-client-request-id",
        "x-correlation-id",
        REQUEST_ID,
        "x-request-id",
    }
)
# What SDKs change when they send a request again.
_FLEETING = _REQUEST_IDS | {TRACEPARENT, TRACESTATE, RETRY_COUNT}
_DOWNSTREAM = frozenset(
    {
        "allow",
        "apim-request-id",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "policy-id",
        "retry-after",
        "retry-after-ms",
        "x-accel-buffering",  # Azure's hint to proxies not to collect a stream
        "x-content-type-options",
        "x-ms-client-request-id",
        "x-ms-error-code",
        "x-ms-rai-invoked",
        "x-ms-request-id",
        "x-request-id",
        "x-should-retry",
    }
)
_DOWNSTREAM_PREFIXES = ("openai-", "x-rate-limit-", "x-ratelimit-")
# They name a backend's region, deployments and sessions.
_ORIGIN = frozenset(
    {
        "x-ms-deployment-name",
        "x-ms-region",
        "x-ms-spillover-error",
        "x-ms-spillover-from-deployment",
    }
)
_ORIGIN_PREFIXES = ("azureml-model-",)
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
# What is sent as it is holds no `%`, and what is encoded always does: no two subjects look alike.
_PLAIN_SUBJECT = re.compile(
    r"[\x21-\x24\x26-\x7e](?:[\x20-\x24\x26-\x7e]*[\x21-\x24\x26-\x7e])?", re.ASCII
)


def upstream_headers(caller: Headers, subject: str, credentials: Headers) -> Headers:
    """The headers to send to a backend for a verified caller."""
    return (
        *_passed(caller),
        ("accept-encoding", "identity"),
        ("caller-subject", subject_header(subject)),
        *credentials,
    )


def lasting_headers(caller: Headers) -> Headers:
    """Those that go to a backend and stay the same when a client sends its request again."""
    return tuple(pair for pair in _passed(caller) if pair[0] not in _FLEETING)


def retry_count(caller: Headers) -> int:
    """How often the caller's SDK has retried."""
    text = header(caller, RETRY_COUNT) or ""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def traced(headers: Headers) -> Headers:
    """The caller's headers, less those of a trace that cannot be continued: its parent is not valid.

    Of two parents neither is (W3C Trace Context, section 3.2).
    """
    parents = [value for name, value in headers if name == TRACEPARENT]
    if len(parents) == 1 and valid_traceparent(parents[0]):
        return headers
    return tuple(each for each in headers if each[0] not in {TRACEPARENT, TRACESTATE})


def downstream_headers(backend: Headers, *, with_origin: bool = False) -> Headers:
    """The headers of a backend's answer that the caller gets; the server sets the length.

    `with_origin`: also those that name the backend's region and deployments. The largest are left out
    where all together would be more than the Functions host passes on.
    """
    connection_named = _connection_named(backend)
    kept = [
        (name, value)
        for name, value in backend
        if name not in connection_named
        and _is_sendable(value)
        and (
            name in _DOWNSTREAM
            or (name.startswith(_DOWNSTREAM_PREFIXES) and _TOKEN.fullmatch(name))
            or (with_origin and _is_origin(name))
        )
    ]
    size = sum(map(_size, kept))
    if size > MAX_BACKEND_BYTES:
        for largest in sorted(kept, key=_size, reverse=True):
            kept.remove(largest)
            size -= _size(largest)
            if size <= MAX_BACKEND_BYTES:
                break
    return tuple(kept)


def subject_header(subject: str) -> str:
    """The subject as a header value, from which percent-decoding gives it back.

    Unchanged when it is printable ASCII without `%` that neither begins nor ends with a space,
    otherwise percent-encoded UTF-8.
    """
    return subject if _PLAIN_SUBJECT.fullmatch(subject) else quote(subject, safe="")


def header(headers: Headers, name: str) -> str | None:
    """The first header of that (lower-case) name."""
    for key, value in headers:  # asked for some twenty times per call: a third of what `next` takes
        if key == name:
            return value
    return None


def _passed(caller: Headers) -> list[tuple[str, str]]:
    connection_named = _connection_named(caller)
    return [
        (name, value)
        for name, value in caller
        if name not in connection_named and _may_go_upstream(name, value)
    ]


def _may_go_upstream(name: str, value: str) -> bool:
    if not _is_sendable(value):
        return False  # or it would look like a backend's fault
    if "_" in name:
        return False  # CGI-like servers read `x_a` and `x-a` as one
    if name in _REQUEST_IDS:
        return _REQUEST_ID.fullmatch(value) is not None
    return name in _UPSTREAM or name.startswith(_UPSTREAM_PREFIXES)


def _is_origin(name: str) -> bool:
    is_model = name.startswith(_ORIGIN_PREFIXES) and _TOKEN.fullmatch(name) is not None
    return is_model or name in _ORIGIN


def _size(header: tuple[str, str]) -> int:
    """The bytes of a header's line."""
    return len(header[0]) + len(header[1]) + len(": \r\n")


def _is_sendable(value: str) -> bool:
    """Whether HTTP clients and the Functions host take the value: they refuse a message for others."""
    return value.isascii() and value.isprintable()


def _connection_named(headers: Headers) -> frozenset[str]:
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name == "connection"
        for token in value.split(",")
    )
