"""A streamed answer, written without a coroutine where the caller is not waited for.

uvicorn's `send` is a coroutine that takes a dictionary and checks for each part whether it is the head: 3 us.
Head, parts and end of a chunked body are written here in the same way, unless a middleware wraps `send`.

What a task writes until it next waits goes out in one write: each is a system call of 10 us. Of a stream
that comes in one burst, head, frames and end are four, and each wakes the caller.
"""

from collections.abc import Awaitable, Callable, Generator
from types import coroutine
from typing import Any

from starlette.types import Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from meter.adapters.functions.answering import begun_head, end_response
from meter.gateway.headers import names_of
from meter.ports import Headers

MOST_GATHERED_BYTES = 65_536  # as much as the server takes at once


class Outlet:
    """The way of one answer into the connection, if `send` is uvicorn's own; else it stays closed."""

    __slots__ = ("_cycle", "_gathered", "_gathered_bytes", "_is_gathering")

    def __init__(self, send: Send) -> None:
        owner = getattr(send, "__self__", None)
        # A subclass, or a middleware's `send`, may do more.
        self._cycle = owner if type(owner) is RequestResponseCycle else None
        self._is_gathering = False
        self._gathered: list[bytes] = []
        self._gathered_bytes = 0

    @property
    def is_left(self) -> bool:
        """Whether the caller has closed its connection, as far as `hears_of_leaving`."""
        return self._cycle is not None and self._cycle.disconnected

    def hears_of_leaving(self) -> bool:
        """Have the connection read on, so that its end is seen. False where somebody must receive: the
        server is another one, or the request's body still comes.
        """
        cycle = self._cycle
        if cycle is None or cycle.more_body:
            return False
        cycle.flow.resume_reading()
        return True

    def begin(self, status: int, headers: Headers) -> bool:
        """Write the head of a chunked body, with the first part or when `gathering` first waits. False if it
        is `send`'s.
        """
        cycle = self._cycle
        if cycle is None or cycle.flow.write_paused or _is_measured(headers):
            return False
        head = begun_head(cycle, status, headers)
        if head is None:
            return False
        cycle.chunked_encoding = True
        self._is_gathering = True
        self._gather(head + b"transfer-encoding: chunked\r\n\r\n")
        return True

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
        return self._gather_part if self._is_gathering else self._put

    def end(self) -> bool:
        """Write the end of the body. False if it is `send`'s."""
        if self.put is None:
            return False
        self._gather(b"0\r\n\r\n")
        self.let_go()
        end_response(self._cycle)
        return True

    def let_go(self) -> None:
        """Write what has been gathered."""
        if self._gathered:
            gathered, self._gathered, self._gathered_bytes = self._gathered, [], 0
            assert self._cycle is not None  # it was written to
            self._cycle.transport.write(b"".join(gathered))

    @coroutine
    def gathering[T](self, work: Awaitable[T]) -> Generator[Any, Any, T]:
        """The result of the work, each of whose steps is one write: nothing stays here while it waits."""
        steps = work.__await__()
        error: BaseException | None = None
        while True:
            self._is_gathering = True
            try:
                awaited = next(steps) if error is None else steps.throw(error)
            except StopIteration as done:
                result: T = done.value
                return result
            finally:
                self._is_gathering = False
                self.let_go()
            try:
                yield awaited
            except GeneratorExit:
                steps.close()
                raise
            except BaseException as exc:  # it is the work's
                error = exc
            else:
                error = None

    def _put(self, part: bytes) -> None:
        assert self._cycle is not None  # looked at just now
        self._cycle.transport.write(b"%x\r\n%b\r\n" % (len(part), part))

    def _gather_part(self, part: bytes) -> None:
        self._gather(b"%x\r\n%b\r\n" % (len(part), part))

    def _gather(self, data: bytes) -> None:
        self._gathered.append(data)
        self._gathered_bytes += len(data)
        if self._gathered_bytes > MOST_GATHERED_BYTES:
            self.let_go()


def _is_measured(headers: Headers) -> bool:
    """Whether the body has a length, so that it is not chunked."""
    return "content-length" in names_of(headers)
