"""The formats that commands write, and which of them a file's name means."""

from enum import StrEnum


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
    def lists_rows(self) -> bool:
        """Whether it is the rows of a report, of which columns and an order can be chosen."""
        return self not in {Format.FOCUS, Format.HTML}

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


TABLE_AND_JSON = (Format.TABLE, Format.JSON)
# Apart from their writers, which take long to import: `--help` names the formats, too.
REPORT_FORMATS = tuple(Format)
INVOICE_FORMATS = tuple(form for form in Format if form is not Format.HTML)
SUBJECTS_FORMATS = (Format.TABLE, Format.CSV, Format.JSON)
