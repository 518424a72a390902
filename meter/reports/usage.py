"""Reads the usage of a query from the view tables, one window at a time."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from meter.ledger.fold import Sums
from meter.ledger.rows import Place, read_sums
from meter.ledger.views.shards import Splits, read_splits
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import RowStore
from meter.reports.columns import Column, UsageRow, usage_columns
from meter.reports.query import Query
from meter.window import Window

PARTITIONS_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """A query, its columns, and its rows in order of window and names. Rows can be read once.

    `as_of` is when it was made.
    """

    query: Query
    columns: tuple[Column, ...]
    rows: AsyncIterator[UsageRow]
    as_of: datetime | None = None


def usage_report(store: RowStore, query: Query, *, as_of: datetime | None = None) -> Report:
    """The usage of a query, read while it is written."""
    rows = read_usage(store, query)
    return Report(query=query, columns=usage_columns(query), rows=rows, as_of=as_of)


async def read_usage(store: RowStore, query: Query) -> AsyncIterator[UsageRow]:
    """The usage per window and group, in this order. Raises StorageUnavailable, LedgerDamaged.

    The view is sorted by window, so only the groups of one window are held in memory. The partitions
    of a window that is split are read at once.
    """
    splits = await read_splits(store)
    for first, last in _ranges(query, splits):
        partitions = splits.partitions_of(first)
        if len(partitions) > 1:
            found = await _read_at_once(store, query, partitions)
            for each in _rows(first, found):
                yield each
            continue
        window, groups = first, dict[tuple[str, ...], Sums]()
        async for partition, names, sums in _read(store, query, first.name, last.name):
            if partition != window.name:
                for each in _rows(window, groups):
                    yield each
                window, groups = Window(partition), {}
            groups[names] = groups[names] + sums if names in groups else sums
        for each in _rows(window, groups):
            yield each


def _ranges(query: Query, splits: Splits) -> Iterator[tuple[Window, Window]]:
    """The query's windows in order, in ranges: those that are not split together, others alone."""
    begun: Window | None = None
    last = query.first
    for window in query.windows():
        if splits.count(window) == 1:
            begun, last = begun or window, window
            continue
        if begun is not None:
            yield begun, last
            begun = None
        yield window, window
    if begun is not None:
        yield begun, last


async def _read_at_once(
    store: RowStore, query: Query, partitions: Sequence[str]
) -> dict[tuple[str, ...], Sums]:
    limit = asyncio.Semaphore(PARTITIONS_AT_ONCE)
    groups: dict[tuple[str, ...], Sums] = {}

    async def read(partition: str) -> None:
        async with limit:
            async for _, names, sums in _read(store, query, partition, partition):
                groups[names] = groups[names] + sums if names in groups else sums

    async with asyncio.TaskGroup() as tasks:
        for partition in partitions:
            tasks.create_task(read(partition))
    return groups


async def _read(
    store: RowStore, query: Query, first: str, last: str
) -> AsyncIterator[tuple[str, tuple[str, ...], Sums]]:
    table = VIEW_TABLES[query.period]
    async for partition, row in store.scan(table, first_partition=first, last_partition=last):
        names = tuple(str(row.columns.get(group.column, "")) for group in query.groups)
        yield partition, names, read_sums(row.columns, Place(table, partition, row.key))


def _rows(window: Window, groups: Mapping[tuple[str, ...], Sums]) -> Iterator[UsageRow]:
    for names in sorted(groups):
        yield UsageRow(window=window, names=names, sums=groups[names])
