"""Writes a usage report in one of its formats."""

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import TextIO

from meter.reports.columns import UsageRow
from meter.reports.usage import Report
from meter.reports.write import Format
from meter.reports.write.csv import write_csv
from meter.reports.write.json import write_json
from meter.reports.write.table import write_table

_WRITERS = {Format.TABLE: write_table, Format.CSV: write_csv, Format.JSON: write_json}


async def write_report(report: Report, form: Format, out: TextIO) -> None:
    """Write the rows as they are read. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    """
    first = await anext(report.rows, None)
    report = replace(report, rows=_from(first, report.rows))
    await _WRITERS[form](report, out)


async def _from(first: UsageRow | None, rest: AsyncIterator[UsageRow]) -> AsyncIterator[UsageRow]:
    if first is not None:
        yield first
        async for row in rest:
            yield row
