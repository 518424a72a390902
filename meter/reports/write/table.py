"""Writes a usage report as a table for people, whose printed amounts add up.

Amounts are rounded once, where they are printed. What the printed lines then lack of the rounded
total, or have too much, is a line of its own, `rounding`, if it is not 0.
"""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction
from typing import TextIO

from meter.reports.columns import Column, Value
from meter.reports.pricing.money import rounded, rounding_left
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.capacity import capacity_lines
from meter.terminal import aligned
from meter.window import Period, window_of

_NOT_KNOWN = "-"


async def write_table(report: Report, out: TextIO, total: Total) -> None:
    """Write all rows at once, since the widths of the columns depend on them."""
    rows = []
    async for row in report.rows:
        total.add(row)
        rows.append(row)
    if not rows:
        query = report.query
        out.write(f"No calls from {query.first.name} to {query.last.name} (UTC).\n")
        return
    # Rows decide what is shown, not their total: adjustments may add up to 0.
    columns = [
        column
        for column in report.columns
        if column.heading and (not column.is_optional or any(map(column.get, rows)))
    ]
    out.write(f"{_range(report)}\n")
    whole = total.row()
    lines = aligned(
        [column.heading for column in columns],
        [*(_cells(columns, row) for row in rows), *_rounding(columns, rows, whole)],
        [whole.label, *_cells(columns, whole, is_total=True)[1:]],
        text_columns=[place for place, column in enumerate(columns) if column.is_text],
    )
    out.writelines(f"{line}\n" for line in lines)
    if summary := list(capacity_lines(report.capacity)):
        out.writelines(f"{line}\n" for line in ("", *summary))


def _range(report: Report) -> str:
    """The days, or hours, from the first to the last of the report, and when it was made."""
    query = report.query
    names = [query.first.name, query.last.name]
    if query.period is Period.MONTH:
        last_day = query.last.end - timedelta(days=1)
        names = [window_of(moment, Period.DAY).name for moment in (query.first.start, last_day)]
    as_of = f", as of {report.as_of:%Y-%m-%d %H:%M}" if report.as_of else ""
    return f"{names[0]} to {names[1]} UTC{as_of}"


def _cells(columns: Sequence[Column], row: UsageRow, *, is_total: bool = False) -> list[str]:
    return [
        "" if is_total and not column.has_total and not column.is_text else _cell(column, row)
        for column in columns
    ]


def _cell(column: Column, row: UsageRow) -> str:
    value: Value = column.get(row)
    match value:
        case None:
            return _NOT_KNOWN
        case str():
            return value and column.shown.format(value)
        case tuple():
            return ", ".join(value)
        case Fraction():
            return f"{_rounded(column, value):,}"
        case Decimal():
            return f"{value:.1f}%"
        case int():
            return f"{value:,}"


def _rounded(column: Column, amount: Fraction) -> Decimal:
    assert column.currency is not None, f"{column.name}: amounts have a currency"
    return rounded(amount, column.currency)


def _rounding(
    columns: Sequence[Column], rows: Sequence[UsageRow], total: UsageRow
) -> list[list[str]]:
    """The line that makes the amounts add up, if they do not."""
    left = [_left(column, rows, total) for column in columns]
    if not any(left):
        return []
    cells = [f"{amount:,}" if amount else "" for amount in left]
    return [["rounding", *cells[1:]]]


def _left(column: Column, rows: Sequence[UsageRow], total: UsageRow) -> Decimal | None:
    if column.currency is None:
        return None
    amounts = [value for row in rows if isinstance(value := column.get(row), Fraction)]
    whole = column.get(total)
    if not isinstance(whole, Fraction):
        return None
    return rounding_left([_rounded(column, each) for each in amounts], _rounded(column, whole))
