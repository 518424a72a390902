"""Which headers cross the gateway, in each direction: those that are listed, and no others.

A backend gets what describes the request, its client and its trace. Credentials, identity, and
whatever could steer a backend or a proxy in front of it are the gateway's own. The caller gets what
describes the answer, its limits and its ids; where it came from only when that is exposed.
"""

import re
from urllib.parse import quote

from meter.ports import Headers

IMAGE_DEPLOYMENT = "x-ms-oai-image-generation-deployment"

_UPSTREAM = frozenset(
    {
        "accept",
        "content-type",
        "traceparent",
        "tracestate",
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
        "x-ms-client-request-id",
        "x-request-id",
    }
)
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
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
# What is sent as it is holds no `%`, and what is encoded always does: no two subjects look alike.
_PLAIN_SUBJECT = re.compile(
    r"[\x21-\x24\x26-\x7e](?:[\x20-\x24\x26-\x7e]*[\x21-\x24\x26-\x7e])?", re.ASCII
)


def upstream_headers(caller: Headers, subject: str, credentials: Headers) -> Headers:
    """The headers to send to a backend for a verified caller."""
    connection_named = _connection_named(caller)
    kept = [
        (name, value)
        for name, value in caller
        if name not in connection_named and _may_go_upstream(name, value)
    ]
    return (
        *kept,
        ("accept-encoding", "identity"),
        ("caller-subject", subject_header(subject)),
        *credentials,
    )


def downstream_headers(backend: Headers, *, with_origin: bool = False) -> Headers:
    """The headers of a backend's answer that the caller gets; the server sets the length.

    `with_origin`: also those that name the backend's region and deployments.
    """
    connection_named = _connection_named(backend)
    return tuple(
        (name, value)
        for name, value in backend
        if name not in connection_named
        and _is_sendable(value)
        and (
            name in _DOWNSTREAM
            or name.startswith(_DOWNSTREAM_PREFIXES)
            or (with_origin and (name in _ORIGIN or name.startswith(_ORIGIN_PREFIXES)))
        )
    )


def subject_header(subject: str) -> str:
    """The subject as a header value, from which percent-decoding gives it back.

    Unchanged when it is printable ASCII without `%` that neither begins nor ends with a space,
    otherwise percent-encoded UTF-8.
    """
    return subject if _PLAIN_SUBJECT.fullmatch(subject) else quote(subject, safe="")


def header(headers: Headers, name: str) -> str | None:
    """The first header of that (lower-case) name."""
    return next((value for key, value in headers if key == name), None)


def _may_go_upstream(name: str, value: str) -> bool:
    if not _is_sendable(value):
        return False  # or it would look like a backend's fault
    if "_" in name:
        return False  # CGI-like servers read `x_a` and `x-a` as one
    if name in _REQUEST_IDS:
        return _REQUEST_ID.fullmatch(value) is not None
    return name in _UPSTREAM or name.startswith(_UPSTREAM_PREFIXES)


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
