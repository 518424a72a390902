"""The views as reports read them: of closed months the closed numbers, whatever arrived since.

A snapshot has its sums as views have them, so a report reads them in their place, unaware. Only a view
that is split into shards has other partitions: there the first shard stands for all of them.
"""

from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from meter.errors import LedgerDamaged
from meter.ledger.keys import LAST_KEY, SHARD_MARK, view_partition, view_window
from meter.ledger.rows import SumRow
from meter.ledger.views.view import VIEW_TABLES
from meter.passthrough import StoreOver
from meter.ports import Row, RowStore
from meter.upkeep.closing.corrections import corrections
from meter.upkeep.closing.snapshot import (
    BUCKETS,
    CLOSED_PARTITION,
    CLOSED_TABLE,
    ClosedMonths,
    read_closed,
    sums_partition,
)
from meter.window import Period, Window, window_of

_PERIODS = {table: period for period, table in VIEW_TABLES.items()}


@dataclass(slots=True)
class ClosedViews(StoreOver):
    """Another store, with closed numbers in the views' place when they are scanned.

    No report reads views by key.
    """

    closed: ClosedMonths
    _checked: set[str] = field(default_factory=set)

    async def scan(
        self,
        table: str,
        *,
        first_partition: str,
        last_partition: str,
        first_key: str | None = None,
        last_key: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a range, those of closed months as they were closed, in key order."""
        for source, first, last in self._parts(table, first_partition, last_partition):
            before = "" if source == table else sums_partition(_PERIODS[table], "")
            if before:
                await self._check(source)
            rows = self.store.scan(
                source,
                first_partition=f"{before}{first}",
                last_partition=f"{before}{last}",
                first_key=first_key,
                last_key=last_key,
                columns=columns,
            )
            async for partition, row in rows:
                yield partition.removeprefix(before), row

    async def _check(self, table: str) -> None:
        """Raise LedgerDamaged if a snapshot is gone: its month would look like one without calls."""
        if table in self._checked:
            return
        scan = self.store.scan(table, first_partition=BUCKETS, last_partition=BUCKETS, columns=())
        async for _ in scan:
            self._checked.add(table)
            return
        month = next(each.month for each in self.closed.by_month.values() if each.table == table)
        raise LedgerDamaged(
            f"there is no table {table} with the closed numbers",
            table=CLOSED_TABLE,
            partition=CLOSED_PARTITION,
            row=month.name,
            column="Table",
        )

    async def corrections(self, months: Iterable[Window]) -> dict[Window, list[tuple[Window, Row]]]:
        """The corrections of some months, as view rows of the days that they correct.

        Raises StorageUnavailable, LedgerDamaged.
        """
        found: dict[Window, list[tuple[Window, Row]]] = {}
        for month in months if self.closed.by_month else ():
            async for each in corrections(self.store, month, closed=self.closed):
                row = SumRow(key=each.key, sums=each.sums, revision=1)
                shown = Row(key=each.key.view_row_key, columns=row.columns())
                found.setdefault(month, []).append((each.day, shown))
        return found

    def _parts(self, table: str, first: str, last: str) -> list[tuple[str, str, str]]:
        """The tables that a range is read from, each with its part of the range, in order."""
        months = self.closed.by_month.values() if table in _PERIODS else ()
        found: list[tuple[str, str, str]] = []
        for each in sorted(months, key=lambda closed: closed.month):
            begin, end = each.month.name, f"{each.month.name}{LAST_KEY * 2}"
            if end < first or last < begin:
                continue
            if first < begin:
                before = window_of(each.month.start - timedelta(days=1), Period.MONTH)
                found.append((table, first, f"{before.name}{LAST_KEY * 2}"))
                first = begin
            if SHARD_MARK in first and first == last:
                window = view_window(first)
                if first == view_partition(Window(window), 0):
                    found.append((each.table, window, window))
            else:
                found.append((each.table, first, min(last, end)))
            first = window_of(each.month.end, Period.MONTH).name
        if first <= last:
            found.append((table, first, last))
        return found


async def closed_views(store: RowStore) -> ClosedViews:
    """The store with closed numbers in the views' place. Raises StorageUnavailable, LedgerDamaged."""
    return ClosedViews(store, await read_closed(store))
