"""Heads of requests and answers: what is read of them, and what is refused before anyone sees it.

| a request                                                        | is answered |
|------------------------------------------------------------------|-------------|
| whose line is over 8,192 bytes, its end included                 | 414         |
| with over 100 headers, or over 32,768 bytes of them              | 431         |
| whose head is not complete after 30 s                            | 408         |
| of another version                                               | 505         |
| that is malformed, or frames its body twice or in an unknown way | 400         |
| with an empty Host, or HTTP/1.0 without one                      | 500         |
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from local.functions.proxy.stream import LineTooLong, Stream

MAX_LINE_BYTES = 8_192
MAX_HEADERS_BYTES = 32_768
MAX_HEADERS = 100
MAX_ANSWER_HEAD_BYTES = 65_536
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH = re.compile(r"\+?([0-9]{1,19})")
_HOST = re.compile(r"[!-~]*")
_KNOWN = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE", "CONNECT"})

type Headers = Sequence[tuple[str, str]]


class Refused(Exception):
    """The proxy answers this status itself."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Unreadable(Exception):
    """An answer's head cannot be read, which counts as no answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestHead:
    """A request's head. `length` is that of its body; None: chunked, or no body at all."""

    method: str
    target: str
    is_http_10: bool
    headers: Headers
    length: int | None
    is_chunked: bool

    @property
    def has_body(self) -> bool:
        """Whether the head frames a body, even an empty one."""
        return self.is_chunked or self.length is not None

    @property
    def host(self) -> str:
        """The Host header."""
        return first(self.headers, "host")

    @property
    def keeps_alive(self) -> bool:
        """Whether the caller wants to go on with the connection."""
        options = {part.strip().lower() for part in first(self.headers, "connection").split(",")}
        if self.is_chunked and first(self.headers, "content-length"):
            return False
        return "keep-alive" in options if self.is_http_10 else "close" not in options


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerHead:
    """An answer's head."""

    status: int
    reason: str
    headers: Headers


def first(headers: Headers, name: str) -> str:
    """The first value of a header; empty where there is none."""
    return next((value for key, value in headers if key.lower() == name), "")


def every(headers: Headers, name: str) -> list[str]:
    """All values of a header."""
    return [value for key, value in headers if key.lower() == name]


async def read_request(stream: Stream) -> RequestHead:
    """Read a request's head. Raises Refused, Ended."""
    try:
        while not (line := (await stream.line(MAX_LINE_BYTES)).rstrip(b"\r\n")):
            pass
    except LineTooLong:
        raise Refused(414) from None
    method, target, is_http_10 = _request_line(line)
    headers: list[tuple[str, str]] = []
    left = MAX_HEADERS_BYTES
    try:
        while line := await stream.line(left + 2):
            if line in {b"\r\n", b"\n"}:
                break
            left -= len(line)
            if left < 0 or len(headers) == MAX_HEADERS:
                raise Refused(431)
            headers.append(_request_header(line))
    except LineTooLong:
        raise Refused(431) from None
    if method == "CONNECT":
        raise Refused(400)
    _check_host(headers, is_http_10=is_http_10)
    length, is_chunked = _framing(headers)
    return RequestHead(
        method=method,
        target=target,
        is_http_10=is_http_10,
        headers=headers,
        length=length,
        is_chunked=is_chunked,
    )


async def read_answer(stream: Stream) -> AnswerHead:
    """Read an answer's head. Raises Unreadable, Ended."""
    left = MAX_ANSWER_HEAD_BYTES
    lines: list[bytes] = []
    try:
        while line := await stream.line(left):
            left -= len(line)
            if line in {b"\r\n", b"\n"}:
                break
            lines.append(line.rstrip(b"\r\n"))
    except LineTooLong:
        raise Unreadable("the head is too long") from None
    found = re.fullmatch(rb"HTTP/1\.[01] ([0-9]{3})(?: (.*))?", lines[0] if lines else b"")
    if found is None:
        raise Unreadable("no status line")
    headers = []
    for line in lines[1:]:
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon or not _TOKEN.fullmatch(name):
            raise Unreadable("a header is malformed")
        headers.append((name, value.strip(" \t")))
    reason = (found[2] or b"").decode("latin-1")
    return AnswerHead(status=int(found[1]), reason=reason, headers=headers)


def _request_line(line: bytes) -> tuple[str, str, bool]:
    parts = line.split(b" ")
    if len(parts) != 3 or not line.isascii() or b"\0" in line:
        raise Refused(400)
    method, target, version = (part.decode() for part in parts)
    if not _TOKEN.fullmatch(method):
        raise Refused(400)
    if version not in {"HTTP/1.1", "HTTP/1.0"}:
        raise Refused(505)
    if method.upper() in _KNOWN:
        method = method.upper()
    return method, target, version == "HTTP/1.0"


def _request_header(line: bytes) -> tuple[str, str]:
    name, colon, value = line.rstrip(b"\r\n").partition(b":")
    try:
        # The proxy reads UTF-8; it refuses what it cannot read.
        text = value.decode().strip(" \t")
        key = name.decode("ascii")
    except UnicodeDecodeError:
        raise Refused(400) from None
    if not colon or not _TOKEN.fullmatch(key) or "\0" in text or "\r" in text:
        raise Refused(400)
    return key, text


def _check_host(headers: Headers, *, is_http_10: bool) -> None:
    hosts = every(headers, "host")
    if len(hosts) > 1 or (not hosts and not is_http_10) or not all(map(_HOST.fullmatch, hosts)):
        raise Refused(400)


def _framing(headers: Headers) -> tuple[int | None, bool]:
    lengths = every(headers, "content-length")
    found = [_LENGTH.fullmatch(length) for length in lengths]
    if len(lengths) > 1 or not all(found):
        raise Refused(400)
    codings = every(headers, "transfer-encoding")
    if codings:
        if codings[-1].rpartition(",")[2].strip().lower() != "chunked":
            raise Refused(400)
        return None, True
    [length] = found or [None]
    return (int(length[1]) if length else None), False
