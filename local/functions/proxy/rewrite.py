"""What the proxy makes of a request before the worker sees it, and of an answer before the caller does.

- Paths are decoded and encoded anew; `%2F` and `%252F` both arrive as `%252F`.
- Headers of one name become one; Host is the worker's; X-Forwarded-* are replaced.
- Headers of a connection go, those that Connection names stay.
"""

import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass

from local.functions.proxy.head import Headers, Refused, RequestHead, every, first

INVOCATION_HEADER = "x-ms-invocation-id"
_FORWARDED = frozenset({"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"})
_OF_CONNECTION = frozenset(
    {
        "alpn",
        "alt-svc",
        "close",
        "connection",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authentication-info",
        "proxy-authorization",
        "proxy-connection",
        "proxy-features",
        "proxy-instruction",
        "security-scheme",
        "te",
        "transfer-encoding",
        "upgrade",
        "upgrade-insecure-requests",
    }
)
_DROPPED = _OF_CONNECTION | _FORWARDED | {"forwarded", "host", "content-length"}
_SEPARATORS = {"cookie": "; ", "user-agent": " "}
_ESCAPES = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_PATH_CHARACTERS = frozenset("!$&'()*+,-./:;=@_~")
_QUERY_TOKENS = re.compile(r"%[0-9A-Fa-f]{2}|.", re.DOTALL)
_QUERY_CHARACTERS = frozenset("!$&'()*+,-./:;=?@[]_~")
_UNRESERVED = frozenset("-._~")


@dataclass(frozen=True, slots=True)
class Address:
    """A request's target: the decoded path, which routes are matched with, and the query."""

    path: str
    query: str

    @property
    def encoded(self) -> str:
        """The target that the worker sees."""
        return "".join(map(_path_character, self.path)) + self.query


def address(head: RequestHead) -> Address:
    """The target of a request. Raises Refused."""
    target = head.target
    if target == "*" and head.method == "OPTIONS":
        return Address("/", "")
    if absolute := re.fullmatch(r"https?://([^/?#]*)(.*)", target, re.IGNORECASE):
        if absolute[1].lower() != head.host.lower():
            raise Refused(400)
        target = absolute[2] if absolute[2].startswith("/") else f"/{absolute[2]}"
    if not target.startswith("/"):
        raise Refused(405)
    path, question, query = target.partition("?")
    decoded = _ESCAPES.sub(lambda run: _decoded(run[0]), path)
    if "\0" in decoded:
        raise Refused(400)
    tokens = (_query_token(token) for token in _QUERY_TOKENS.findall(query))
    return Address(_without_dots(decoded), question + "".join(tokens))


def public_host(head: RequestHead) -> str:
    """The host that the caller meant; the platform's front ends name it in a header of their own."""
    return first(head.headers, "disguised-host") or head.host


def scheme(head: RequestHead) -> str:
    """The scheme that the caller used, by the platform's front ends' word."""
    return first(head.headers, "x-forwarded-proto") or "http"


def for_worker(
    head: RequestHead, *, authority: str, peer: str, invocation_id: str
) -> list[tuple[str, str]]:
    """The headers that the worker sees. A caller's own invocation id stays, alone."""
    joined: dict[str, tuple[str, str]] = {}
    for name, value in head.headers:
        key = name.lower()
        if key in _DROPPED:
            continue
        seen = joined.get(key)
        separator = _SEPARATORS.get(key, ", ")
        joined[key] = (seen[0], f"{seen[1]}{separator}{value}") if seen else (name, value)
    joined.setdefault(INVOCATION_HEADER, (INVOCATION_HEADER, invocation_id))
    trace = f"00-{secrets.token_hex(16)}-{secrets.token_hex(8)}-00"
    joined.setdefault("traceparent", ("traceparent", trace))
    headers = [
        ("Host", authority),
        *joined.values(),
        ("X-Forwarded-For", peer),
        ("X-Forwarded-Host", public_host(head)),
        ("X-Forwarded-Proto", scheme(head)),
    ]
    if first(head.headers, "upgrade").lower() == "websocket":
        headers += [("Connection", "Upgrade"), ("Upgrade", "websocket")]
    return headers + _framing(head)


def for_caller(headers: Headers) -> list[tuple[str, str]]:
    """The headers of a worker's answer that the caller sees. Raises ValueError where none may."""
    if len(every(headers, "content-length")) > 1:
        raise ValueError("two lengths")
    kept = [(name, value) for name, value in headers if name.lower() not in _OF_CONNECTION]
    for name, value in kept:
        if not all(" " <= character <= "~" or character == "\t" for character in value):
            raise ValueError(f"the value of {name} is not printable ASCII")
    return kept


def is_sendable(headers: Iterable[tuple[str, str]]) -> bool:
    """Whether the proxy can send these: values beyond ASCII fail before the worker sees a byte."""
    return all(value.isascii() for _, value in headers)


def _framing(head: RequestHead) -> list[tuple[str, str]]:
    if head.is_chunked:
        hidden = first(head.headers, "content-length")
        extra = [("X-Content-Length", hidden)] if hidden else []
        return [*extra, ("Transfer-Encoding", "chunked")]
    if head.length is not None:
        return [("Content-Length", str(head.length))]
    return [("Content-Length", "0")] if head.method in {"POST", "PUT", "PATCH"} else []


def _decoded(run: str) -> str:
    """Escapes as text: valid UTF-8 is decoded, but for the slash; all else stays as it was sent."""
    octets = bytes.fromhex(run.replace("%", ""))
    text, at = "", 0
    while at < len(octets):
        size = next((n for n in (1, 2, 3, 4) if _is_utf8(octets[at : at + n])), 0)
        character = octets[at : at + size].decode()
        kept = run[at * 3 : (at + max(size, 1)) * 3]
        text += kept if character in {"", "/"} else character
        at += max(size, 1)
    return text


def _is_utf8(octets: bytes) -> bool:
    try:
        return len(octets.decode()) == 1
    except UnicodeDecodeError:
        return False


def _without_dots(path: str) -> str:
    """RFC 3986 section 5.2.4."""
    segments: list[str] = []
    parts = path.split("/")[1:]
    for index, part in enumerate(parts):
        if part in {".", ".."}:
            if part == ".." and segments:
                segments.pop()
            if index == len(parts) - 1:
                segments.append("")
        else:
            segments.append(part)
    return "/" + "/".join(segments)


def _path_character(character: str) -> str:
    if character in _PATH_CHARACTERS or (character.isascii() and character.isalnum()):
        return character
    return "".join(f"%{octet:02X}" for octet in character.encode())


def _query_token(token: str) -> str:
    if len(token) == 3:
        character = chr(int(token[1:], 16))
        is_plain = character.isascii() and (character.isalnum() or character in _UNRESERVED)
        return character if is_plain else token
    if token in _QUERY_CHARACTERS or token.isalnum():
        return token
    return f"%{ord(token):02X}"
