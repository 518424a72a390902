"""Long computations of one instance, a step at a time: one step in each turn of the event loop."""

import asyncio
from collections.abc import Generator

from msgspec import Struct, field


class Turns(Struct):
    """Lets computations take their steps in turn, so that many at once hold up nobody longer."""

    _turn: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def run[T](self, steps: Generator[None, None, T]) -> T:
        """The result of a computation. One that takes a single step does not wait."""
        try:
            while True:
                next(steps)
                await self.next()
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    async def next(self) -> None:
        """Wait for the next turn."""
        async with self._turn:
            await asyncio.sleep(0)
