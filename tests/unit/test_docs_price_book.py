"""The price book in docs/price-book.md costs what the page says, and has what the code accepts."""

import io
import re
from datetime import date
from fractions import Fraction

import pytest

from meter.reports.pricing.book import PriceBook, book_in
from meter.reports.pricing.cells import COLUMNS, TIERS
from meter.reports.pricing.cost import Bill
from meter.reports.pricing.kinds import Kind, quantities_of
from meter.reports.pricing.read import MOST_ROWS, BookReader
from meter.usage import TokenUsage
from tests.support.prices import use
from tests.support.running import REPOSITORY

PAGE = (REPOSITORY / "docs" / "price-book.md").read_text(encoding="utf-8")
USAGE = TokenUsage(
    prompt_tokens=1_000_000,
    cached_tokens=400_000,
    completion_tokens=50_000,
    total_tokens=1_050_000,
)


@pytest.fixture
def book() -> PriceBook:
    block = re.search(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    assert block is not None
    reader = BookReader()
    reader.read("example.csv", io.StringIO(block[1]))
    return book_in(reader.prices(), None)


DAYS = re.findall(r"\| (\d{4}-\d\d-\d\d) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|", PAGE)


@pytest.mark.parametrize(("day", "input_cost", "cached", "output", "cost"), DAYS)
def test_the_example_costs_what_the_page_says(
    book: PriceBook, day: str, input_cost: str, cached: str, output: str, cost: str
) -> None:
    """Each kind, and in all, on both days."""
    assert (
        "1,000,000 prompt tokens of `gpt-4o-2024-11-20`, 400,000 of them cached, and 50,000" in PAGE
    )
    quantities = quantities_of(USAGE)
    costs = {}
    for kind, quantity in quantities.items():
        bill = Bill()
        bill.add(book, date.fromisoformat(day), use(), {kind: quantity})
        costs[kind] = bill.cost
    whole = Bill()
    whole.add(book, date.fromisoformat(day), use(), quantities)

    assert len(DAYS) == 2
    assert costs == {
        Kind.INPUT: Fraction(input_cost),
        Kind.CACHED_INPUT: Fraction(cached),
        Kind.OUTPUT: Fraction(output),
    }
    assert whole.cost == Fraction(cost)


def test_the_page_lists_columns_kinds_and_the_bound() -> None:
    """As the code has them."""
    rows = dict(re.findall(r"^\| (`.*`) \| (.*) \|$", PAGE, re.MULTILINE))
    listed = {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}

    assert listed == set(COLUMNS)
    assert re.findall(r"`([^`]+)`", rows["`kind`"]) == list(Kind)
    assert f"at most {MOST_ROWS:,} rows" in PAGE
    assert "batch" in TIERS
