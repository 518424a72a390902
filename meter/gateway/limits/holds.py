"""What a call holds of its instance, and how it is given back."""

from collections.abc import Awaitable, Callable
from typing import Self


class Holds:
    """Gives back what a call has taken, the latest first. A context manager that does so at its end.

    As `contextlib.ExitStack` with nothing but callbacks, in a quarter of its instructions.
    """

    __slots__ = ("_held",)

    def __init__(self, *held: Callable[[], object]) -> None:
        self._held = [*held]

    def callback(self, give_back: Callable[[], object]) -> None:
        """Call this when all is given back."""
        self._held.append(give_back)

    def pop_all(self) -> "Holds":
        """All that is held, to be given back by who gets it."""
        others = Holds()
        others._held, self._held = self._held, others._held
        return others

    def close(self) -> None:
        """Give all back, each once, whatever happens meanwhile."""
        try:
            while self._held:
                self._held.pop()()
        finally:
            if self._held:
                self.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


class AnswerHolds:
    """What a streamed answer holds: `close`, or the end of its context, gives it back, the latest first.

    As `contextlib.AsyncExitStack` with nothing but callbacks, in a third of its instructions.
    """

    __slots__ = ("_held",)

    def __init__(self, *held: Callable[[], Awaitable[None]]) -> None:
        self._held: list[Callable[[], Awaitable[None] | None]] = [*held]

    def callback(self, give_back: Callable[[], None]) -> None:
        """Call this when all is given back."""
        self._held.append(give_back)

    async def close(self) -> None:
        """Give all back, each once, whatever happens meanwhile."""
        try:
            while self._held:
                closing = self._held.pop()()
                if closing is not None:
                    await closing
        finally:
            if self._held:
                await self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()
