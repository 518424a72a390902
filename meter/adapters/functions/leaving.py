"""Parts of a streamed answer, written without a coroutine where the caller is not waited for.

uvicorn's `send` is a coroutine that takes a dictionary and checks for each part whether it is the head: 3 us.
Parts in the middle of a chunked body are written here in the same way, unless a middleware wraps `send`.
"""

from collections.abc import Callable

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Outlet:
    """The way of one answer's parts into the connection, if `send` is uvicorn's own; else it stays closed."""

    __slots__ = ("_cycle",)

    def __init__(self, send: Send) -> None:
        owner = getattr(send, "__self__", None)
        # A subclass, or a middleware's `send`, may do more.
        self._cycle = owner if type(owner) is RequestResponseCycle else None

    @property
    def put(self) -> Callable[[bytes], None] | None:
        """Writes a part that is not empty. None while the caller is waited for, or where `send` does more."""
        cycle = self._cycle
        if (
            cycle is None
            or cycle.flow.write_paused
            or cycle.disconnected
            or cycle.response_complete
            or not cycle.chunked_encoding
        ):
            return None
        return self._put

    def _put(self, part: bytes) -> None:
        assert self._cycle is not None  # looked at just now
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(part), part))
