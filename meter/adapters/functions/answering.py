"""A whole answer in one write, in place of the two messages that uvicorn writes one after the other.

Each of its writes is a packet of its own, and a system call of 10 us; each message is a coroutine, and each
header two searches. Anything unusual takes uvicorn's own path. The head of a stream, and what ends an
answer, are made here, too (`leaving.py`).
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from http import HTTPStatus
from operator import itemgetter
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

from meter.adapters.clock import new_call_id
from meter.errors import CallerError
from meter.gateway.http import error_answer, marked
from meter.ports import Headers

MAX_BODY_BYTES = 65_536  # as much as the server takes at once; head and body are copied together
MAX_CACHED_LISTS = 128  # of names: answers of a kind have the same
MAX_CACHED_MOMENTS = 4  # the server names another one each second

_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
# They steer the connection, or how the body is framed.
_STEERING = frozenset({b"connection", b"transfer-encoding"})


def send_whole(send: object, status: int, headers: Headers, body: bytes) -> bool:
    """Send an answer, and its length, by the `send` of one of uvicorn's requests.

    False if nothing was sent: the server is another one, the caller has left or is slow, or the head needs
    uvicorn's own checks.
    """
    cycle: Any = getattr(send, "__self__", None)  # uvicorn's types are not those of ASGI
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.flow.write_paused
        or len(body) > MAX_BODY_BYTES
        or (head := begun_head(cycle, status, headers, b"content-length: %d\r\n" % len(body)))
        is None
    ):
        return False
    cycle.transport.write(b"%b\r\n%b" % (head, body))
    end_response(cycle)
    return True


def begun_head(cycle: Any, status: int, headers: Headers, length: bytes = b"") -> bytes | None:
    """The lines of the head of one of uvicorn's requests, which has begun to be answered then; None, and it
    has not, where the caller has left, or the head needs uvicorn's own checks. `length` is a line of it.

    Lines are not made one by one: their names are the same from answer to answer, and so are the server's.
    """
    if (
        cycle.response_started
        or cycle.disconnected
        or cycle.access_log
        or status in _BODILESS
        or cycle.scope["method"] == "HEAD"
    ):
        return None
    form = _form(tuple(map(_name_of, headers)))
    values = tuple(map(_value_of, headers))
    usual = _usual_lines(tuple(cycle.default_headers))
    text = "".join(values)
    if form is None or usual is None:
        return None
    if not text.isprintable() and HEADER_VALUE_RE.search(encoded(text)):
        return None
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    closing = b"" if cycle.keep_alive else b"connection: close\r\n"
    return b"".join((STATUS_LINE[status], usual, encoded(form % values), length, closing))


def encoded(value: str) -> bytes:
    """A value as the backend sent it: the client reads it as UTF-8, with surrogates for other bytes."""
    return value.encode("utf-8", "surrogateescape")


def end_response(cycle: Any) -> None:
    """What uvicorn does once all of an answer is written."""
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


def refusal_on_the_wire(refusal: CallerError) -> bytes:
    """The answer to what the app never sees, behind which the connection is closed."""
    answer = marked(error_answer(refusal), new_call_id())
    headers = (
        *answer.headers,
        ("content-length", str(len(answer.body))),
        ("connection", "close"),
    )
    phrase = HTTPStatus(answer.status).phrase
    lines = [f"HTTP/1.1 {answer.status} {phrase}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body


@lru_cache(MAX_CACHED_LISTS)
def _form(names: tuple[str, ...]) -> str | None:
    """The lines of headers, to be filled with their values; None where their names are not plain."""
    if not _are_plain([name.encode("utf-8", "surrogateescape") for name in names]):
        return None
    return "".join([f"{name.replace('%', '%%')}: %s\r\n" for name in names])


@lru_cache(MAX_CACHED_MOMENTS)
def _usual_lines(headers: tuple[tuple[bytes, bytes], ...]) -> bytes | None:
    """The server's own headers, of which one is the moment."""
    is_plain = _are_plain([name for name, _ in headers])
    if not is_plain or HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
        return None
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _are_plain(names: Sequence[bytes]) -> bool:
    """Whether names can be sent as they are, and leave the connection alone."""
    return _STEERING.isdisjoint(names) and not any(
        HEADER_RE.search(name) or name != name.lower() for name in names
    )


_name_of: Callable[[tuple[str, str]], str] = itemgetter(0)
_value_of: Callable[[tuple[str, str]], str] = itemgetter(1)
