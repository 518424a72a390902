"""Bills: exact costs, what has no price, and sums of bills."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest

from meter.errors import AmbiguousPrice
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.cost import Bill, Unpriced
from meter.reports.pricing.kinds import Kind
from tests.support.prices import DAY, book, price, use


@pytest.fixture
def prices() -> PriceBook:
    return book(price(), price(kind=Kind.OUTPUT, price=Decimal("10.00")))


def test_a_bill_is_quantities_times_prices(prices: PriceBook) -> None:
    """1,000,000 at 2.50 and 500 at 10.00 per million; cached input at the price of input."""
    bill = Bill()
    bill.add(
        prices, DAY, use(), {Kind.INPUT: 900_000, Kind.CACHED_INPUT: 100_000, Kind.OUTPUT: 500}
    )

    assert bill.cost == Fraction("2.505")
    assert bill.unpriced_kinds == []


def test_usage_without_a_price_is_beside_the_cost(prices: PriceBook) -> None:
    """It is never 0 and never guessed; its kinds have the order of `Kind`."""
    bill = Bill()
    bill.add(prices, DAY, use(), {Kind.WEB_SEARCH: 2, Kind.INPUT: 1_000, Kind.SECOND: 60})
    bill.add(prices, DAY, use(), {Kind.WEB_SEARCH: 3})

    assert bill.cost == Fraction("0.0025")
    assert bill.unpriced_kinds == [Kind.SECOND, Kind.WEB_SEARCH]
    assert bill.unpriced == {
        Unpriced(
            "gpt-4o-2024-11-20", Kind.WEB_SEARCH, "standard", "short", "regional", "swedencentral"
        ): 5,
        Unpriced(
            "gpt-4o-2024-11-20", Kind.SECOND, "standard", "short", "regional", "swedencentral"
        ): 60,
    }


def test_a_share_is_unpriced_under_its_own_kind() -> None:
    """Not under the parent that has no price either."""
    bill = Bill()
    bill.add(book(price(kind=Kind.OUTPUT)), DAY, use(), {Kind.AUDIO_CACHED_INPUT: 7})

    assert bill.unpriced_kinds == [Kind.AUDIO_CACHED_INPUT]


def test_a_bill_without_any_price_has_no_cost(prices: PriceBook) -> None:
    """None, not 0."""
    bill = Bill()
    bill.add(prices, DAY, use(), {Kind.SECOND: 60})

    assert bill.cost is None
    assert Bill().cost is None


def test_free_usage_costs_0() -> None:
    """A price of 0 is a price."""
    bill = Bill()
    bill.add(book(price(price=Decimal(0))), DAY, use(), {Kind.INPUT: 5})

    assert bill.cost == 0


def test_each_day_has_its_price() -> None:
    """A month's bill adds up days at the prices of that day."""
    rows = [
        price(effective_to=DAY),
        price(price=Decimal("5.00"), effective_from=DAY),
    ]
    bill = Bill()
    for day in (date(2026, 11, 22), DAY):
        bill.add(book(*rows), day, use(), {Kind.INPUT: 1_000_000})

    assert bill.cost == Fraction("7.50")
    assert list(bill.charged) == rows


def test_an_adjustment_is_charged_with_its_sign(prices: PriceBook) -> None:
    """It takes back what was counted too much; also of usage without a price."""
    bill = Bill()
    bill.add(prices, DAY, use(), {Kind.INPUT: 1_000, Kind.SECOND: 60})
    bill.add(prices, DAY, use(), {Kind.INPUT: -400, Kind.SECOND: -60})

    assert bill.cost == Fraction("0.0015")
    assert bill.unpriced_kinds == []
    assert not bill.unpriced


def test_usage_that_is_taken_back_altogether_leaves_no_trace(prices: PriceBook) -> None:
    """As if it had never been."""
    bill = Bill()
    bill.add(prices, DAY, use(), {Kind.INPUT: 1_000})
    bill.add(prices, DAY, use(), {Kind.INPUT: -1_000})

    assert bill == Bill()
    assert bill.cost is None


def test_other_costs_are_added(prices: PriceBook) -> None:
    """A share of capacity beside what is charged by the token; one of 0 is a cost, too."""
    bill = Bill()
    bill.add_other(Fraction(0))
    assert bill.cost == 0

    bill.add_other(Fraction(1, 3))
    bill.add(prices, DAY, use(), {Kind.INPUT: 1_000_000})
    assert bill.cost == Fraction(17, 6)


def test_bills_add_up(prices: PriceBook) -> None:
    """Charged, unpriced and other costs."""
    one, other, both = Bill(), Bill(), Bill()
    one.add(prices, DAY, use(), {Kind.INPUT: 1_000, Kind.SECOND: 1})
    other.add(prices, DAY, use(region="eastus"), {Kind.INPUT: 500, Kind.SECOND: 2})
    other.add_other(Fraction(1, 7))
    both += one
    both += other

    assert both.charged.total() == 1_500
    assert sorted(both.unpriced.values()) == [1, 2]
    assert both.cost == Fraction("0.00375") + Fraction(1, 7)


def test_an_ambiguous_price_stops_the_bill() -> None:
    """Either price could be wrong."""
    rows = book(price(region="swedencentral"), price(tier="standard"))
    with pytest.raises(AmbiguousPrice):
        Bill().add(rows, DAY, use(), {Kind.INPUT: 1})
