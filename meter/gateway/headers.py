"""Which headers cross the gateway, in each direction: those that are listed, and no others.

A backend gets what describes the request, its client and its trace. Credentials, identity, and
whatever could steer a backend or a proxy in front of it are the gateway's own. The caller gets what
describes the answer, its limits and its ids; where it came from only when that is exposed.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from itertools import chain, compress
from operator import itemgetter
from urllib.parse import quote

from meter.patterns import lazy_pattern
from meter.ports import Headers
from meter.trace import valid_traceparent

# The head that .NET reads from a worker has at most 65,536 bytes, status line and framing included.
MAX_ANSWER_BYTES = 61_440
# The gateway's own headers are far below the difference.
MAX_BACKEND_BYTES = MAX_ANSWER_BYTES - 2_048

MAX_CACHED_LISTS = 128  # of names: each kind of client has its own

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
_TOKEN = lazy_pattern(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", re.ASCII)  # RFC 9110 section 5.6.2
_REQUEST_ID = lazy_pattern(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
# What is sent as it is holds no `%`, and what is encoded always does: no two subjects look alike.
_PLAIN_SUBJECT = lazy_pattern(
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


def retry_count(caller: Mapping[str, str]) -> int:
    """How often the caller's SDK has retried, by its headers' `by_name`."""
    text = caller.get(RETRY_COUNT)
    if text is None:
        return 0
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0


def traced(headers: Headers, named: Mapping[str, str]) -> Headers:
    """The caller's headers, less those of a trace that cannot be continued: its parent is not valid.

    Of two parents neither is (W3C Trace Context, section 3.2). `named` are the headers' `by_name`.
    """
    parent = named.get(TRACEPARENT)
    if parent is None and TRACESTATE not in named:
        return headers
    if valid_traceparent(parent) and names_of(headers).count(TRACEPARENT) == 1:
        return headers
    return tuple(each for each in headers if each[0] not in {TRACEPARENT, TRACESTATE})


def downstream_headers(backend: Headers, *, with_origin: bool = False) -> Headers:
    """The headers of a backend's answer that the caller gets; the server sets the length.

    `with_origin`: also those that name the backend's region and deployments. The largest are left out
    where all together would be more than the Functions host passes on.
    """
    kept = _crossing(backend, _may_tell_its_origin if with_origin else _may_go_downstream)
    size = size_of(kept) + len(": \r\n") * len(kept)
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
    """The first header of that (lower-case) name. Who asks for several takes `by_name` instead."""
    for key, value in headers:
        if key == name:
            return value
    return None


def by_name(headers: Headers) -> Mapping[str, str]:
    """The first header of each name: as long to make as three searches, of which a call needs ten."""
    return dict(reversed(headers))


def names_of(headers: Headers) -> list[str]:
    """The names, in order."""
    return list(map(_name_of, headers))


def size_of(headers: Iterable[tuple[str, str]]) -> int:
    """The characters of all names and values."""
    return sum(map(len, chain.from_iterable(headers)))


_NO_NAMES: frozenset[str] = frozenset()
_name_of: Callable[[tuple[str, str]], str] = itemgetter(0)


def _crossing(headers: Headers, may_cross: Callable[[str], bool]) -> list[tuple[str, str]]:
    """The headers whose names may cross, unless `connection` names them or they cannot be sent.

    An SDK sends 17 headers and Azure OpenAI 20, with the same names each time: the names are judged
    once, and the values all together, which takes a third of judging each header.
    """
    names = tuple(map(_name_of, headers))
    which, connection = _which_cross(names, may_cross)
    kept = list(compress(headers, which))
    hops = _NO_NAMES if connection is None else _listed(tuple(compress(headers, connection)))
    if hops.isdisjoint(names) and _is_sendable("".join(chain.from_iterable(kept))):
        return kept
    return [(name, value) for name, value in kept if name not in hops and _is_sendable(value)]


@lru_cache(MAX_CACHED_LISTS)
def _which_cross(
    names: tuple[str, ...], may_cross: Callable[[str], bool]
) -> tuple[tuple[bool, ...], tuple[bool, ...] | None]:
    """Which of the headers may cross, and which are `connection`, if any is."""
    connection = tuple(name == "connection" for name in names)
    return tuple(map(may_cross, names)), connection if any(connection) else None


def _passed(caller: Headers) -> list[tuple[str, str]]:
    passed = _crossing(caller, _may_go_upstream)
    if _REQUEST_IDS.isdisjoint(map(_name_of, passed)):
        return passed
    return [
        (name, value)
        for name, value in passed
        if name not in _REQUEST_IDS or _REQUEST_ID.fullmatch(value)
    ]


def _may_go_upstream(name: str) -> bool:
    if "_" in name:
        return False  # CGI-like servers read `x_a` and `x-a` as one
    return name in _UPSTREAM or name in _REQUEST_IDS or name.startswith(_UPSTREAM_PREFIXES)


def _may_go_downstream(name: str) -> bool:
    return name in _DOWNSTREAM or _begins(name, _DOWNSTREAM_PREFIXES)


def _may_tell_its_origin(name: str) -> bool:
    return _may_go_downstream(name) or name in _ORIGIN or _begins(name, _ORIGIN_PREFIXES)


def _begins(name: str, prefixes: tuple[str, ...]) -> bool:
    return name.startswith(prefixes) and _TOKEN.fullmatch(name) is not None


def _size(header: tuple[str, str]) -> int:
    """The bytes of a header's line."""
    return len(header[0]) + len(header[1]) + len(": \r\n")


def _is_sendable(value: str) -> bool:
    """Whether HTTP clients and the Functions host take the value: they refuse a message for others."""
    return value.isascii() and value.isprintable()


@lru_cache(MAX_CACHED_LISTS)
def _listed(connection: Headers) -> frozenset[str]:
    """The names that the `connection` headers list."""
    listed = ",".join([value for _, value in connection])
    return frozenset(map(str.strip, listed.lower().split(",")))
