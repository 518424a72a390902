"""How an export's files are written: the report's own formats, as far as this process has them."""

import gzip
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import BinaryIO, TextIO

from meter.reports.export.layout import Encoding
from meter.reports.focus.charge import FocusCharge
from meter.reports.focus.priced import priced_charges
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.write import write_charges
from meter.reports.page.terms import PageTerms
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.report import Format, write_report

type WriteTable = Callable[[Report, BinaryIO], Awaitable[UsageRow]]
"""Writes a report to a file, and gives its total."""

_GZIP_LEVEL = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Writers:
    """The writers of tables that a process has, the preferred one first; and whether it writes pages."""

    tables: Mapping[Encoding, WriteTable]
    has_pages: bool = False


def available_writers() -> Writers:
    """Parquet where pyarrow is installed, and all else."""
    tables: dict[Encoding, WriteTable] = {}
    if find_spec("pyarrow"):
        tables[Encoding.PARQUET] = _write_parquet
    tables[Encoding.CSV] = write_csv_gz
    return Writers(tables=tables, has_pages=True)


async def write_csv_gz(report: Report, out: BinaryIO) -> UsageRow:
    """Write a report as gzipped CSV; the same rows are always the same bytes."""
    with _packed_text(out) as text:
        return await write_report(report, Format.CSV, text)


async def _write_parquet(report: Report, out: BinaryIO) -> UsageRow:
    return await write_report(report, Format.PARQUET, out)


async def write_page(report: Report, out: BinaryIO, *, terms: PageTerms) -> UsageRow:
    """Write a report's page."""
    text = io.TextIOWrapper(out, encoding="utf-8", newline="")
    try:
        return await write_report(report, Format.HTML, text, page=terms)
    finally:
        text.detach()


@dataclass(slots=True)
class FocusWriter:
    """Writes a report's charges as FOCUS, gzipped, and counts them."""

    terms: FocusTerms
    rows: int = 0

    async def write(self, report: Report, out: BinaryIO) -> UsageRow:
        """Write the charges; gives the report's total."""
        total = Total()
        with _packed_text(out) as text:
            charges = priced_charges(report, self.terms, total)
            await write_charges(self._counted(charges), self.terms, text)
        return total.row()

    async def _counted(self, charges: AsyncIterator[FocusCharge]) -> AsyncIterator[FocusCharge]:
        async for charge in charges:
            self.rows += 1
            yield charge


@contextmanager
def _packed_text(out: BinaryIO) -> Iterator[TextIO]:
    # Without a name and a time in its head: what has not changed has the same digest.
    with gzip.GzipFile(
        filename="", mode="wb", compresslevel=_GZIP_LEVEL, fileobj=out, mtime=0
    ) as packed:
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        try:
            yield text
        finally:
            text.detach()
