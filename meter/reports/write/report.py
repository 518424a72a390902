"""The one place that knows which writer writes which format of a report."""

from collections.abc import Awaitable, Callable, Mapping
from typing import BinaryIO, TextIO, cast

from meter.reports.focus.priced import priced_charges
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.write import write_charges
from meter.reports.page.terms import PageTerms
from meter.reports.page.write import write_page
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.csv import write_csv
from meter.reports.write.formats import PACKED as PACKED
from meter.reports.write.formats import Format as Format
from meter.reports.write.formats import format_named as format_named
from meter.reports.write.json import write_json
from meter.reports.write.parquet import write_parquet
from meter.reports.write.table import write_table
from meter.reports.write.xlsx import write_xlsx
from meter.terminal.plain import PlainScreen
from meter.terminal.table import Screen

type Output = TextIO | BinaryIO
"""Where a report goes: bytes for a binary format, text for the others."""
type _TextWriter = Callable[[Report, TextIO, Total], Awaitable[None]]
type _BinaryWriter = Callable[[Report, BinaryIO, Total], Awaitable[None]]

# A writer adds to the total what it writes, and writes nothing before it has read the first row.
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
    if form in {Format.TABLE, Format.FOCUS, Format.HTML} or form in _TEXTS or form in _BINARIES
)


async def write_report(
    report: Report,
    form: Format,
    out: Output,
    *,
    focus: FocusTerms | None = None,
    page: PageTerms | None = None,
    screen: Screen | None = None,
) -> UsageRow:
    """Write the rows as they are read, and give their total. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    `out` takes bytes if the format is binary. `focus` are the terms of a FOCUS file,
    `page` those of a page; `screen` is what shows a table on `out`.
    """
    total = Total()
    if form is Format.FOCUS:
        terms = focus or FocusTerms()
        await write_charges(priced_charges(report, terms, total), terms, cast(TextIO, out))
    elif form is Format.HTML:
        await write_page(report, cast(TextIO, out), total, terms=page)
    elif form is Format.TABLE:
        await write_table(report, screen or PlainScreen(cast(TextIO, out)), total)
    elif form.is_binary:
        await _BINARIES[form](report, cast(BinaryIO, out), total)
    else:
        await _TEXTS[form](report, cast(TextIO, out), total)
    return total.row()
