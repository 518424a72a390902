"""Which headers cross the gateway, in each direction.

A backend gets the caller's headers without credentials, cookies, forwarding, steering and identity
headers. The caller gets the backend's headers without those of one connection (RFC 9110 section
7.6.1), cookies and locations.
"""

import re
from urllib.parse import quote

from meter.ports import Headers

_HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
_NOT_UPSTREAM = _HOP_BY_HOP | frozenset(
    {
        "accept-encoding",
        "api-key",
        "authorization",
        "caller-subject",
        "content-length",
        "cookie",
        "expect",
        "forwarded",
        "host",
        "total-tokens",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-functions-key",
        "x-real-ip",
    }
)
_NOT_UPSTREAM_PREFIXES = (
    "x-ms-",
    "ocp-apim-",
    "x-forwarded-",
    "x-meter-",
    "x-original-",
    "x-arr-",
    "x-appservice-",
    "x-site-",
    "x-waws-",
    "x-azure-",
    "client-ip",
    "disguised-host",
    "was-default-hostname",
)
_REQUEST_IDS = frozenset(
    {"x-ms-client-request-id", "x-request-id", "request-id", "x-correlation-id"}
)
_NOT_DOWNSTREAM = _HOP_BY_HOP | frozenset(
    {"content-length", "date", "location", "server", "set-cookie", "total-tokens"}
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
_PLAIN_SUBJECT = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?", re.ASCII)


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


def downstream_headers(backend: Headers) -> Headers:
    """The headers of a backend's answer that the caller gets; the server sets the length."""
    connection_named = _connection_named(backend)
    return tuple(
        (name, value)
        for name, value in backend
        if name not in _NOT_DOWNSTREAM
        and name not in connection_named
        and not name.startswith("x-meter-")
    )


def subject_header(subject: str) -> str:
    """The subject as a header value: unchanged when plain ASCII, otherwise percent-encoded UTF-8."""
    return subject if _PLAIN_SUBJECT.fullmatch(subject) else quote(subject, safe="")


def header(headers: Headers, name: str) -> str | None:
    """The first header of that (lower-case) name."""
    return next((value for key, value in headers if key == name), None)


def _may_go_upstream(name: str, value: str) -> bool:
    if not (value.isascii() and value.isprintable()):
        return False  # a value that cannot be sent must not look like a backend's fault
    if name in _REQUEST_IDS:
        return _REQUEST_ID.fullmatch(value) is not None
    return name not in _NOT_UPSTREAM and not name.startswith(_NOT_UPSTREAM_PREFIXES)


def _connection_named(headers: Headers) -> frozenset[str]:
    return frozenset(
        token.strip().lower()
        for name, value in headers
        if name == "connection"
        for token in value.split(",")
    )
