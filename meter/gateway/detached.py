"""Tasks that outlive their request: a cancelled request must not cancel its call's usage event."""

import asyncio
from collections.abc import Coroutine
from typing import Any

from msgspec import Struct, field


def start_now[T](work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that has taken its first step: one cancelled before that would never run."""
    return asyncio.Task(work, loop=asyncio.get_running_loop(), eager_start=True)


class Detached(Struct):
    """Tasks that run on when their requests are cancelled. One event loop owns it."""

    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def start(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Start a task of its own for the work."""
        task = start_now(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def finish(self, seconds: float, *, cut_seconds: float) -> None:
        """Wait up to `seconds` for the tasks, then cancel the rest and wait for them `cut_seconds`.

        A cancelled task publishes what is known of its call, which is what the second wait is for.
        """
        if not self._tasks:
            return
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=cut_seconds)
