"""A request's body between the connection and the app, in place of the `bytearray` that uvicorn has.

uvicorn wakes the app for every piece that the socket gives, reads on once that has been taken, and copies
each piece twice on the way. An app that has room for all of a body says so: then it is woken once, when all
has come, and nothing is paused meanwhile. The rest is received directly into the memory in which
it is handed over, bypassing the parser, which would copy it: that saves a copy and the final join.
"""

import asyncio
import io
from collections.abc import Callable, Mapping
from typing import Any

EXTENSION = "meter.arriving"  # among the scope's
MOST_AT_ONCE = 1_048_576
MOST_GROWTH = 4_194_304  # new memory takes up to half a millisecond per megabyte

_NONE: Mapping[str, object] = {}


class ArrivingBody:
    """The pieces that the app has not taken. `event` wakes the app in uvicorn's `receive`.

    `read_on` has the connection read again, as `receive` does. `came` is how many bytes have come, and
    `unparsed` how many are still to come around the parser. `is_asked_for`: its caller may wait for leave to
    send it, which `receive` gives (RFC 9110 section 10.1.1).
    """

    # As nearly every request has them: the class's until they change, not set each time.
    is_gathered = is_asked_for = _is_ended = False
    came = unparsed = _size = 0
    _left: asyncio.Future[None] | None = None
    _place: "_Place | None" = None

    def __init__(self, event: asyncio.Event, read_on: Callable[[], None]) -> None:
        self._event = event
        self._read_on = read_on
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> int:
        """A piece has come; how many bytes are to be taken now."""
        size = len(piece)
        self._pieces.append(piece)
        self._size += size
        self.came += size
        return self._size

    def end(self) -> None:
        """All has come."""
        self._is_ended = True

    def whole(self, most: int) -> bytes | None:
        """All that the app has not taken, at most so many bytes, if all has come; `receive` has no more to
        say then, until the caller leaves. None where it is to be asked.

        It is a coroutine that makes a dictionary, and who asks it sets a deadline: 300 instructions, while
        nearly every body has come with its head.
        """
        if not self._is_ended or self._size > most or self.is_asked_for or self._left is not None:
            return None
        self._event.clear()
        self._read_on()
        return self._take()

    def gather(self, declared: int) -> None:
        """Wake the app only at the end. Its caller has room for all that is announced, `declared` bytes."""
        if not self._is_ended:
            self.is_gathered = True
            self._event.clear()
            self.unparsed = declared - self.came

    def room(self) -> memoryview:
        """Where the next bytes of a body that is gathered belong; `fill` says how many are there."""
        if self._place is None:
            self._place = _Place(self._pieces, self._size, self._size + self.unparsed)
            self._pieces = []
        return self._place.behind(self._size)

    def fill(self, size: int) -> None:
        """So many bytes are in the room."""
        self._size += size
        self.came += size
        self.unparsed -= size

    def release(self) -> None:
        """Gather no more. What has come and is not taken is dropped."""
        if self.is_gathered:
            self.is_gathered = False
            self._take()

    def left(self) -> asyncio.Future[None]:
        """Done once the caller has closed its connection. Behind the body only: who reads it is told, too.

        A task that waits in `receive` for every call to be answered costs as much as its key to be joined by.
        """
        if self._left is None:
            self._left = asyncio.get_running_loop().create_future()
        self._read_on()
        return self._left

    def leave(self) -> None:
        """The caller has closed its connection."""
        if self._left is None:
            self._left = asyncio.get_running_loop().create_future()
        if not self._left.done():
            self._left.set_result(None)

    def __len__(self) -> int:
        return self._size

    def __bytes__(self) -> bytes:
        """What uvicorn calls to hand the body over; it is not called again for the same bytes."""
        return self._take()

    def _take(self) -> bytes:
        pieces, place = self._pieces, self._place
        self._pieces, self._size = [], 0
        if place is None:
            return b"".join(pieces)  # of a single piece no copy
        self._place = None
        return place.taken()


class _Place:
    """The bytes of a body in one piece of memory, which grows with what has come, up to `most`.

    The bytes of an `io.BytesIO` can be written to as long as it has them alone, and taken uncopied.
    """

    __slots__ = ("_bytes", "_most", "_view")

    def __init__(self, pieces: list[bytes], size: int, most: int) -> None:
        self._most = most
        self._bytes = io.BytesIO()
        self._view = self._grown(size + MOST_AT_ONCE)
        at = 0
        for piece in pieces:
            self._view[at : at + len(piece)] = piece
            at += len(piece)

    def behind(self, at: int) -> memoryview:
        """Some room there."""
        if at == len(self._view):
            self._view.release()
            self._view = self._grown(at + min(at, MOST_GROWTH))
        return self._view[at : at + MOST_AT_ONCE]

    def taken(self) -> bytes:
        """What is there; call it once."""
        self._view.release()
        return self._bytes.getvalue()

    def _grown(self, size: int) -> memoryview:
        self._bytes.seek(min(size, self._most) - 1)
        self._bytes.write(b"\0")
        return self._bytes.getbuffer()


def arriving_in(scope: Mapping[str, object]) -> ArrivingBody | None:
    """The body of a request that the bounded server has taken; None with another server."""
    extensions: Any = scope.get("extensions", _NONE)
    found: ArrivingBody | None = extensions.get(EXTENSION)
    return found
