"""Writes a usage report in one of its formats."""

from enum import StrEnum
from typing import TextIO

from meter.reports.focus.priced import priced_charges
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.write import write_charges
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
    FOCUS = "focus"


async def write_report(
    report: Report, form: Format, out: TextIO, *, focus: FocusTerms | None = None
) -> UsageRow:
    """Write the rows as they are read, and give their total. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    `focus` are the terms of a FOCUS file.
    """
    total = Total()
    match form:
        case Format.TABLE:
            await write_table(report, out, total)
        case Format.CSV:
            await write_csv(report, out, total)
        case Format.JSON:
            await write_json(report, out, total)
        case Format.FOCUS:
            terms = focus or FocusTerms()
            await write_charges(priced_charges(report, terms, total), terms, out)
    return total.row()
