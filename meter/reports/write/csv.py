"""Writes a report as CSV: every column, plain numbers, one line per row, nothing held in memory."""

import csv
from decimal import Decimal
from typing import TextIO

from meter.reports.columns import Value
from meter.reports.usage import Report

# Spreadsheets run cells that begin with one of these as formulas.
_FORMULA_STARTS = frozenset("=+-@\t\r\n＝＋－＠")


async def write_csv(report: Report, out: TextIO) -> None:
    """Write a header and the rows."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(column.name for column in report.columns)
    async for row in report.rows:
        writer.writerow(_cell(column.get(row)) for column in report.columns)


def _cell(value: Value) -> str:
    match value:
        case int():
            return str(value)
        case Decimal():
            return f"{value:f}"
        case str():
            # An apostrophe in front makes a spreadsheet read the cell as text.
            return f"'{value}" if value[:1] in _FORMULA_STARTS else value
