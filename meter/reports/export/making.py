"""Makes the files of a month, each whole, before the first one is put into the folder."""

import io
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from hashlib import sha256
from typing import BinaryIO, NamedTuple

from msgspec import structs

from meter.errors import ExportUnavailable
from meter.reports.export.layout import Encoding, Kind, path_of
from meter.reports.export.manifest import Entry, totals_of
from meter.reports.export.plan import MonthPlan
from meter.reports.export.source import DayReports, Source
from meter.reports.export.writers import FocusWriter, Writers, WriteTable, write_page
from meter.reports.rows import UsageRow
from meter.reports.usage import Report
from meter.usage import format_time
from meter.window import Period, Window, window_of

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
    writers: Writers
    now: datetime

    async def month(self, plan: MonthPlan) -> Made:
        """The month's sums."""
        report = await self.source.month(plan.month, self.now)
        return await self._made(
            Kind.MONTH, plan.month, report, self.writers.tables[self.encoding], plan
        )

    async def others(self, plan: MonthPlan) -> AsyncIterator[Made]:
        """The month's page and charges, and its days."""
        if self.source.currency is not None:
            report = await self.source.month(plan.month, self.now)
            focus = FocusWriter(self.source.focus)
            made = await self._made(Kind.FOCUS, plan.month, report, focus.write, plan)
            yield made._replace(entry=structs.replace(made.entry, rows=focus.rows))
        if self.writers.has_pages:
            report, terms = await self.source.page(plan.month, self.now)
            write = partial(write_page, terms=terms)
            yield await self._made(Kind.PAGE, plan.month, report, write, plan)
        async for made in self.days(plan):
            yield made

    async def days(self, plan: MonthPlan, only: Window | None = None) -> AsyncIterator[Made]:
        """The finished days of the month: all, or one."""
        if plan.last_day is None:
            return
        whole = await self.source.by_day(plan.month, plan.last_day, self.now)
        reports = DayReports(whole)
        for day in plan.days():
            report = reports.of(day)
            if only is None or day == only:
                yield await self._made(
                    Kind.DAY, day, report, self.writers.tables[self.encoding], plan
                )
            else:
                async for _ in report.rows:
                    pass

    async def _made(
        self, kind: Kind, window: Window, report: Report, write: WriteTable, plan: MonthPlan
    ) -> Made:
        rows = _Counted(report.rows)
        content = self.new_file()
        try:
            # Tables do not say when they were made: what has not changed has the same digest.
            as_of = report.as_of if kind is Kind.PAGE else None
            total = await write(replace(report, rows=rows.each(), as_of=as_of), content)
            size = content.seek(0, io.SEEK_END)
            content.seek(0)
            digest = sha256()
            while part := content.read(_READ_BYTES):
                digest.update(part)
            content.seek(0)
        except OSError as exc:
            content.close()
            raise ExportUnavailable(f"no room to make the file of {window.name}: {exc}") from exc
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


@dataclass(slots=True)
class _Counted:
    """Rows, counted while they are read."""

    rows: AsyncIterator[UsageRow]
    count: int = field(default=0, init=False)

    async def each(self) -> AsyncIterator[UsageRow]:
        async for row in self.rows:
            self.count += 1
            yield row


def _days_of(window: Window, now: datetime) -> tuple[str, str]:
    """The first and the last day that a file is of; the last is today while its window runs."""
    last = min(now, window.end - timedelta(microseconds=1))
    return window_of(window.start, Period.DAY).name, window_of(last, Period.DAY).name
