"""Where the price of a PTU-hour comes from, day by day."""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from meter.errors import InvalidInput
from meter.reports.capacity.prices import ptu_prices
from meter.reports.pricing.book import Price, PriceBook
from meter.reports.pricing.kinds import Kind
from tests.support.capacity import entry

DAYS = [date(2026, 10, day) for day in (1, 2, 3, 5)]
OPEN = date(2026, 1, 1)
NO_BOOK = PriceBook(prices=(), currency="USD")


def price(amount: str, **values: Any) -> Price:
    """A price of a PTU-hour, of any provisioned deployment since January but for what is given."""
    usual: dict[str, Any] = {
        "model": "*",
        "kind": Kind.PTU_HOUR,
        "tier": "provisioned",
        "unit": 1,
        "price": Decimal(amount),
        "currency": "USD",
        "effective_from": OPEN,
    }
    return Price(**{**usual, **values})


def found(*prices: Price, region: str = "", deployment_type: str = "", **of: Any) -> list[Fraction]:
    """The prices on DAYS of an entry whose price is the book's."""
    book = PriceBook(prices=prices, currency="USD")
    prices_by_day = ptu_prices(
        entry(price=None, place="capacity[1]", **of),
        DAYS,
        book,
        region=region,
        deployment_type=deployment_type,
    )
    assert list(prices_by_day) == DAYS
    return list(prices_by_day.values())


def test_an_entry_with_a_price_needs_no_book() -> None:
    """It is the price of every day."""
    own = entry(price=Fraction(3, 2))

    assert ptu_prices(own, DAYS, NO_BOOK, region="", deployment_type="") == dict.fromkeys(
        DAYS, Fraction(3, 2)
    )


def test_a_price_changes_by_the_day() -> None:
    """Each day has the price that is valid on it."""
    until = price("1.00", effective_to=date(2026, 10, 3))
    since = price("2.40", unit=2, effective_from=date(2026, 10, 3))

    assert found(until, since) == [1, 1, Fraction(6, 5), Fraction(6, 5)]


def test_region_and_deployment_type_choose_among_prices() -> None:
    """Those of the entry, else those of the calls."""
    known = {"region": "swedencentral", "deployment_type": "global"}
    prices = [
        price("1.00", deployment_type="global", region="swedencentral"),
        price("1.10", deployment_type="data-zone", region="swedencentral"),
        price("2.20", deployment_type="regional", region="swedencentral"),
        price("9.00", deployment_type="global", region="eastus"),
    ]
    data_zone = entry(price=None, deployment_type="data-zone")
    book = PriceBook(prices=prices, currency="USD")

    assert set(ptu_prices(data_zone, DAYS, book, **known).values()) == {Fraction("1.1")}
    assert set(found(*prices, **known)) == {1}


@pytest.mark.parametrize("tier", ["*", "provisioned"])
def test_a_price_of_any_tier_is_taken_too(tier: str) -> None:
    """No other tier has PTU-hours, so `*` can mean nothing else here."""
    assert set(found(price("1.00", tier=tier))) == {1}


def test_a_price_of_one_deployment_is_its_own() -> None:
    """The most specific row wins, as for tokens."""
    prices = [price("1.00"), price("0.80", model="deployment:gpt-4o")]

    assert set(found(*prices, backend="", deployment="gpt-4o")) == {Fraction("0.8")}
    assert set(found(*prices)) == {1}


def test_days_without_a_price_are_named() -> None:
    """Those in a row as a range, and how to say which price is meant."""
    only = price("1.00", effective_from=date(2026, 10, 3), effective_to=date(2026, 10, 4))

    with pytest.raises(InvalidInput) as caught:
        found(only, region="eastus")
    assert caught.value.problems == (
        "capacity[1]: the price book has no ptu_hour of region eastus and deployment type unknown on "
        "2026-10-01 to 2026-10-02, 2026-10-05; region and deployment_type of the entry say which "
        "price is meant",
    )


def test_without_a_book_its_price_is_not_known() -> None:
    """The message names the option."""
    with pytest.raises(InvalidInput, match="give it with --prices"):
        ptu_prices(entry(price=None), DAYS, NO_BOOK, region="", deployment_type="")
