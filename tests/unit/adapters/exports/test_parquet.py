"""Exports in Parquet: the same rows as in CSV, whatever the types of their columns."""

import sys
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from meter.adapters.exports import parquet as reading
from meter.errors import InvalidInput
from meter.reports.invoice.billed import Bill
from tests.support.invoice import bill_of, details, focus
from tests.support.reconcile import EAST, WEST


def write(file: Path, rows: list[dict[str, Any]], **types: arrow.DataType) -> None:
    """A file whose other columns are texts."""
    columns = {
        name: arrow.array([row.get(name) for row in rows], types.get(name, arrow.string()))
        for name in rows[0]
    }
    parquet.write_table(arrow.table(columns), file)


def billed(bill: Bill) -> list[tuple[date, str, Decimal, Decimal]]:
    return [
        (meter.day, meter.account, meter.quantity, meter.cost)
        for meters in bill.by_day().values()
        for meter in meters
    ]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "part_0_0001.parquet"


def test_decimals_and_days_keep_all_their_digits(file: Path) -> None:
    """FOCUS exports have decimal columns."""
    cost, quantity = Decimal("0.123456789012345678"), Decimal("29.872")
    row: dict[str, Any] = focus() | {
        "BilledCost": cost,
        "PricingQuantity": quantity,
        "x_PricingBlockSize": Decimal(1000),
        "ChargePeriodStart": datetime(2026, 10, 1, tzinfo=UTC),
        "ConsumedQuantity": None,
        "x_PricingUnitDescription": None,
    }
    decimals = dict.fromkeys(("BilledCost", "PricingQuantity", "x_PricingBlockSize"))
    write(
        file,
        [row],
        **dict.fromkeys(decimals, arrow.decimal128(38, 18)),
        ChargePeriodStart=arrow.timestamp("us", tz="UTC"),
    )

    assert billed(bill_of(file)) == [(date(2026, 10, 1), EAST, Decimal(29872), cost)]


def test_binary_numbers_are_taken_by_their_shortest_text(file: Path) -> None:
    """0.1 in a double is 0.1, not 0.1000000000000000055."""
    row: dict[str, Any] = details() | {"CostInBillingCurrency": 0.1, "Quantity": 3.0}
    row["Date"] = date(2026, 10, 2)
    double = arrow.float64()
    write(file, [row], CostInBillingCurrency=double, Quantity=double, Date=arrow.date32())

    assert billed(bill_of(file)) == [(date(2026, 10, 2), EAST, Decimal(3000), Decimal("0.1"))]


def test_rows_of_other_resources_are_passed_over(file: Path) -> None:
    """Also those without any; batches are added up."""
    rows: list[dict[str, Any]] = [
        details() | {"ResourceId": resource} for resource in (EAST.upper(), WEST, None) * 25_000
    ]
    write(file, rows)
    bill = bill_of(file)

    assert bill.rows == 25_000
    assert billed(bill) == [(date(2026, 10, 1), EAST, Decimal(25_000_000), Decimal("62.5000"))]


def test_a_cell_that_cannot_be_read_is_told_with_its_row(file: Path) -> None:
    """Rows are counted from 1."""
    write(file, [details(), details(CostInBillingCurrency="1,5")])

    with pytest.raises(InvalidInput, match=r"part_0_0001\.parquet, row 2: the cost must be"):
        bill_of(file)


@pytest.mark.parametrize("data", [b"PAR1" + b"x" * 100, b"PAR1", None])
def test_a_damaged_file_is_told_in_one_line(file: Path, data: bytes | None) -> None:
    """Cut off, or something else."""
    write(file, [details()])
    file.write_bytes(file.read_bytes()[:-30] if data is None else data)

    with pytest.raises(InvalidInput) as failure:
        bill_of(file)
    (told,) = failure.value.problems
    assert told.startswith(f"{file} is damaged or no Parquet: ")
    assert "\n" not in told


def test_a_missing_column_is_told(file: Path) -> None:
    """As in CSV."""
    write(file, [{"a": "b"}])

    with pytest.raises(InvalidInput, match="is not the header of a cost export"):
        bill_of(file)


def test_without_the_package_its_name_is_told(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is large, and few need it."""
    write(file, [details()])
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)

    with pytest.raises(InvalidInput, match=r"pip install 'aoai-meter\[parquet\]', or export CSV"):
        bill_of(file)


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (True, "true"), (Decimal("1E+3"), "1000"), (1e-7, "1e-07"), (5, "5"), ("x", "x")],
)
def test_cells_become_the_text_that_csv_has(value: object, text: str) -> None:
    """So one reader checks them."""
    assert reading.text_of(value) == text
