"""Writes a report as a table for people: aligned, with a total, without unused columns."""

from collections.abc import Sequence
from typing import TextIO

from meter.reports.columns import Column, Shown, UsageRow, Value
from meter.reports.usage import Report
from meter.terminal import aligned


async def write_table(report: Report, out: TextIO) -> None:
    """Write the table. All rows are held, since the widths of the columns depend on them."""
    rows = [row async for row in report.rows]
    if not rows:
        query = report.query
        out.write(f"No calls from {query.first.name} to {query.last.name} (UTC).\n")
        return
    columns = [column for column in report.columns if _is_shown(column, rows)]
    lines = aligned(
        [column.heading for column in columns],
        [_cells(columns, row) for row in rows],
        _cells(columns, sum(rows, UsageRow())),
        text_columns=[n for n, each in enumerate(columns) if isinstance(each.get(rows[0]), str)],
    )
    out.writelines(f"{line}\n" for line in lines)


def _is_shown(column: Column, rows: Sequence[UsageRow]) -> bool:
    if column.shown is not Shown.IF_USED:
        return column.shown is Shown.ALWAYS
    return any(column.get(row) for row in rows)  # not by the total: adjustments may add up to 0


def _cells(columns: Sequence[Column], row: UsageRow) -> list[str]:
    return [_cell(column.get(row)) for column in columns]


def _cell(value: Value) -> str:
    return value if isinstance(value, str) else f"{value:,}"
