"""Writes a usage report as a table, CSV or JSON."""

import csv
import json
from collections.abc import Sequence
from decimal import Decimal
from enum import StrEnum
from typing import TextIO

from meter.reports.columns import Column, UsageRow, Value
from meter.reports.usage import Report
from meter.terminal import aligned

# Spreadsheets run cells that begin with one of these as formulas.
_FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


async def write_report(report: Report, form: Format, out: TextIO) -> None:
    """Write the rows as they are read. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    """
    match form:
        case Format.TABLE:
            await _write_table(report, out)
        case Format.CSV:
            await _write_csv(report, out)
        case Format.JSON:
            await _write_json(report, out)


def document_text(document: object, *, depth: int = 0) -> str:
    """A document as JSON over several lines, those after the first indented by `depth` spaces."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.replace("\n", "\n" + " " * depth)


async def _write_table(report: Report, out: TextIO) -> None:
    """All rows are held, since the widths of the columns depend on them."""
    rows = [row async for row in report.rows]
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
    lines = aligned(
        [column.heading for column in columns],
        [_cells(columns, row) for row in rows],
        _cells(columns, sum(rows, UsageRow())),
        text_columns=[place for place, column in enumerate(columns) if column.is_text],
    )
    out.writelines(f"{line}\n" for line in lines)


def _cells(columns: Sequence[Column], row: UsageRow) -> list[str]:
    values = [column.get(row) for column in columns]
    return [value if isinstance(value, str) else f"{value:,}" for value in values]


async def _write_csv(report: Report, out: TextIO) -> None:
    writer = csv.writer(out, lineterminator="\n")
    head = [[column.name for column in report.columns]]
    async for row in report.rows:
        writer.writerows([*head, [_csv_cell(column.get(row)) for column in report.columns]])
        head = []
    writer.writerows(head)


def _csv_cell(value: Value) -> str:
    if isinstance(value, str):
        # An apostrophe in front makes a spreadsheet read the cell as text.
        return f"'{value}" if value[:1] in _FORMULA_STARTS else value
    return f"{value:f}" if isinstance(value, Decimal) else str(value)


async def _write_json(report: Report, out: TextIO) -> None:
    query, total = report.query, UsageRow()
    head = document_text({"by": query.period, "from": query.first.name, "to": query.last.name})
    head = head.removesuffix("\n}") + ',\n  "rows": ['
    before, after = f"{head}\n", f"{head}]"
    async for row in report.rows:
        document = {column.name: _json_value(column.get(row)) for column in report.columns}
        out.write(f"{before}    {document_text(document, depth=4)}")
        before, after = ",\n", "\n  ]"
        total += row
    numbers = [column for column in report.columns if not column.is_text]
    totals = {column.name: _json_value(column.get(total)) for column in numbers}
    out.write(f'{after},\n  "total": {document_text(totals, depth=2)}\n}}\n')


def _json_value(value: Value) -> int | str:
    """JSON numbers are read as binary floating point, so amounts are text."""
    return f"{value:f}" if isinstance(value, Decimal) else value
