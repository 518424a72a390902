"""The manifest of an export: every file with its digest, range and totals; written last.

| member        | is                                                                                |
|---------------|-----------------------------------------------------------------------------------|
| `version`     | `VERSION`; a new one means that readers must change                               |
| `as_of`       | when the export last ran                                                          |
| `complete_to` | the last day before the first gap in the days' files; null without any            |
| `format`      | how tables are written: `csv.gz`, `parquet`; final months keep theirs             |
| `currency`    | of amounts; null without any                                                      |
| `sources`     | the files of prices and capacity: `file`, `sha256`                                |
| `caught_up`   | days that this run wrote after the night that they were due                       |
| `failed`      | months that this run could not write: `month`, `reason`; they keep their files    |
| `files`       | in order of paths: `path`, `kind`, `from`, `to` (days, both included), `rows`,     |
|               | `bytes`, `sha256`, `final`, `written_at`, `currency`, `totals`                    |

`totals` are those of the JSON report: counts other than 0, amounts as text, kinds without a price.
A listed file exists. One with another digest was replaced after the manifest was written: by a run under
way, or one that was killed, which the next run makes good.
"""

from collections.abc import Iterable
from datetime import timedelta
from fractions import Fraction

from msgspec import DecodeError, Struct
from msgspec.json import Decoder, Encoder, format

from meter.errors import ExportRefused
from meter.reports.columns import Column
from meter.reports.export.layout import MANIFEST, Encoding, Kind
from meter.reports.pricing.money import amount_text
from meter.reports.rows import UsageRow
from meter.window import Period, Window, window_of

VERSION = 1

type Totals = dict[str, int | str | list[str]]


class Entry(Struct, frozen=True, kw_only=True, rename={"first": "from", "last": "to"}):
    """One file. `first` and `last` are the names of its first and last day."""

    path: str
    kind: Kind
    first: str
    last: str
    rows: int
    bytes: int
    sha256: str
    final: bool
    written_at: str
    currency: str | None
    totals: Totals

    @property
    def month(self) -> Window:
        """The month that it is of, or in."""
        return Window(self.first).month


class SourceFile(Struct, frozen=True, kw_only=True):
    """A file that amounts were made from."""

    file: str
    sha256: str


class Failure(Struct, frozen=True, kw_only=True):
    """A month that could not be written."""

    month: str
    reason: str


class Manifest(Struct, frozen=True, kw_only=True, rename={"encoding": "format"}):
    """The manifest, as a value."""

    version: int = VERSION
    as_of: str
    complete_to: str | None
    encoding: Encoding
    currency: str | None
    sources: list[SourceFile]
    caught_up: list[str]
    failed: list[Failure]
    files: list[Entry]

    @property
    def by_path(self) -> dict[str, Entry]:
        """The files by their paths."""
        return {entry.path: entry for entry in self.files}

    def is_final(self, month: Window) -> bool:
        """Whether the month was written for good."""
        return any(
            each.final and each.month == month and each.kind is Kind.MONTH for each in self.files
        )


class _Version(Struct):
    version: int


def read_manifest(data: bytes) -> Manifest:
    """The manifest. Raises ExportRefused for what is none, or one of a newer program."""
    try:
        version = Decoder(_Version).decode(data).version
        if version != VERSION:
            raise ExportRefused(
                f"{MANIFEST} has version {version}, this program writes {VERSION}: use another folder"
            )
        return Decoder(Manifest).decode(data)
    except (DecodeError, UnicodeDecodeError) as exc:
        raise ExportRefused(f"{MANIFEST} is no manifest of an export: {exc}") from None


def manifest_bytes(manifest: Manifest) -> bytes:
    """The manifest as JSON over several lines."""
    return format(Encoder().encode(manifest), indent=2) + b"\n"


def totals_of(columns: Iterable[Column], total: UsageRow) -> Totals:
    """The totals of a file, by the columns of its report."""
    found: Totals = {}
    for column in columns:
        value = column.get(total) if column.has_total else None
        match value:
            case int() if value:
                found[column.name] = value
            case Fraction():
                found[column.name] = amount_text(value)
            case tuple() if value:
                found[column.name] = list(value)
    return found


def complete_to(files: Iterable[Entry]) -> str | None:
    """The last day up to which no day is missing since the first."""
    days = {entry.first for entry in files if entry.kind is Kind.DAY}
    if not days:
        return None
    day = Window(min(days))
    while (following := window_of(day.start + timedelta(days=1), Period.DAY)).name in days:
        day = following
    return day.name
