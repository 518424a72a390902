"""Writes a split invoice in one of its formats."""

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from typing import BinaryIO, TextIO, cast

from meter.reports.focus.billed import billed_charges
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.write import write_charges
from meter.reports.invoice.amounts import plain
from meter.reports.invoice.line import LineKind, Totals
from meter.reports.invoice.split import Split
from meter.reports.invoice.write.csv import write_csv
from meter.reports.invoice.write.json import write_json
from meter.reports.invoice.write.parquet import write_parquet
from meter.reports.invoice.write.table import write_table
from meter.reports.invoice.write.xlsx import write_xlsx
from meter.reports.query import Grouping
from meter.reports.write.report import Format, Output
from meter.terminal.plain import PlainScreen
from meter.terminal.table import Screen

_WARNINGS = {
    LineKind.OTHER: "is not through the meter: its quantities were billed and not counted",
    LineKind.UNMAPPED: "is of meters that are not split; their reasons are in the table and the JSON",
}


type _TextWriter = Callable[[Split, Sequence[Grouping], TextIO], Awaitable[None]]
type _BinaryWriter = Callable[[Split, Sequence[Grouping], BinaryIO], Awaitable[None]]

_TEXTS: Mapping[Format, _TextWriter] = {
    Format.CSV: write_csv,
    Format.JSON: write_json,
}
_BINARIES: Mapping[Format, _BinaryWriter] = {
    Format.PARQUET: write_parquet,
    Format.XLSX: write_xlsx,
}
FORMATS = tuple(
    form
    for form in Format
    if form in {Format.TABLE, Format.FOCUS} or form in _TEXTS or form in _BINARIES
)


async def write_invoice(
    split: Split,
    groups: Sequence[Grouping],
    form: Format,
    out: Output,
    *,
    focus: FocusTerms | None = None,
    screen: Screen | None = None,
) -> None:
    """Write it. Raises StorageUnavailable, LedgerDamaged, OSError.

    `out` takes bytes if the format is binary. `focus` are the terms of a FOCUS file,
    `screen` is what shows a table on `out`.
    """
    if form is Format.FOCUS:
        terms = focus or FocusTerms()
        await write_charges(billed_charges(split, groups, terms), terms, cast(TextIO, out))
    elif form is Format.TABLE:
        await write_table(split, groups, screen or PlainScreen(cast(TextIO, out)))
    elif form.is_binary:
        await _BINARIES[form](split, groups, cast(BinaryIO, out))
    else:
        await _TEXTS[form](split, groups, cast(TextIO, out))


def warnings_of(totals: Totals) -> Iterator[str]:
    """What the reader of a file alone would miss."""
    for kind, text in _WARNINGS.items():
        if cost := totals.cost(kind):
            yield f"warning: {plain(cost)} {totals.currency} {text}"
