"""`--capacity`: its file, the currency it gives a report, and what is told beside CSV."""

from datetime import date
from pathlib import Path

import pytest

from meter.__main__ import main
from meter.commands.capacity import book_without_prices, costs_of, summary_of
from meter.reports.capacity.costs import NO_CAPACITY
from meter.reports.capacity.entries import Capacity
from meter.reports.write.report import Format
from meter.terminal.table import Table
from meter.wiring.books import read_capacity_file
from tests.fakes.rows import MemoryRowStore
from tests.support.capacity import entry
from tests.support.events import NOW
from tests.support.ledger import views_on
from tests.support.reports import query, row

NOVEMBER = query(first="2026-11", last="2026-11")


def test_every_problem_of_the_file_is_a_line_and_storage_is_not_tried(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 1, nothing on standard output."""
    path = tmp_path / "capacity.toml"
    path.write_text(
        '[[capacity]]\nbackend = "ptu"\nptus = 0\nfrom = 2026-10-01\nprice_per_ptu_hour = 1.5\n'
        'currency = "USD"\nidle = "by-use"\n'
    )
    code = main(["report", "--capacity", str(path)])

    output = capsys.readouterr()
    assert (code, output.out) == (1, "")
    assert output.err.splitlines() == [
        f"error: {path}, line 3: capacity[1].ptus must be a whole number from 1 to 10,000,000, got 0",
        f"error: {path}, line 5: capacity[1].price_per_ptu_hour must be decimal text of 0 or more in "
        'quotes, like "1.00", or "from price book" (it is a TOML float: put it in quotes), got 1.5',
    ]


@pytest.mark.parametrize(
    ("name", "reason"), [("absent.toml", "No such file or directory"), (".", "Is a directory")]
)
def test_a_file_that_cannot_be_read_is_one_line(
    tmp_path: Path, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It names the file and the reason."""
    path = tmp_path / name

    assert main(["report", "--capacity", str(path)]) == 1
    assert capsys.readouterr().err == f"error: {path}: cannot be read: {reason}\n"


def test_without_prices_all_else_has_none() -> None:
    """The report has the capacity's currency, and says what is unpriced."""
    book = book_without_prices(Capacity(entries=[entry(currency="EUR")]), NOVEMBER)

    assert (book.currency, list(book.prices)) == ("EUR", [])


async def test_csv_has_its_summary_beside_it() -> None:
    """A table and JSON have it themselves."""
    store = MemoryRowStore()
    await views_on(store).write([row("2026-11-10T07", backend="ptu", tier="provisioned")])
    capacity = Capacity(entries=[entry()])
    book = book_without_prices(capacity, NOVEMBER)
    costs = await costs_of(
        capacity, store, NOVEMBER, book, now=NOW, watch=lambda _rows, _window: None
    )

    assert list(summary_of(capacity, costs, Format.JSON)) == []
    assert list(summary_of(capacity, costs, Format.TABLE)) == []
    assert isinstance(next(iter(summary_of(capacity, costs, Format.CSV))), Table)


async def test_units_that_nobody_used_are_told_in_any_format() -> None:
    """All of their cost is idle, which may be a misspelt backend."""
    capacity = Capacity(entries=[entry(place="capacity[1]")])
    book = book_without_prices(capacity, NOVEMBER)
    costs = await costs_of(
        capacity, MemoryRowStore(), NOVEMBER, book, now=NOW, watch=lambda _rows, _window: None
    )

    assert list(summary_of(capacity, costs, Format.TABLE)) == [
        "warning: capacity[1]: no provisioned call of backend ptu was counted: are its name, and its "
        "tier in METER_BACKENDS, right?"
    ]


async def test_a_report_without_valid_entries_says_so() -> None:
    """A range before all of them is likely a slip."""
    capacity = Capacity(entries=[entry(first=date(2027, 1, 1))])
    book = book_without_prices(capacity, NOVEMBER)
    costs = await costs_of(
        capacity, MemoryRowStore(), NOVEMBER, book, now=NOW, watch=lambda _rows, _window: None
    )

    assert list(summary_of(capacity, costs, Format.JSON)) == [
        "warning: no entry of the capacity file is valid in this range"
    ]
    assert list(summary_of(None, NO_CAPACITY, Format.CSV)) == []


def test_a_file_is_read_with_its_path_in_messages(tmp_path: Path) -> None:
    """Entries say where they stand."""
    path = tmp_path / "capacity.toml"
    path.write_text(
        '\n[[capacity]]\nbackend = "ptu"\nptus = 1\nfrom = 2026-10-01\nprice_per_ptu_hour = "1"\n'
        'currency = "USD"\nidle = "by-use"\n'
    )
    (found,) = read_capacity_file(path).entries

    assert found.place == f"{path}, line 2: capacity[1]"
