"""Writes a usage report in one of its formats."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import TextIO

from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.csv import write_csv
from meter.reports.write.json import write_json
from meter.reports.write.table import write_table


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


type _Write = Callable[[Report, TextIO, Total], Awaitable[None]]

_WRITERS: Mapping[Format, _Write] = {
    Format.TABLE: write_table,
    Format.CSV: write_csv,
    Format.JSON: write_json,
}


async def write_report(report: Report, form: Format, out: TextIO) -> UsageRow:
    """Write the rows as they are read, and give their total. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    """
    total = Total()
    await _WRITERS[form](report, out, total)
    return total.row()
