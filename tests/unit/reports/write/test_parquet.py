"""A usage report as Parquet: types, nulls, metadata, and the values that JSON has."""

import io
import json
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pyarrow.parquet
import pytest
from hypothesis import given, settings

from meter.errors import InvalidInput, StorageUnavailable
from meter.ledger.fold import Sums
from meter.reports.columns import Cells, usage_columns
from meter.reports.pricing.cost import Unpriced
from meter.reports.pricing.kinds import Kind
from meter.reports.rows import UsageRow
from meter.reports.usage import Report
from meter.reports.write import parquet
from meter.reports.write.report import Format, write_report
from tests.support.files import bytes_of, decimal_of, document_of, report_of, usage_rows, used
from tests.support.reports import query

BY_DAY = query("day", "2026-11", "2026-11", groups="subject,team")


async def table_of(report: Report) -> Any:
    return _read(await bytes_of(report, Format.PARQUET))


def _read(data: bytes) -> Any:
    return pyarrow.parquet.ParquetFile(io.BytesIO(data)).read(use_threads=False)


@settings(max_examples=40, deadline=None)
@given(usage_rows())
async def test_it_has_the_values_of_the_json(rows: list[UsageRow]) -> None:
    """By any names and numbers; amounts to 20 decimals, the last of which may be rounded otherwise."""
    table = await table_of(report_of(rows, BY_DAY, "EUR"))
    document = await document_of(report_of(rows, BY_DAY, "EUR"))

    columns = usage_columns(BY_DAY, "EUR")
    assert [name for name in table.column_names if name != "window_start"] == [
        column.name for column in columns
    ]
    for found, wanted in zip(table.to_pylist(), document["rows"], strict=True):
        for column in columns:
            value, expected = found[column.name], wanted[column.name]
            match column.cells:
                case Cells.AMOUNT | Cells.PERCENTAGE:
                    expected = decimal_of(expected)
                    if value is not None and expected is not None:
                        assert abs(value - expected) <= Decimal("1e-20"), column.name
                        continue
                case Cells.MOMENT:
                    expected = datetime.fromisoformat(expected) if expected else None
            assert value == expected, column.name


@settings(max_examples=40, deadline=None)
@given(usage_rows())
async def test_amounts_add_up_to_the_exact_total(rows: list[UsageRow]) -> None:
    """To 20 decimals, though parts without a last digit are rounded: the next one gets the rest."""
    table = await table_of(report_of(rows, BY_DAY, "EUR"))
    whole = sum((row.cost for row in rows if row.cost is not None), Fraction(0))

    written = sum((each for each in table["cost"].to_pylist() if each is not None), Decimal(0))
    assert abs(Fraction(written) - whole) <= Fraction(1, 2 * 10**20)


async def test_columns_have_types() -> None:
    """None of them is text for want of a better one; a window's start is a moment."""
    table = await table_of(report_of([used("alice", "search")], BY_DAY, "EUR"))

    types = {name: str(table.schema.field(name).type) for name in table.column_names}
    text = "dictionary<values=string, indices=int32, ordered=0>"
    assert types["day"] == types["subject"] == types["currency"] == text
    assert types["window_start"] == types["first_call_at"] == "timestamp[us, tz=UTC]"
    assert types["cost"] == types["adjusted_cost"] == "decimal128(38, 20)"
    assert types["share_percent"] == "decimal128(38, 4)"
    assert types["unpriced"] in {"list<element: string>", "list<item: string>"}
    assert {types[name] for name in ("calls", "net_images", "adjusted_seconds")} == {"int64"}


async def test_null_is_what_is_not_known() -> None:
    """No cost is not 0, and no call has no moment."""
    row = UsageRow(window=used().window, names=("alice", ""), sums=Sums(), charge=used().charge)
    (found,) = (await table_of(report_of([row], BY_DAY, "EUR"))).to_pylist()

    nulls = {name for name, value in found.items() if value is None}
    assert nulls == {
        *("first_call_at", "last_call_at", "estimated_percent", "missing_percent"),
        *("adjusted_cost", "cost", "share_percent"),
    }
    assert (found["team"], found["unpriced"]) == ("", [])


