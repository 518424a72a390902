"""Writes a split invoice in one of its formats."""

from collections.abc import Iterator, Sequence
from typing import TextIO

from meter.reports.invoice.amounts import plain
from meter.reports.invoice.line import LineKind, Totals
from meter.reports.invoice.split import Split
from meter.reports.invoice.write.csv import write_csv
from meter.reports.invoice.write.json import write_json
from meter.reports.invoice.write.table import write_table
from meter.reports.write.report import Format

FORMATS = (Format.TABLE, Format.CSV, Format.JSON)

_WARNINGS = {
    LineKind.OTHER: "is not through the meter: its quantities were billed and not counted",
    LineKind.UNMAPPED: "is of meters that are not split; their reasons are in the table and the JSON",
}


async def write_invoice(split: Split, groups: Sequence[str], form: Format, out: TextIO) -> None:
    """Write it in one of `FORMATS`. Raises StorageUnavailable, LedgerDamaged, OSError."""
    match form:
        case Format.TABLE:
            await write_table(split, groups, out)
        case Format.CSV:
            await write_csv(split, groups, out)
        case Format.JSON:
            await write_json(split, groups, out)
        case _:
            raise ValueError(f"an invoice is written as {' or '.join(FORMATS)}, not as {form}")


def warnings_of(totals: Totals) -> Iterator[str]:
    """What the reader of a file alone would miss."""
    for kind, text in _WARNINGS.items():
        if cost := totals.cost(kind):
            yield f"warning: {plain(cost)} {totals.currency} {text}"
