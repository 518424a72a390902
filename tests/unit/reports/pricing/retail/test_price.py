"""Items of Azure's retail prices: the API's own, and rows of tables that others made of it."""

from datetime import date
from decimal import Decimal

import pytest

from meter.reports.pricing.retail.price import RetailPrice, Wanted, retail_prices
from tests.support.retail import api_item


def one(**changes: object) -> RetailPrice:
    (found,) = retail_prices(api_item(**changes), "USD")
    return found


def test_an_item_of_the_api_is_one_price() -> None:
    """Fields that say nothing of the price are passed over."""
    assert one() == RetailPrice(
        product="Azure OpenAI GPT5",
        meter_name="5.4 inp Gl 1M Tokens",
        meter_id="a1",
        region="swedencentral",
        unit="1M",
        price=Decimal("2.5"),
        currency="EUR",
        since=date(2026, 3, 1),
        until=None,
        type="Consumption",
        least_units=Decimal(0),
    )


def test_a_row_for_several_regions_is_several_prices() -> None:
    """`Global` is the region of what has none."""
    row = {
        "product_name": "Azure OpenAI",
        "meter_name": "o3-pro Inp glbl Tokens",
        "regions": "eastus Global",
        "unit_of_measure": "1K",
        "retail_price_usd": "0.02",
        "effective_start_date": "2025-06-01",
    }

    found = list(retail_prices(row, "EUR"))

    assert [(each.region, each.price, each.currency) for each in found] == [
        ("eastus", Decimal("0.02"), "USD"),
        ("", Decimal("0.02"), "USD"),
    ]


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        ("2026-06-30T23:59:00Z", date(2026, 7, 1)),
        ("2026-07-01T00:00:00Z", date(2026, 7, 1)),
        ("2026-07-01", date(2026, 7, 1)),
        ("", None),
    ],
)
def test_the_end_is_the_day_after_the_last(end: str, expected: date | None) -> None:
    """Azure ends a price a minute before midnight."""
    assert one(effectiveEndDate=end).until == expected


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("meterName", "", "has no metername"),
        ("meterName", None, "has no metername"),
        ("meterName", ["a"], "metername must be text or a number"),
        ("meterName", "a\x1b[2J", "metername must be a short, printable text"),
        ("meterName", "a" * 2_001, "metername must be a short, printable text"),
        ("retailPrice", True, "retailprice must be text or a number"),
        ("retailPrice", "1,5", "retailprice must be a decimal number, got '1,5'"),
        ("retailPrice", "1e999", "retailprice must be a decimal number"),
        ("retailPrice", float("inf"), "retailprice must be a decimal number, got 'inf'"),
        ("effectiveStartDate", "01/03/2026", "effectivestartdate must begin with a day"),
        ("tierMinimumUnits", "many", "tierminimumunits must be a decimal number"),
    ],
)
def test_a_field_that_cannot_be_used_is_named(field: str, value: object, said: str) -> None:
    """One broken price makes the whole list doubtful."""
    with pytest.raises(ValueError, match=f"^{said}".replace("[", r"\[")):
        one(**{field: value})


def test_prices_are_wanted_by_region_and_product() -> None:
    """Without either, all are."""
    price = one()

    assert Wanted(currency="USD").includes(price)
    assert Wanted(currency="USD", regions=("eastus", "swedencentral")).includes(price)
    assert not Wanted(currency="USD", regions=("eastus",)).includes(price)
    assert not Wanted(currency="USD", products=("Azure OpenAI",)).includes(price)
