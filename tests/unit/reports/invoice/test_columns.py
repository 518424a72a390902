"""The columns of exports: of any version, in any case."""

import pytest

from meter.errors import InvalidInput
from meter.reports.invoice.columns import Metric, layout_of
from tests.support.invoice import FOCUS, USAGE_DETAILS


def test_columns_are_found_in_any_case() -> None:
    """EA writes `CostInBillingCurrency`, MCA `costInBillingCurrency`."""
    names = list(USAGE_DETAILS)
    found = layout_of([name.upper() for name in names], Metric.BILLED)

    assert found == layout_of(names, Metric.BILLED)
    assert not found.is_focus
    assert found.places[0] == names.index("CostInBillingCurrency")


@pytest.mark.parametrize(
    ("metric", "column"), [("billed", "BilledCost"), ("effective", "EffectiveCost")]
)
def test_focus_has_two_costs(metric: str, column: str) -> None:
    """`--cost` chooses."""
    names = list(FOCUS)
    found = layout_of(names, Metric(metric))

    assert found.is_focus
    assert found.places[0] == names.index(column)


def test_usage_details_have_one_cost() -> None:
    """Effective cost is an export of its own there."""
    with pytest.raises(InvalidInput, match="--cost effective is for FOCUS"):
        layout_of(list(USAGE_DETAILS), Metric.EFFECTIVE)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        ("Date;ResourceId;Quantity", "separated by semicolons"),
        ("Date\tResourceId\tQuantity", "separated by tabs"),
        ("name,age", "is not the header of a cost export of Azure"),
    ],
)
def test_a_header_of_another_file_is_told(header: str, problem: str) -> None:
    """What is missing is named, too."""
    with pytest.raises(InvalidInput, match=problem):
        layout_of(header.split(","), Metric.BILLED)


@pytest.mark.parametrize("column", ["MeterName", "Quantity", "ResourceId", "Date"])
def test_a_missing_column_is_named(column: str) -> None:
    """With all spellings that are accepted."""
    with pytest.raises(InvalidInput, match=f"no column {column}"):
        layout_of([name for name in USAGE_DETAILS if name != column], Metric.BILLED)


def test_a_doubled_column_is_named() -> None:
    """Which of them is meant is not guessed."""
    with pytest.raises(InvalidInput, match="has the column Quantity 2 times"):
        layout_of([*USAGE_DETAILS, "quantity"], Metric.BILLED)
