"""An event loop whose time stands still while anything can run, and then jumps to the next timer."""

import asyncio
import selectors
from datetime import datetime, timedelta

from tests.fakes.gateway import START


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    """Waits take no time: a test of seconds runs in milliseconds, and always in the same order."""

    def __init__(self) -> None:
        self._selector_in_no_time = _Selector()
        super().__init__(self._selector_in_no_time)

    def time(self) -> float:
        """The loop's own seconds."""
        return self._selector_in_no_time.seconds

    def pass_by(self, seconds: float) -> None:
        """Be busy for so long: nothing else runs meanwhile."""
        self._selector_in_no_time.seconds += seconds


class _Selector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.seconds = 1000.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(None if timeout is None else 0)
        if not ready and timeout is not None:
            self.seconds += timeout
        return ready


class LoopClock:
    """`meter.ports.Clock` on the running loop's time."""

    def now(self) -> datetime:
        return START + timedelta(seconds=self.monotonic())

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()
