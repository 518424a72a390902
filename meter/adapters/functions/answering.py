"""A whole answer in one write, in place of the two messages that uvicorn writes one after the other.

Each of its writes is a packet of its own, and a system call of 10 us; each message is a coroutine, and each
header two searches. Anything unusual takes uvicorn's own path. The head of a stream, and what ends an
answer, are made here, too (`leaving.py`).
"""

from collections.abc import Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import (
    HEADER_RE,
    HEADER_VALUE_RE,
    STATUS_LINE,
    RequestResponseCycle,
)

MAX_BODY_BYTES = 65_536  # as much as the server takes at once; head and body are copied together
MAX_CACHED_LISTS = 128  # of names: answers of a kind have the same

_BODILESS = frozenset({HTTPStatus.NO_CONTENT, HTTPStatus.NOT_MODIFIED})
# They steer the connection, or how the body is framed.
_STEERING = frozenset({b"connection", b"transfer-encoding"})


def send_whole(
    send: object, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes
) -> bool:
    """Send an answer, whose headers have its length, by the `send` of one of uvicorn's requests.

    False if nothing was sent: the server is another one, the caller has left or is slow, or the head needs
    uvicorn's own checks.
    """
    cycle: Any = getattr(send, "__self__", None)  # uvicorn's types are not those of ASGI
    if (
        not isinstance(cycle, RequestResponseCycle)
        or cycle.flow.write_paused
        or len(body) > MAX_BODY_BYTES
        or (head := begun_head(cycle, status, headers)) is None
    ):
        return False
    cycle.transport.write(b"%b\r\n%b" % (head, body))
    end_response(cycle)
    return True


def begun_head(cycle: Any, status: int, headers: Sequence[tuple[bytes, bytes]]) -> bytes | None:
    """The lines of the head of one of uvicorn's requests, which has begun to be answered then; None, and it
    has not, where the caller has left, or the head needs uvicorn's own checks.
    """
    if (
        cycle.response_started
        or cycle.disconnected
        or cycle.access_log
        or status in _BODILESS
        or cycle.scope["method"] == "HEAD"
    ):
        return None
    headers = [*cycle.default_headers, *headers]
    names = tuple([name for name, _ in headers])
    if not _are_plain(names) or HEADER_VALUE_RE.search(b"".join([value for _, value in headers])):
        return None
    lines = [STATUS_LINE[status], *[b"%b: %b\r\n" % header for header in headers]]
    if not cycle.keep_alive:
        lines.append(b"connection: close\r\n")
    cycle.response_started = True
    cycle.waiting_for_100_continue = False
    return b"".join(lines)


def end_response(cycle: Any) -> None:
    """What uvicorn does once all of an answer is written."""
    cycle.response_complete = True
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()


@lru_cache(MAX_CACHED_LISTS)
def _are_plain(names: tuple[bytes, ...]) -> bool:
    """Whether names can be sent as they are, and leave the connection alone."""
    return _STEERING.isdisjoint(names) and not any(
        HEADER_RE.search(name) or name != name.lower() for name in names
    )
