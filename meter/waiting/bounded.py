"""Waiting that costs little where nothing has to be waited for.

`asyncio.timeout` makes and cancels a timer each time: 300 bytecode instructions or 3 us, and the loop sorts
the cancelled ones, too: 15 to 20 us a frame beside 64 streams. A call has six.
"""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import coroutine
from typing import Any


async def within[T](
    seconds: float | Callable[[], float] | None,
    work: Awaitable[T],
    *,
    beside: Callable[[], Coroutine[Any, Any, None]] | None = None,
) -> T:
    """The result of the work; TimeoutError if it still waits after so many seconds, None for no end. A
    function says how many once the work waits.

    The first step is made without a timer, and nearly always it is the last: a body that is there, a
    connection with room for what is written. Work that has to wait gets a timer then, and what `beside`
    makes goes on as long as it takes. As with `asyncio.timeout`, no time at all is enough for work that does
    not wait.
    """
    steps = work.__await__()
    try:
        awaited = next(steps)
    except StopIteration as done:
        result: T = done.value
        return result
    if callable(seconds):
        seconds = seconds()
    other = None if beside is None else asyncio.create_task(beside())
    try:
        async with asyncio.timeout(seconds):
            return await _rest(steps, awaited)
    finally:
        if other is not None:
            other.cancel()


@coroutine
def _rest[T](steps: Generator[Any, Any, T], awaited: object) -> Generator[Any, Any, T]:
    """Go on with work that waits for `awaited`, as `await` does."""
    while True:
        try:
            yield awaited
        except GeneratorExit:
            steps.close()
            raise
        except BaseException as exc:
            try:
                awaited = steps.throw(exc)
            except StopIteration as done:
                result: T = done.value
                return result
        else:
            return (yield from steps)
