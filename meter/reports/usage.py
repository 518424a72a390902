"""Reads the usage of a query from the view tables, one window at a time."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime

from meter.ledger.fold import Sums
from meter.ledger.rows import Place, read_sums
from meter.ledger.view import VIEW_TABLES
from meter.ports import RowStore
from meter.reports.columns import Column, UsageRow, usage_columns
from meter.reports.query import Query
from meter.window import Window


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

    The view is sorted by window, so only the groups of one window are held in memory.
    """
    table = VIEW_TABLES[query.period]
    stored = store.scan(
        table,
        first_partition=query.first.name,
        last_partition=query.last.name,
    )
    window = query.first
    groups: dict[tuple[str, ...], Sums] = {}
    async for partition, row in stored:
        if partition != window.name:
            for each in _rows(window, groups):
                yield each
            window, groups = Window(partition), {}
        names = tuple(str(row.columns.get(group.column, "")) for group in query.groups)
        groups[names] = groups.get(names, Sums()) + read_sums(
            row.columns, Place(table, partition, row.key)
        )
    for each in _rows(window, groups):
        yield each


def _rows(window: Window, groups: Mapping[tuple[str, ...], Sums]) -> Iterator[UsageRow]:
    for names in sorted(groups):
        yield UsageRow(window=window, names=names, sums=groups[names])
