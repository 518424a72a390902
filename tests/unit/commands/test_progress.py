"""The line that says how far a command is: on a terminal, never in what is written."""

import io

import pytest

from meter.commands.console.watched import Scanned, WatchedStore, scanned_text
from meter.commands.progress import ProgressLine
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import views_on
from tests.support.reports import row


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_line_is_cut_to_the_terminal_and_overwritten(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that wraps could not be overwritten."""
    monkeypatch.setenv("COLUMNS", "20")
    monkeypatch.setenv("TERM", "xterm")
    out, clock = Terminal(), FakeClock()
    line = ProgressLine[str](clock, out, lambda text, _: text)
    clock.seconds += 3
    line.show("x" * 50)
    line.clear()

    assert out.getvalue() == f"\r{'x' * 19}\r{' ' * 19}\r"


def test_a_terminal_that_cannot_overwrite_gets_a_line_now_and_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """As a log does: one per minute."""
    monkeypatch.setenv("TERM", "dumb")
    out, clock = Terminal(), FakeClock()
    line = ProgressLine[str](clock, out, lambda text, _: text)
    clock.seconds += 3
    line.show("early")
    clock.seconds += 60
    line.show("later")
    line.clear()

    assert out.getvalue() == "later\n"


async def test_a_long_reading_says_how_many_rows_were_read() -> None:
    """Every thousand; the rows are the same."""
    store, seen = MemoryRowStore(), list[Scanned]()
    await views_on(store).write([row("2026-11", f"s{n}") for n in range(1_500)])
    rows = WatchedStore(store, seen.append).scan(
        "UsageByMonth", first_partition="2026-11", last_partition="2026-11"
    )

    assert len([each async for each in rows]) == 1_500
    assert seen == [Scanned(1_000, "2026-11")]
    assert scanned_text(seen[0], 2.0) == "1,000 rows read, 500 rows/s, at 2026-11"
