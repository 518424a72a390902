"""Says how far the reading of a report is."""

from collections.abc import AsyncIterator
from typing import NamedTuple

from meter.commands.progress import ProgressLine
from meter.reports.rows import UsageRow
from meter.reports.usage import Watch
from meter.window import Window


class Reading(NamedTuple):
    """How far the reading is: the rows that were read, and the window of the latest."""

    rows: int
    window: Window


def progress_text(read: Reading, seconds: float) -> str:
    """How far it is, for a line that is overwritten."""
    return f"{read.rows:,} rows read, {read.rows / seconds:,.0f} rows/s, at {read.window.name}"


def watching(progress: ProgressLine[Reading]) -> Watch:
    """What a reading calls now and then, to have it said."""
    return lambda rows, window: progress.show(Reading(rows, window))


async def clearing(
    progress: ProgressLine[Reading], rows: AsyncIterator[UsageRow]
) -> AsyncIterator[UsageRow]:
    """The rows; what is written of them does not follow the progress on its line."""
    async for row in rows:
        progress.clear()
        yield row
