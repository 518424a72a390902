"""The budget that a page is given."""

from decimal import Decimal

import pytest

from meter.reports.page.budget import parse_budget


@pytest.mark.parametrize(
    "text", ["", "0", "0.00", "-1", "1e3", "1,000", "NaN", "Infinity", "٣", "1."]
)
def test_a_budget_is_a_plain_amount_above_0(text: str) -> None:
    """Anything else is refused with what is accepted."""
    with pytest.raises(ValueError, match="a budget is an amount above 0, such as"):
        parse_budget(text)


def test_a_budget_keeps_its_digits() -> None:
    assert parse_budget("4999.50") == Decimal("4999.50")
