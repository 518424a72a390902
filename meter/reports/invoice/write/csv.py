"""Writes the lines of a split invoice as CSV."""

from collections.abc import Sequence
from typing import TextIO

from meter.reports.invoice.split import Split
from meter.reports.invoice.write.columns import columns_of, values_of
from meter.reports.write.csv import csv_line


async def write_csv(split: Split, groups: Sequence[str], out: TextIO) -> None:
    """Write the lines as they are made; texts are quoted, numbers are not."""
    is_terminal = out.isatty()
    out.write(csv_line(columns_of(groups), is_terminal=is_terminal))
    async for line in split.lines():
        values = values_of(line, groups, split.totals.currency)
        out.write(csv_line(values, is_terminal=is_terminal))
