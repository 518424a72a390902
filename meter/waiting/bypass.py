"""A way past the task that awaits the parts of an answer, for those that it would only pass on.

Resuming a task for each frame of a stream takes it through coroutines and asynchronous generators to the
reader, and through four more coroutines to the caller: a fifth of a stream's bytecode instructions. Nearly
every frame needs none of them: it says nothing but text, and its caller takes it at once.
"""

from collections.abc import Callable

from msgspec import Struct


def _leave(_part: bytes) -> bool:
    return False


class Bypass(Struct):
    """`take` is called with a part that has just arrived, by whoever receives it, while a task awaits it
    and nothing that came before is kept. It says whether it took the part; another is the task's.

    `taker` is who takes parts once the bypass is open.
    """

    take: Callable[[bytes], bool] = _leave
    taker: Callable[[bytes], bool] = _leave

    def open(self) -> None:
        """From now on: nothing that came before is on its way to the task."""
        self.take = self.taker
