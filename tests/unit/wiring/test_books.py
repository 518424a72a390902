"""Opening the files of a price book."""

from decimal import Decimal
from pathlib import Path

import pytest

from meter.config.prices import PriceSettings
from meter.errors import InvalidInput
from meter.reports.pricing.kinds import Kind
from meter.wiring.books import configured_book, read_price_book
from tests.support.prices import DAY, book_text, line, use


def test_the_later_of_two_files_wins(tmp_path: Path) -> None:
    """Files are read in the order in which they are given."""
    old, new = tmp_path / "z.csv", tmp_path / "a.csv"
    old.write_text(book_text(line(price="2.50")))
    new.write_text(book_text(line(price="2.20")))
    prices = [
        read_price_book(paths).own_price(DAY, use(), Kind.INPUT)
        for paths in ([old, new], [new, old])
    ]

    assert [price and price.price for price in prices] == [Decimal("2.20"), Decimal("2.50")]
    assert prices[0] is not None
    assert prices[0].place == f"{new}, line 2"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_names_beyond_ascii_are_read(tmp_path: Path, encoding: str) -> None:
    """UTF-8 with or without a byte order mark, and with the line ends of any system."""
    path = tmp_path / "book.csv"
    text = book_text(line(source="Vertrag Nürnberg")).replace("\n", "\r\n")
    path.write_bytes(text.encode(encoding))

    assert read_price_book([path]).prices[0].source == "Vertrag Nürnberg"


def test_a_file_that_cannot_be_opened_is_a_problem_beside_the_others(tmp_path: Path) -> None:
    """All files are read; each line names its file."""
    bad = tmp_path / "bad.csv"
    bad.write_text(book_text(line(unit="0")))
    with pytest.raises(InvalidInput) as refusal:
        read_price_book([tmp_path / "none.csv", tmp_path, bad])

    first, second, third = refusal.value.problems
    assert first == f"{tmp_path}/none.csv: cannot be read: No such file or directory"
    assert second == f"{tmp_path}: cannot be read: Is a directory"
    assert third.startswith(f"{bad}, line 2, column unit: must be a whole number from 1")


def test_the_settings_name_a_book_and_one_of_its_currencies(tmp_path: Path) -> None:
    """As --prices and --currency do; without files there is no book."""
    path = tmp_path / "book.csv"
    path.write_text(book_text(line(price="2.50"), line(price="2.30", currency="EUR")))
    book = configured_book(PriceSettings(files=(str(path),), currency="EUR"))

    assert book is not None
    assert [price.price for price in book.prices] == [Decimal("2.30")]
    assert configured_book(PriceSettings()) is None


def test_problems_of_the_book_name_the_setting_to_change(tmp_path: Path) -> None:
    """The reader of check-config gave no option."""
    path, absent = tmp_path / "book.csv", tmp_path / "none.csv"
    path.write_text(book_text(line(price="2.50"), line(price="2.30", currency="EUR")))
    wrong = [
        PriceSettings(files=(str(absent),)),
        PriceSettings(files=(str(path),)),
        PriceSettings(problems=("METER_PRICES is odd",)),
    ]
    found: list[str] = []
    for settings in wrong:
        with pytest.raises(InvalidInput) as refusal:
            configured_book(settings)
        found += refusal.value.problems

    assert found == [
        f"METER_PRICES: {absent}: cannot be read: No such file or directory",
        "METER_PRICES: the prices are in EUR and USD: choose one currency with METER_PRICES_CURRENCY",
        "METER_PRICES is odd",
    ]
