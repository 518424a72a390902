"""Reads the usage of a query from the view tables, one window at a time."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from functools import partial
from operator import itemgetter
from types import MappingProxyType

from meter.ledger.keys import view_window
from meter.ledger.rows import Place
from meter.ledger.views.shards import Splits, read_splits
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.reports.adding import DayPrices, Groups, labels_of
from meter.reports.capacity.costs import NO_CAPACITY, CapacityCosts
from meter.reports.columns import Column, usage_columns
from meter.reports.owners import Owners, read_owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Query
from meter.reports.rows import UsageRow
from meter.window import Period, Window, window_of

PARTITIONS_AT_ONCE = 8

type Corrections = Mapping[Window, Sequence[tuple[Window, Row]]]
"""Usage of closed months by the month in which it arrived: view rows of the days that it is of."""
type Watch = Callable[[int, Window], None]
"""Called now and then with how many stored rows were read, and the window of the latest."""
WATCHED_ROWS = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A query, its columns, and its rows in order of window and names. Rows can be read once.

    `as_of` is when it was made, `currency` that of its amounts, if it has any.
    """

    query: Query
    columns: tuple[Column, ...]
    rows: AsyncIterator[UsageRow]
    currency: str | None = None
    as_of: datetime | None = None
    capacity: CapacityCosts = NO_CAPACITY


def usage_report(
    store: RowStore,
    query: Query,
    *,
    book: PriceBook | None = None,
    capacity: CapacityCosts = NO_CAPACITY,
    corrections: Corrections = MappingProxyType({}),
    as_of: datetime | None = None,
    watch: Watch | None = None,
) -> Report:
    """The usage of a query, read while it is written; with a book, what it is charged.

    `capacity` are the costs of provisioned units in its range, in the book's currency.
    """
    currency = None if book is None else book.currency
    return Report(
        query=query,
        columns=usage_columns(query, currency, has_corrections=bool(corrections)),
        rows=read_usage(
            store, query, book=book, capacity=capacity, corrections=corrections, watch=watch
        ),
        currency=currency,
        as_of=as_of,
        capacity=capacity,
    )


async def read_usage(
    store: RowStore,
    query: Query,
    *,
    book: PriceBook | None = None,
    capacity: CapacityCosts = NO_CAPACITY,
    corrections: Corrections = MappingProxyType({}),
    watch: Watch | None = None,
) -> AsyncIterator[UsageRow]:
    """The usage per window and group, in this order, with what it is charged by the book.

    Views are sorted by window, so only the groups of one window are held in memory. Prices are those
    of a day, so a month with prices is read day by day. Raises StorageUnavailable, LedgerDamaged,
    AmbiguousPrice.
    """
    is_joined = any(group.is_joined for group in query.groups)
    owners = await read_owners(store) if is_joined else Owners()
    prices = None if book is None else DayPrices(book)
    reading = _Reading(
        store=store,
        query=query,
        splits=await read_splits(store),
        period=Period.DAY if book and query.period is Period.MONTH else query.period,
        new_groups=partial(Groups, labels_of(query.groups, owners), prices, capacity),
        # What a closed month pays of capacity is closed, too.
        late_groups=partial(
            Groups, labels_of(query.groups, owners), prices, replace(capacity, amounts={})
        ),
        corrections=corrections,
        watch=watch or (lambda _rows, _window: None),
    )
    async for row in reading.rows():
        yield row


@dataclass(slots=True, kw_only=True)
class _Reading:
    """One reading of a query, from the view of a period that is not longer than its own."""

    store: RowStore
    query: Query
    splits: Splits
    period: Period
    new_groups: Callable[[], Groups]
    late_groups: Callable[[], Groups]
    corrections: Corrections
    watch: Watch
    _window: Window = field(init=False)
    _groups: Groups = field(init=False)
    _rows: int = 0

    def __post_init__(self) -> None:
        self._window, self._groups = self.query.first, self.new_groups()

    async def rows(self) -> AsyncIterator[UsageRow]:
        """The rows; the partitions of a window that is split are read at once."""
        for first, last in _ranges(self.query.windows(self.period), self.splits):
            partitions = self.splits.partitions_of(first)
            if len(partitions) > 1:
                for each in self._finished_before(first):
                    yield each
                await self._read_at_once(partitions)
                continue
            latest = None
            async for partition, row in self._scan(first.name, last.name):
                if partition != latest:
                    latest = partition
                    for each in self._finished_before(Window(partition)):
                        yield each
                self._add(partition, row)
        for each in self._finished_before(self.query.last):
            yield each
        for each in self._finished():
            yield each

    def _finished_before(self, part: Window) -> Iterator[UsageRow]:
        """The rows of the windows before the one that this one is in: capacity costs in each."""
        window = self.query.window_of(part)
        while self._window < window:
            yield from self._finished()
            self._window = window_of(self._window.end, self.query.period)
            self._groups = self.new_groups()

    def _finished(self) -> Iterator[UsageRow]:
        """The rows of the present window, then the corrections that belong to it."""
        yield from self._groups.rows(self._window)
        late: dict[Window, Groups] = {}
        for day, row in self.corrections.get(self._window, ()):
            groups = late.setdefault(day.month, self.late_groups())
            groups.add(row, Place(VIEW_TABLES[Period.DAY], day.name, row.key))
        for month, groups in sorted(late.items(), key=itemgetter(0)):
            for each in groups.rows(self._window):
                charge = each.charge and replace(each.charge, share=None)
                yield replace(each, corrects=month, charge=charge)

    async def _read_at_once(self, partitions: Sequence[str]) -> None:
        limit = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def read(partition: str) -> None:
            async with limit:
                async for _, row in self._scan(partition, partition):
                    self._add(partition, row)

        reads = [asyncio.create_task(read(partition)) for partition in partitions]
        try:
            await asyncio.gather(*reads)  # a TaskGroup would wrap what storage says
        finally:
            for each in reads:
                each.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    def _scan(self, first: str, last: str) -> AsyncIterator[tuple[str, Row]]:
        table = VIEW_TABLES[self.period]
        return self.store.scan(table, first_partition=first, last_partition=last)

    def _add(self, partition: str, row: Row) -> None:
        self._groups.add(row, Place(VIEW_TABLES[self.period], partition, row.key))
        self._rows += 1
        if self._rows % WATCHED_ROWS == 0:
            self.watch(self._rows, Window(view_window(partition)))


def _ranges(windows: Iterator[Window], splits: Splits) -> Iterator[tuple[Window, Window]]:
    """The windows in order, in ranges: those that are not split together, others alone."""
    begun = last = None
    for window in windows:
        if splits.count(window) == 1:
            begun, last = begun or window, window
            continue
        if begun is not None and last is not None:
            yield begun, last
            begun = None
        yield window, window
    if begun is not None and last is not None:
        yield begun, last
