"""The formats of reports, and the one place that knows which writer writes which of them."""

from collections.abc import Awaitable, Callable, Mapping
from enum import StrEnum
from typing import BinaryIO, TextIO, cast

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
    PARQUET = "parquet"
    XLSX = "xlsx"
    HTML = "html"

    @property
    def is_binary(self) -> bool:
        """Whether it is bytes, and nothing to look at on a terminal."""
        return self in {Format.PARQUET, Format.XLSX}

    @property
    def encoding(self) -> str:
        """The encoding of its text in files: Excel reads CSV as UTF-8 if it begins with the mark."""
        return "utf-8-sig" if self is Format.CSV else "utf-8"

    def suits(self, file_name: str) -> bool:
        """Whether a file of this name may hold it: a name that says nothing may hold anything."""
        named = format_named(file_name)
        return (
            named is None
            or named is self
            or (named is Format.TABLE and not self.is_binary)  # .txt is any text
            or (named is Format.CSV and self is Format.FOCUS)
        )


_ENDINGS = {
    ".txt": Format.TABLE,
    ".csv": Format.CSV,
    ".json": Format.JSON,
    ".parquet": Format.PARQUET,
    ".xlsx": Format.XLSX,
    ".html": Format.HTML,
    ".htm": Format.HTML,
}
PACKED = ".gz"


def format_named(file_name: str) -> Format | None:
    """The format that a file's ending names, also before `.gz`; None for any other ending."""
    name = file_name.lower().removesuffix(PACKED)
    return next((form for ending, form in _ENDINGS.items() if name.endswith(ending)), None)


type Output = TextIO | BinaryIO
"""Where a report goes: bytes for a binary format, text for the others."""
type _TextWriter = Callable[[Report, TextIO, Total], Awaitable[None]]
type _BinaryWriter = Callable[[Report, BinaryIO, Total], Awaitable[None]]

# A writer adds to the total what it writes, and writes nothing before it has read the first row.
_TEXTS: Mapping[Format, _TextWriter] = {
    Format.TABLE: write_table,
    Format.CSV: write_csv,
    Format.JSON: write_json,
}
_BINARIES: Mapping[Format, _BinaryWriter] = {}
FORMATS = tuple(
    form for form in Format if form is Format.FOCUS or form in _TEXTS or form in _BINARIES
)


async def write_report(
    report: Report, form: Format, out: Output, *, focus: FocusTerms | None = None
) -> UsageRow:
    """Write the rows as they are read, and give their total. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    `out` takes bytes if the format is binary. `focus` are the terms of a FOCUS file.
    """
    total = Total()
    if form is Format.FOCUS:
        terms = focus or FocusTerms()
        await write_charges(priced_charges(report, terms, total), terms, cast(TextIO, out))
    elif form.is_binary:
        await _BINARIES[form](report, cast(BinaryIO, out), total)
    else:
        await _TEXTS[form](report, cast(TextIO, out), total)
    return total.row()