async def test_its_metadata_say_what_it_is_about() -> None:
    """A file that was moved can still be understood, and checked for being whole."""
    row = used("alice", "search", calls=2, prompt_tokens=7, cost=Fraction(1, 3))
    assert row.charge is not None
    missing = Unpriced("gpt", Kind("output"), "standard", "short", "", "")
    row.charge.bill.unpriced[missing] = 5
    table = await table_of(report_of([row], BY_DAY, "EUR"))

    metadata = {name.decode(): value.decode() for name, value in table.schema.metadata.items()}
    totals, unpriced = (
        json.loads(metadata.pop(f"meter.{name}")) for name in ("totals", "unpriced")
    )
    assert {name: value for name, value in metadata.items() if name[:6] == "meter."} == {
        "meter.version": "1",
        "meter.by": "day",
        "meter.from": "2026-11-01",
        "meter.to": "2026-11-30",
        "meter.currency": "EUR",
        "meter.as_of": "2026-11-23T07:30:00.000000Z",
    }
    assert (totals["calls"], totals["cost"]) == (2, "0.33333333333333333333")
    assert unpriced[0]["quantity"] == 5
    assert table["unpriced"].to_pylist() == [["output"]]


async def test_without_rows_it_has_all_columns() -> None:
    """A query over many files finds the same ones in each."""
    empty = await table_of(report_of([], BY_DAY, "EUR"))
    full = await table_of(report_of([used("alice", "search")], BY_DAY, "EUR"))

    assert empty.num_rows == 0
    assert empty.schema.equals(full.schema)


async def test_rows_are_written_in_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only one group is held; names of all of them stay right."""
    monkeypatch.setattr(parquet, "BATCH", 10)
    monkeypatch.setattr(parquet, "ROW_GROUP", 30)
    rows = [used(f"s{n % 7}", f"t{n}", calls=n) for n in range(95)]
    data = await bytes_of(report_of(rows, BY_DAY), Format.PARQUET)

    metadata = pyarrow.parquet.ParquetFile(io.BytesIO(data)).metadata
    groups = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
    assert groups == [30, 30, 30, 5]
    found = _read(data)
    assert found["subject"].to_pylist() == [row.names[0] for row in rows]
    assert found["calls"].to_pylist() == list(range(95))


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (used("a", "b", prompt_tokens=2**63), "prompt_tokens: 9223372036854775808 has too many"),
        (used("a", "b", cost=Fraction(10**18)), "cost: 1000000000000000000 has too many digits"),
    ],
)
async def test_a_number_that_does_not_fit_is_refused(row: UsageRow, reason: str) -> None:
    """Rather than cut; the message says which formats hold it."""
    with pytest.raises(InvalidInput, match=reason):
        await bytes_of(report_of([used("c", "d"), row], BY_DAY, "EUR"), Format.PARQUET)


async def test_half_a_character_is_shown() -> None:
    """No file of text can hold it."""
    table = await table_of(report_of([used("a\ud800", "é"), used("b", "c")], BY_DAY))

    assert table["subject"].to_pylist() == ["a\\ud800", "b"]


async def test_a_table_that_was_cut_off_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Arrow would give it an end, and so would make half a table a whole one."""

    async def rows() -> AsyncIterator[UsageRow]:
        yield used("alice", "search")
        yield used("alice", "search")
        raise StorageUnavailable("UsageByDay: query")

    monkeypatch.setattr(parquet, "BATCH", 1)
    monkeypatch.setattr(parquet, "ROW_GROUP", 1)
    out = io.BytesIO()
    with pytest.raises(StorageUnavailable):
        await write_report(replace(report_of([], BY_DAY), rows=rows()), Format.PARQUET, out)

    assert len(out.getvalue()) > 1_000
    with pytest.raises(pyarrow.ArrowInvalid):
        pyarrow.parquet.ParquetFile(io.BytesIO(out.getvalue()))


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(InvalidInput, match=r"pip install 'aoai-meter\[parquet\]'"):
        await bytes_of(report_of([], BY_DAY), Format.PARQUET)
