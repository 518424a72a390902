"""Says how far a long command has come: on a terminal in one line that is overwritten."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TextIO

from meter.commands.console.screen import USUAL_WIDTH, is_overwritable, width_of
from meter.ports import Clock

SECONDS_ON_TERMINAL, SECONDS_ELSEWHERE = 2.0, 60.0


@dataclass(slots=True)
class ProgressLine[T]:
    """Notes the progress of one run, and says it every few seconds, elsewhere every minute.

    `text` says it in words, given the seconds since the start.
    """

    clock: Clock
    out: TextIO
    text: Callable[[T, float], str]
    latest: T | None = None
    _started_at: float = field(init=False)
    _said_at: float = field(init=False)
    _width: int = 0

    def __post_init__(self) -> None:
        self._started_at = self._said_at = self.clock.monotonic()

    def show(self, progress: T) -> None:
        """Note the progress, and say it if that was not done just now."""
        self.latest = progress
        now = self.clock.monotonic()
        is_terminal = is_overwritable(self.out)
        if now < self._said_at + (SECONDS_ON_TERMINAL if is_terminal else SECONDS_ELSEWHERE):
            return
        self._said_at = now
        text = self.text(progress, now - self._started_at)
        if is_terminal:
            width = width_of(self.out) or USUAL_WIDTH
            text = text[: width - 1]  # a line that wraps could not be overwritten
            print(f"\r{text:{self._width}}", end="", file=self.out, flush=True)
            self._width = len(text)
        else:
            print(text, file=self.out, flush=True)

    def clear(self) -> None:
        """Make room for other lines."""
        if self._width:
            print(f"\r{'':{self._width}}\r", end="", file=self.out, flush=True)
            self._width = 0
