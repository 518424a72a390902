"""What an export is made from: the usage, closed months and corrections, prices and capacity."""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from meter.errors import InvalidInput
from meter.ports import RowStore
from meter.reports.capacity.costs import NO_CAPACITY, CapacityCosts
from meter.reports.capacity.entries import Capacity
from meter.reports.capacity.reading import read_capacity_costs
from meter.reports.export.manifest import SourceFile
from meter.reports.focus.terms import FocusTerms
from meter.reports.owners import read_owners
from meter.reports.page.terms import PageTerms
from meter.reports.pricing.book import PriceBook
from meter.reports.query import DEFAULT_GROUPS, Grouping, Query, query_between
from meter.reports.rows import UsageRow
from meter.reports.usage import Corrections, Report, Watch, usage_report
from meter.window import Period, Window

GROUPS = tuple(Grouping)


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Reads reports. `store` has the closed numbers of the months in `closed`.

    `files` are those that `book` and `capacity` were read from.
    """

    store: RowStore
    closed: Collection[Window] = ()
    corrections: Callable[[Iterable[Window]], Awaitable[Corrections]]
    book: PriceBook | None = None
    capacity: Capacity | None = None
    focus: FocusTerms = field(default_factory=FocusTerms)
    files: Sequence[SourceFile] = ()
    watch: Watch | None = None

    @property
    def currency(self) -> str | None:
        """Of all amounts; None where there are none. Raises InvalidInput for several."""
        if self.book is not None:
            return self.book.currency
        if self.capacity is None or not self.capacity.entries:
            return None
        found = {entry.currency for entry in self.capacity.entries}
        if len(found) > 1:
            raise InvalidInput(
                [f"capacity in {' and '.join(sorted(found))}: one export has one currency"]
            )
        return found.pop()

    async def month(self, month: Window, now: datetime) -> Report:
        """The report of one month with its corrections: one row for each group."""
        query = query_between(month.start, month.end, Period.MONTH, GROUPS)
        return await self._report(query, now, await self.corrections([month]))

    async def page(self, month: Window, now: datetime) -> tuple[Report, PageTerms]:
        """The report of one month for its page, and what the page shows of it."""
        query = query_between(month.start, month.end, Period.MONTH, DEFAULT_GROUPS)
        terms = PageTerms(query=query)
        corrections = terms.placed(await self.corrections([month]))
        return await self._report(terms.read, now, corrections), terms

    async def by_day(self, month: Window, last: Window, now: datetime) -> Report:
        """The report of a month's days until the last."""
        query = query_between(month.start, last.end, Period.DAY, GROUPS)
        return await self._report(query, now, {})

    async def _report(self, query: Query, now: datetime, corrections: Corrections) -> Report:
        book = self.book
        if book is None and self.currency is not None:
            book = PriceBook(prices=(), currency=self.currency)
        return usage_report(
            self.store,
            query,
            book=book,
            capacity=await self._costs(query, book, now),
            corrections=corrections,
            as_of=now,
            watch=self.watch,
        )

    async def _costs(self, query: Query, book: PriceBook | None, now: datetime) -> CapacityCosts:
        if self.capacity is None or book is None:
            return NO_CAPACITY
        owners = await read_owners(self.store)
        return await read_capacity_costs(
            self.store, query, self.capacity, book=book, owners=owners, now=now, watch=self.watch
        )


class DayReports:
    """One reading of several days as a report of each; they must be read in order."""

    def __init__(self, whole: Report) -> None:
        self._whole = whole
        self._next: UsageRow | None = None

    def of(self, day: Window) -> Report:
        """The report of a day."""
        return replace(
            self._whole, query=replace(self._whole.query, first=day, last=day), rows=self._rows(day)
        )

    async def _rows(self, day: Window) -> AsyncIterator[UsageRow]:
        row = self._next or await anext(self._whole.rows, None)
        while row is not None and row.window == day:
            yield row
            row = await anext(self._whole.rows, None)
        self._next = row
