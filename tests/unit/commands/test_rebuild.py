"""`python -m meter rebuild`: what it says while it works, when it is interrupted, and of a subject."""

import io
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import pytest

from meter.__main__ import main
from meter.commands import rebuild as command
from meter.commands.progress import ProgressLine
from meter.commands.rebuild import progress_text
from meter.ledger.keys import LEDGER_PARTITIONS
from meter.ports import Row
from meter.upkeep.rebuild import Progress, Rebuild
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault
from tests.support.rebuilding import ALICE, LEDGER, Store, store_with_three_calls

MONTH = ["rebuild", "--month", "2026-11"]


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


class Interrupted(Store):
    """Somebody presses Ctrl-C when the ledger partition is read."""

    at = ""

    async def scan(self, table: str, **bounds: Any) -> AsyncIterator[tuple[str, Row]]:
        if table == LEDGER and bounds["first_partition"] == self.at:
            signal.raise_signal(signal.SIGINT)
        async for each in Store.scan(self, table, **bounds):
            yield each


@pytest.fixture
async def store(monkeypatch: pytest.MonkeyPatch) -> Interrupted:
    store = Interrupted(tables=(await store_with_three_calls()).tables)

    @asynccontextmanager
    async def open_repairs(_clock: object) -> AsyncIterator[tuple[Store, None]]:
        yield store, None

    monkeypatch.setattr(command, "open_repairs", open_repairs)
    return store


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """A shell has what it starts in the background ignore Ctrl-C, and so would these tests."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_a_subject_is_rebuilt_alone(store: Interrupted, capsys: pytest.CaptureFixture[str]) -> None:
    """The summary counts its calls only."""
    code = main([*MONTH, "--subject", "alice"])

    assert code == 0
    assert capsys.readouterr() == (
        "2026-11: 1 subjects, 2 calls, 3 sums checked\n"
        "the ledger is sound and the views are equal to it\n",
        "",
    )


def test_a_subject_without_a_call_is_named(
    store: Interrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be misspelt."""
    code = main([*MONTH, "--subject", "alic\x1b"])

    assert code == 1
    assert capsys.readouterr() == ("", "error: 2026-11 has no calls of subject alic\\x1b\n")


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize(("at", "left"), [("20", "16-63"), ("63", "48-63")])
def test_ctrl_c_says_how_to_resume(
    store: Interrupted,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    at: str,
    left: str,
) -> None:
    """With the first buckets whose views may not be done, of a month with many sums."""
    monkeypatch.setattr(command, "Rebuild", partial(Rebuild, most_kept=-1))
    store.at = at
    code = main(MONTH)

    assert code == 130
    assert capsys.readouterr() == (
        "",
        f"interrupted: resume with --buckets {left}; what it repaired stays\n",
    )
    store.at = ""
    assert main([*MONTH, "--buckets", left]) == 0


@pytest.mark.parametrize("words", [[], ["--subject", "alice"], ["--buckets", "10-10"]])
def test_what_has_not_come_far_is_run_again(
    store: Interrupted, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    """There is nothing to skip."""
    store.put("UsageByDay", "2026-11-23", "alice|x", Calls=1)
    store.plan("read", Fault.UNAVAILABLE)
    code = main([*MONTH, *words])

    assert ALICE == "10"
    assert code == 1
    assert capsys.readouterr().err == (
        "interrupted: run it again; what it repaired stays\n"
        f"error: table storage did not answer: {LEDGER}: no answer\n"
    )


def test_storage_that_does_not_answer_at_all_is_said_in_one_line(
    store: Interrupted, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing was begun."""
    store.plan("names", Fault.UNAVAILABLE)
    code = main(MONTH)

    assert code == 1
    assert len(capsys.readouterr().err.splitlines()) == 1


@pytest.mark.parametrize(
    ("checked", "text"),
    [
        (0, "0 of 64 buckets, 120,000 calls, 6,000 calls/s"),
        (16, "16 of 64 buckets, 120,000 calls, 6,000 calls/s, about 60 s left"),
        (2, "2 of 64 buckets, 120,000 calls, 6,000 calls/s, about 10 min left"),
        (64, "64 of 64 buckets, 120,000 calls, 6,000 calls/s, comparing the last views"),
    ],
)
def test_progress_is_one_line_that_a_terminal_overwrites(
    checked: int, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shorter line covers the longer one before it, and in the end it is gone."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    clock, out = FakeClock(), Terminal()
    line = ProgressLine(clock, out, progress_text)
    progress = Progress(partitions=LEDGER_PARTITIONS, calls=120_000, checked=checked)
    line.show(progress)
    clock.seconds += 20
    line.show(progress)
    line.show(progress)
    assert out.getvalue() == f"\r{text}"
    line.clear()

    assert out.getvalue() == f"\r{text}\r{' ' * len(text)}\r"


def test_elsewhere_progress_is_a_line_a_minute() -> None:
    """A log gets few of them, and a short rebuild none."""
    clock, out = FakeClock(), io.StringIO()
    line = ProgressLine(clock, out, progress_text)
    for _ in range(130):
        clock.seconds += 1
        line.show(Progress(partitions=LEDGER_PARTITIONS, calls=600, checked=0))
    line.clear()

    assert out.getvalue() == (
        "0 of 64 buckets, 600 calls, 10 calls/s\n0 of 64 buckets, 600 calls, 5 calls/s\n"
    )
