"""Makes the files of a month, each whole, before the first one is put into the folder."""

import gzip
import io
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from hashlib import sha256
from typing import BinaryIO, NamedTuple, TextIO

from msgspec import structs

from meter.reports.export.layout import Encoding, Kind, path_of
from meter.reports.export.manifest import Entry, totals_of
from meter.reports.export.plan import MonthPlan
from meter.reports.export.source import Source
from meter.reports.focus.charge import FocusCharge
from meter.reports.focus.priced import priced_charges
from meter.reports.focus.write import write_charges
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.report import Format, write_report
from meter.usage import format_time
from meter.window import Period, Window, window_of

type WriteTable = Callable[[Report, BinaryIO], Awaitable[UsageRow]]
"""Writes a report to a file, and gives its total."""

_GZIP_LEVEL = 6
_READ_BYTES = 1_048_576


class Made(NamedTuple):
    """A file, and what the manifest says of it."""

    entry: Entry
    content: BinaryIO


@dataclass(frozen=True, slots=True, kw_only=True)
class Maker:
    """Makes files. `new_file` gives an empty one that may be large; the caller closes it."""

    source: Source
    new_file: Callable[[], BinaryIO]
    encoding: Encoding
    writers: Mapping[Encoding, WriteTable]
    page: WriteTable | None
    now: datetime

    async def month(self, plan: MonthPlan) -> Made:
        """The month's sums."""
        report = await self.source.month(plan.month, self.now)
        return await self._made(Kind.MONTH, plan.month, report, self.writers[self.encoding], plan)

    async def others(self, plan: MonthPlan) -> AsyncIterator[Made]:
        """The month's page and charges, and its days."""
        if self.source.currency is not None:
            report = await self.source.month(plan.month, self.now)
            charges = _Charges(self.source)
            made = await self._made(Kind.FOCUS, plan.month, report, charges.write, plan)
            yield made._replace(entry=structs.replace(made.entry, rows=charges.count))
        if self.page is not None:
            report = await self.source.month(plan.month, self.now)
            yield await self._made(Kind.PAGE, plan.month, report, self.page, plan)
        async for made in self.days(plan):
            yield made

    async def days(self, plan: MonthPlan, only: Window | None = None) -> AsyncIterator[Made]:
        """The finished days of the month: all, or one."""
        if plan.last_day is None:
            return
        reports = await self.source.days(plan.month, plan.last_day, self.now)
        for day in plan.days():
            report = reports.of(day)
            if only is None or day == only:
                yield await self._made(Kind.DAY, day, report, self.writers[self.encoding], plan)
            else:
                async for _ in report.rows:
                    pass

    async def _made(
        self, kind: Kind, window: Window, report: Report, write: WriteTable, plan: MonthPlan
    ) -> Made:
        rows = _Counted(report.rows)
        content = self.new_file()
        try:
            total = await write(replace(report, rows=rows.each()), content)
            size = content.seek(0, io.SEEK_END)
            content.seek(0)
            digest = sha256()
            while part := content.read(_READ_BYTES):
                digest.update(part)
            content.seek(0)
        except BaseException:
            content.close()
            raise
        first, last = _days_of(window, self.now)
        entry = Entry(
            path=path_of(kind, window, self.encoding),
            kind=kind,
            first=first,
            last=last,
            rows=rows.count,
            bytes=size,
            sha256=digest.hexdigest(),
            final=plan.is_final,
            written_at=format_time(self.now),
            currency=report.currency,
            totals=totals_of(report.columns, total),
        )
        return Made(entry, content)


async def write_csv_gz(report: Report, out: BinaryIO) -> UsageRow:
    """Write a report as gzipped CSV; the same rows are always the same bytes."""
    with _gzipped_text(out) as text:
        return await write_report(report, Format.CSV, text)


@dataclass(slots=True)
class _Charges:
    """Writes a month's charges as FOCUS, and counts them."""

    source: Source
    count: int = 0

    async def write(self, report: Report, out: BinaryIO) -> UsageRow:
        total, terms = Total(), self.source.focus
        with _gzipped_text(out) as text:
            charges = priced_charges(report, terms, total)
            await write_charges(self._counted(charges), terms, text)
        return total.row()

    async def _counted(self, charges: AsyncIterator[FocusCharge]) -> AsyncIterator[FocusCharge]:
        async for charge in charges:
            self.count += 1
            yield charge


@dataclass(slots=True)
class _Counted:
    """Rows, counted while they are read."""

    rows: AsyncIterator[UsageRow]
    count: int = field(default=0, init=False)

    async def each(self) -> AsyncIterator[UsageRow]:
        async for row in self.rows:
            self.count += 1
            yield row


@contextmanager
def _gzipped_text(out: BinaryIO) -> Iterator[TextIO]:
    # Without a time in its head: what has not changed has the same digest.
    with gzip.GzipFile(
        fileobj=out, mode="wb", mtime=0, compresslevel=_GZIP_LEVEL, filename=""
    ) as packed:
        text = io.TextIOWrapper(packed, encoding="utf-8", newline="")
        yield text
        text.flush()
        text.detach()


def _days_of(window: Window, now: datetime) -> tuple[str, str]:
    """The first and the last day that a file is of; the last is today while its window runs."""
    last = min(now, window.end - timedelta(microseconds=1))
    return window_of(window.start, Period.DAY).name, window_of(last, Period.DAY).name
