"""A request as bytes: where it goes, its head, and how its body is framed (RFC 9112)."""

from collections.abc import Callable
from functools import lru_cache
from itertools import compress
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import urlsplit

from msgspec import Struct

from meter.patterns import lazy_pattern
from meter.ports import UpstreamRequest

_PORTS = {"http": 80, "https": 443}
_TARGET = lazy_pattern(r"/[!-~]*")  # an origin-form; other characters are percent-encoded
_FRAMING = frozenset({"content-length", "host", "transfer-encoding"})
_DEFAULTS = {"accept": "*/*", "user-agent": "aoai-meter"}
# RFC 9110 section 8.6: a body could be expected of the others.
_BODILESS = frozenset({"GET", "HEAD", "DELETE", "OPTIONS", "TRACE"})
MAX_CACHED_LISTS = 128  # of headers' names: each kind of client has its own
MAX_CACHED_URLS = 256  # of at most 10 KB each: those of calls to deployments are few


class InvalidAddress(ValueError):
    """The URL names no server that can be called."""


class Address(NamedTuple):
    """A server. `authority` is its name in the `host` header."""

    host: str
    port: int
    is_tls: bool
    authority: str


class Head(Struct, frozen=True, gc=False):
    """A request without its body. `body_bytes` is None where the body is sent in chunks."""

    data: bytes
    body_bytes: int | None


@lru_cache(MAX_CACHED_URLS)
def locate(url: str) -> tuple[Address, str]:
    """The server of a URL, and the request target there, unchanged. Raises InvalidAddress."""
    slash = url.find("/", url.find("://") + 3)
    origin, target = (url, "/") if slash < 0 else (url[:slash], url[slash:])
    target = target.partition("#")[0]
    if _TARGET.fullmatch(target) is None:
        raise InvalidAddress("the path holds characters that must be percent-encoded")
    return _address(origin), target


@lru_cache(maxsize=1024)
def _address(origin: str) -> Address:
    try:
        parts = urlsplit(origin)
        port = parts.port
    except ValueError as exc:
        raise InvalidAddress(str(exc)) from exc
    default = _PORTS.get(parts.scheme)
    host = parts.hostname
    if default is None or not host or port == 0 or "@" in parts.netloc or parts.query:
        raise InvalidAddress("a URL is http or https, with a host, and without credentials")
    name = f"[{host}]" if ":" in host else host
    authority = name if port in (None, default) else f"{name}:{port}"
    return Address(host, port or default, parts.scheme == "https", authority)


def encode_head(request: UpstreamRequest, address: Address, target: str) -> Head:
    """The request's head; the framing is ours. Raises ValueError for what no header can hold."""
    fields = request.headers
    are_sent, defaults = _sent(tuple(map(_name_of, fields)))
    lines = [
        f"{request.method} {target} HTTP/1.1\r\nhost: {address.authority}",
        *map(": ".join, compress(fields, are_sent)),
        *defaults,
    ]
    body = request.body
    size = len(body) if isinstance(body, bytes) else _body_bytes(request)
    if size is None:
        lines.append("transfer-encoding: chunked")
    elif size or request.method not in _BODILESS:
        lines.append(f"content-length: {size}")
    text = "\r\n".join(lines)
    # A line break in a value would begin another header, or another request.
    if "\0" in text or not text.count("\r") == text.count("\n") == len(lines):
        raise ValueError("a header holds a line break or NUL")
    return Head(f"{text}\r\n\r\n".encode("latin-1"), size)


_name_of: Callable[[tuple[str, str]], str] = itemgetter(0)


@lru_cache(MAX_CACHED_LISTS)
def _sent(names: tuple[str, ...]) -> tuple[tuple[bool, ...], tuple[str, ...]]:
    """Which of the headers are sent, and the lines of those that are not among them and must be."""
    defaults = [": ".join(pair) for pair in _DEFAULTS.items() if pair[0] not in names]
    return tuple(name not in _FRAMING for name in names), tuple(defaults)


def _body_bytes(request: UpstreamRequest) -> int | None:
    if isinstance(request.body, tuple):
        return sum(map(len, request.body))
    declared = [value for name, value in request.headers if name == "content-length"]
    if not declared:
        return None
    if not (declared[0].isascii() and declared[0].isdigit()):
        raise ValueError("a content-length is digits")
    return int(declared[0])
