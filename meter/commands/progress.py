"""Says how far a rebuild has come: on a terminal in one line that is overwritten."""

from dataclasses import dataclass, field
from typing import TextIO

from meter.ports import Clock
from meter.upkeep.rebuild import Progress

SECONDS_ON_TERMINAL, SECONDS_ELSEWHERE = 2.0, 60.0


@dataclass(slots=True)
class ProgressLine:
    """Notes the progress of one rebuild, and says it every few seconds, elsewhere every minute."""

    clock: Clock
    out: TextIO
    _latest: Progress | None = None
    _started_at: float = field(init=False)
    _said_at: float = field(init=False)
    _width: int = 0

    def __post_init__(self) -> None:
        self._started_at = self._said_at = self.clock.monotonic()

    def show(self, progress: Progress) -> None:
        """Note the progress, and say it if that was not done just now."""
        self._latest = progress
        now = self.clock.monotonic()
        is_terminal = self.out.isatty()
        if now < self._said_at + (SECONDS_ON_TERMINAL if is_terminal else SECONDS_ELSEWHERE):
            return
        self._said_at = now
        text = _text(progress, now - self._started_at)
        if is_terminal:
            print(f"\r{text:{self._width}}", end="", file=self.out, flush=True)
            self._width = len(text)
        else:
            print(text, file=self.out, flush=True)

    def clear(self) -> None:
        """Make room for other lines."""
        if self._width:
            print(f"\r{'':{self._width}}\r", end="", file=self.out, flush=True)
            self._width = 0

    def interrupt(self, *, is_resumable: bool) -> None:
        """Say how to go on, if anything was begun."""
        self.clear()
        if self._latest is None:
            return
        left = self._latest.partitions[self._latest.finished :]
        if is_resumable and self._latest.finished and left:
            advice = f"resume with --buckets {int(left[0])}-{int(left[-1])}"
        else:
            advice = "run it again"
        print(f"interrupted: {advice}; what it repaired stays", file=self.out)


def _text(progress: Progress, seconds: float) -> str:
    checked, count = progress.checked, len(progress.partitions)
    text = f"{checked} of {count} buckets, {progress.calls:,} calls, "
    text += f"{progress.calls / seconds:,.0f} calls/s"
    if checked == count:
        return f"{text}, comparing the last views"
    if checked:
        text += f", about {_duration(seconds / checked * (count - checked))} left"
    return text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
