"""Writes the lines of a split invoice as Parquet; what they are in all is in the metadata."""

from collections.abc import Sequence
from typing import BinaryIO

from meter.reports.invoice.split import Split
from meter.reports.invoice.write.columns import columns_of, typed, values_of
from meter.reports.invoice.write.json import ends_of
from meter.reports.write.parquet import ParquetTable


async def write_parquet(split: Split, groups: Sequence[str], out: BinaryIO) -> None:
    """Write the lines as they are made. Raises InvalidInput if pyarrow is missing."""
    currency, month = split.totals.currency, split.bill.month.name
    columns = typed(columns_of(groups), currency)
    with ParquetTable(out, columns, {"month": month, "currency": currency}) as table:
        async for line in split.lines():
            table.add(values_of(line, groups, currency))
        table.finish(ends_of(split.totals, month))
