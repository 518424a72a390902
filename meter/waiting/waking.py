"""Waiting for news that takes no turn of the event loop: the task that waits runs on where they arrive.

A future makes a handle for its task's next step, and the loop runs that in its next turn, behind another
look at all sockets. Most news arrive in a callback of the loop itself, where no task runs: then the step can
be run there and then. That is 10 % of a stream's bytecode instructions and 2.5 % of a whole answer's.
"""

import asyncio
from collections.abc import Callable, Generator
from contextvars import Context
from typing import Any, Protocol

from msgspec import Struct, field


class Waker(Struct, eq=False):
    """What one task at a time awaits, as often as it likes. News that nobody waits for are forgotten.
    Awaiting it raises RuntimeError while another task does. `step` is that of the task that waits, if any.

    For asyncio's tasks it is a future: of the protocol that `_asyncio_future_blocking` stands for they use
    `get_loop`, `add_done_callback`, `cancel`, and `result` of what their step is run with.
    """

    _loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.get_running_loop)
    _asyncio_future_blocking: bool = False
    step: "Callable[[Settled], object] | None" = None
    _context: Context | None = None

    def __await__(self) -> Generator[Any]:
        if self.step is not None:
            raise RuntimeError("another task waits already")
        self._asyncio_future_blocking = True
        # A generator would have to be resumed only to end.
        return iter((self,))  # type: ignore[return-value]  # `await` needs no more than an iterator

    def wake(self) -> None:
        """Run the step of the task that waits: at once, or in the next turn if another task runs now.

        It may do whatever a task may, so it belongs at the end of a callback.
        """
        step = self.step
        if step is None:
            return
        if asyncio.current_task(self._loop) is not None:  # tasks do not nest
            self.wake_soon()
            return
        self.step = None
        assert self._context is not None  # it came with the step
        self._context.run(step, self)

    def wake_soon(self) -> None:
        """Have the step of the task that waits run in the next turn, as a future does."""
        self._run_soon(self)

    def ended(self, task: asyncio.Task[Any]) -> None:
        """Wake who waits for the task, which is done; it is one of its callbacks."""
        if not task.cancelled():
            task.exception()  # it is known: who waited may have been cancelled
        self.wake()

    # What asyncio's tasks call.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the tasks that may wait."""
        return self._loop

    def add_done_callback(
        self, step: Callable[["Settled"], object], *, context: Context | None
    ) -> None:
        """Keep the step of the task that waits."""
        self.step, self._context = step, context

    def cancel(self, msg: object = None) -> bool:
        """Have the task cancelled in the next turn; false if it has been woken."""
        is_waiting = self.step is not None
        self._run_soon(_Cancelled(msg))
        return is_waiting

    def result(self) -> None:
        """Nothing: the task looks itself what is new."""

    def _run_soon(self, settled: "Settled") -> None:
        step, self.step = self.step, None
        if step is not None:
            self._loop.call_soon(step, settled, context=self._context)


class Acknowledgement(asyncio.Future[None]):
    """A future of whose success one function is told at once; of a fault or a cancellation, in the next turn.

    A callback of a future's is a handle, and a step of the loop: 120 instructions for each event that the
    hub acknowledges, while a hundred are acknowledged together.
    """

    _told: "Callable[[Acknowledgement], object] | None" = None

    def tell(self, told: "Callable[[Acknowledgement], object]") -> None:
        """Call a function, which does not raise, once this is done; it is the only one."""
        self._told = told
        self.add_done_callback(told)

    def accept(self) -> None:
        """It has succeeded, unless it was done before."""
        if self.done():
            return
        told = self._told
        if told is not None:
            self.remove_done_callback(told)
        self.set_result(None)
        if told is not None:
            told(self)


class Settled(Protocol):
    """What a step is run with."""

    def result(self) -> None:
        """Return, or raise what goes into the task."""


class _Cancelled:
    """Raises in the task that was waiting, and in no other that waits by then."""

    __slots__ = ("_message",)

    def __init__(self, message: object) -> None:
        self._message = message

    def result(self) -> None:
        arguments = () if self._message is None else (self._message,)
        raise asyncio.CancelledError(*arguments)


async def result_of[T](task: asyncio.Task[T]) -> T:
    """The task's result; cancelling this wait does not cancel the task.

    As `asyncio.shield`, which makes another future, wakes it and then its task, each in a turn of the loop.
    """
    if not task.done():
        waker = Waker()
        task.add_done_callback(waker.ended)
        await waker
    return task.result()
