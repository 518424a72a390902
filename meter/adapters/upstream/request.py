"""A request as bytes: where it goes, its head, and how its body is framed (RFC 9112)."""

from collections.abc import Sequence
from functools import lru_cache
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
    fields: Sequence[tuple[str, str]] = request.headers
    names = {name for name, _ in fields}
    if not names.isdisjoint(_FRAMING):
        fields = [pair for pair in fields if pair[0] not in _FRAMING]
    if not names.issuperset(_DEFAULTS):
        fields = [*fields, *(pair for pair in _DEFAULTS.items() if pair[0] not in names)]
    start = f"{request.method} {target} HTTP/1.1"
    lines = [start, f"host: {address.authority}", *map(": ".join, fields)]
    size = _body_bytes(request)
    if size is None:
        lines.append("transfer-encoding: chunked")
    elif size or request.method not in _BODILESS:
        lines.append(f"content-length: {size}")
    text = "\r\n".join(lines)
    # A line break in a value would begin another header, or another request.
    if "\0" in text or not text.count("\r") == text.count("\n") == len(lines) - 1:
        raise ValueError("a header holds a line break or NUL")
    return Head(f"{text}\r\n\r\n".encode("latin-1"), size)


def _body_bytes(request: UpstreamRequest) -> int | None:
    if isinstance(request.body, bytes):
        return len(request.body)
    if isinstance(request.body, tuple):
        return sum(map(len, request.body))
    declared = [value for name, value in request.headers if name == "content-length"]
    if not declared:
        return None
    if not (declared[0].isascii() and declared[0].isdigit()):
        raise ValueError("a content-length is digits")
    return int(declared[0])
