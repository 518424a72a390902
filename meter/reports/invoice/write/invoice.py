"""Writes a split invoice in one of its formats."""

from collections.abc import Iterator, Sequence
from typing import TextIO

from meter.reports.focus.billed import billed_charges
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.write import write_charges
from meter.reports.invoice.amounts import plain
from meter.reports.invoice.line import LineKind, Totals
from meter.reports.invoice.split import Split
from meter.reports.invoice.write.csv import write_csv
from meter.reports.invoice.write.json import write_json
from meter.reports.invoice.write.table import write_table
from meter.reports.query import Grouping
from meter.reports.write.report import Format

_WARNINGS = {
    LineKind.OTHER: "is not through the meter: its quantities were billed and not counted",
    LineKind.UNMAPPED: "is of meters that are not split; their reasons are in the table and the JSON",
}


async def write_invoice(
    split: Split,
    groups: Sequence[Grouping],
    form: Format,
    out: TextIO,
    *,
    focus: FocusTerms | None = None,
) -> None:
    """Write it. Raises StorageUnavailable, LedgerDamaged, OSError.

    `focus` are the terms of a FOCUS file.
    """
    match form:
        case Format.TABLE:
            await write_table(split, groups, out)
        case Format.CSV:
            await write_csv(split, groups, out)
        case Format.JSON:
            await write_json(split, groups, out)
        case Format.FOCUS:
            terms = focus or FocusTerms()
            await write_charges(billed_charges(split, groups, terms), terms, out)


def warnings_of(totals: Totals) -> Iterator[str]:
    """What the reader of a file alone would miss."""
    for kind, text in _WARNINGS.items():
        if cost := totals.cost(kind):
            yield f"warning: {plain(cost)} {totals.currency} {text}"
