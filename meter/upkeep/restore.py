"""Makes the views of a month equal to its ledger's sums, while calls are counted and shown.

A view row carries the revision of the sum it shows, and a sum is committed before it is shown. So a
view row whose revision is above that of its sum, when the sum is read after it, never came from the
ledger; nor did one with the same revision and other columns. Each row is written as it was read
(If-Match), so a copy that the aggregator makes in between wins and is judged anew.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched

from meter.errors import LedgerMissing
from meter.ledger.keys import LAST_KEY, SUM_PREFIX, ledger_table
from meter.ledger.optimistic import MAX_CONFLICTS, MAX_TRANSACTION_ROWS
from meter.ledger.rows import SUM_COLUMNS, cleared_adjustments, read_revision
from meter.ledger.view import VIEW_TABLES
from meter.ports import Row, RowStore, Tables, Written
from meter.upkeep.differences import Difference, Kind, WrongColumn, difference_of, differing
from meter.window import Period, Window, parse_window

WINDOWS_AT_ONCE = 16


@dataclass(slots=True, kw_only=True)
class ViewRestorer:
    """Compares views with a ledger and mends them: `restore` for every subject, then `prune`."""

    store: RowStore
    tables: Tables
    month: Window
    is_dry_run: bool
    _rows_shown: Counter[str] = field(default_factory=Counter)
    _left_alone: set[tuple[str, str]] = field(default_factory=set)

    async def restore(
        self, partition: str, sums: Mapping[str, Row], *, damaged: Collection[str]
    ) -> list[Difference]:
        """Show one subject's sums, given by row key. Raises StorageUnavailable.

        What shows a damaged sum is left as it is: it may be the better of the two.
        """
        self._left_alone.update(_view_place(partition, key) for key in damaged)
        by_window: defaultdict[str, list[str]] = defaultdict(list)
        for key in sums.keys() - set(damaged):
            by_window[key.split("|")[1]].append(key)
        parts = [
            (Window(name), {key: sums[key] for key in some})
            for name, keys in sorted(by_window.items())
            for some in batched(sorted(keys), MAX_TRANSACTION_ROWS, strict=False)
        ]
        found: list[Difference] = []
        for batch in batched(parts, WINDOWS_AT_ONCE, strict=False):
            for part in await asyncio.gather(*(self._restore(partition, *each) for each in batch)):
                found += part
        return found

    async def prune(self) -> AsyncIterator[Difference]:
        """Remove view rows that no sum stands behind. Raises StorageUnavailable, LedgerMissing."""
        for period in VIEW_TABLES:
            async for window, rows in self._windows(period):
                # Where there are as many rows as sums, each of which is shown, none is too many.
                if len(rows) != self._rows_shown[window]:
                    for some in batched(rows, MAX_TRANSACTION_ROWS, strict=False):
                        for difference in await self._prune(period, window, some):
                            yield difference

    async def _restore(
        self, partition: str, window: Window, sums: Mapping[str, Row]
    ) -> list[Difference]:
        table, keys = VIEW_TABLES[window.period], list(sums)
        wrong: list[_Wrong] = []
        mended: list[_Wrong] = []
        for _ in range(MAX_CONFLICTS):
            shown = await self._read_view(table, partition, keys)
            is_ahead = any(_is_ahead(shown.get(key), row) for key, row in sums.items())
            if is_ahead:
                # Read after the view, the sum is at least at the revision that was shown.
                sums = await self.store.read(ledger_table(self.month), partition, keys)
            judged = (_judged(key, row, shown.get(key)) for key, row in sums.items())
            wrong = [each for each in judged if each is not None]
            if not wrong or self.is_dry_run:
                break
            if await self._write(table, partition, window, wrong):
                mended, wrong = [*mended, *wrong], []
                if not is_ahead:
                    break
            # Of a row that seemed ahead, the aggregator may have kept back a newer copy meanwhile.
            sums = await self.store.read(ledger_table(self.month), partition, keys)
        missing = sum(each.kind is Kind.MISSING for each in wrong)
        self._rows_shown[window.name] += len(sums) - missing
        return [
            difference_of(each.kind, partition, each.key, each.columns, is_repaired=is_repaired)
            for each, is_repaired in (*((m, True) for m in mended), *((w, False) for w in wrong))
        ]

    async def _read_view(
        self, table: str, partition: str, keys: Sequence[str]
    ) -> Mapping[str, Row]:
        """The rows that show these sums, by the sums' row keys."""
        places = {key: _view_place(partition, key) for key in keys}
        window, _ = places[keys[0]]
        rows = await self.store.read(table, window, [key for _, key in places.values()])
        return {key: rows[shown] for key, (_, shown) in places.items() if shown in rows}

    async def _write(
        self, table: str, partition: str, window: Window, wrong: Sequence["_Wrong"]
    ) -> bool:
        rows = [
            Row(key=_view_place(partition, each.key)[1], columns=each.right, etag=each.etag)
            for each in wrong
        ]
        result = await self.store.write(
            table,
            window.name,
            insert=[row for row in rows if row.etag is None],
            update=[row for row in rows if row.etag is not None],
        )
        return isinstance(result, Written)

    async def _windows(self, period: Period) -> AsyncIterator[tuple[str, list[Row]]]:
        """The rows of each window of the month, keys and etags only."""
        window, rows = "", list[Row]()
        scan = self.store.scan(
            VIEW_TABLES[period],
            first_partition=self.month.name,
            last_partition=self.month.name + LAST_KEY,
        )
        async for partition, row in scan:
            if partition != window:
                if rows:
                    yield window, rows
                window, rows = partition, []
            rows.append(Row(key=row.key, columns={}, etag=row.etag))
        if rows:
            yield window, rows

    async def _prune(self, period: Period, window: str, rows: Sequence[Row]) -> list[Difference]:
        """Judge these rows; those without a sum are deleted, unless they changed meanwhile."""
        surplus: list[Row] = []
        is_deleted = False
        for _ in range(MAX_CONFLICTS):
            rows = [row for row in rows if (window, row.key) not in self._left_alone]
            has_sum = await asyncio.gather(*(self._has_sum(period, window, row) for row in rows))
            surplus = [row for row, found in zip(rows, has_sum, strict=True) if not found]
            if not surplus or self.is_dry_run:
                break
            if not await self.tables.names(ledger_table(self.month)):
                raise LedgerMissing(f"{ledger_table(self.month)} was dropped just now")
            result = await self.store.write(
                VIEW_TABLES[period], window, insert=[], update=[], delete=surplus
            )
            is_deleted = isinstance(result, Written)
            if is_deleted:
                break
            found = await self.store.read(VIEW_TABLES[period], window, [r.key for r in surplus])
            rows = list(found.values())
        return [
            difference_of(
                Kind.SURPLUS, partition, f"{SUM_PREFIX}{window}|{names}", is_repaired=is_deleted
            )
            for partition, _, names in (row.key.partition("|") for row in surplus)
        ]

    async def _has_sum(self, period: Period, window: str, row: Row) -> bool:
        """Whether the ledger holds what the row shows. Read after the row: a sum comes before it."""
        try:
            is_window = parse_window(window).period is period
        except ValueError:
            is_window = False
        partition, _, names = row.key.partition("|")
        key = f"{SUM_PREFIX}{window}|{names}"
        return is_window and bool(await self.store.read(ledger_table(self.month), partition, [key]))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wrong:
    """A sum that its view row does not show: what it should show, and as what it was read."""

    key: str
    kind: Kind
    columns: tuple[WrongColumn, ...]
    right: Mapping[str, object]
    etag: str | None


def _judged(key: str, total: Row, shown: Row | None) -> _Wrong | None:
    right = {name: value for name, value in total.columns.items() if name in SUM_COLUMNS}
    found = {} if shown is None else shown.columns
    right |= cleared_adjustments(found, right)
    columns = differing(found, right)
    if not columns:
        return None
    kind = Kind.DIFFERENT if read_revision(found) >= read_revision(right) else Kind.BEHIND
    return _Wrong(
        key=key,
        kind=Kind.MISSING if shown is None else kind,
        columns=columns,
        right=right,
        etag=None if shown is None else shown.etag,
    )


def _is_ahead(shown: Row | None, total: Row) -> bool:
    return shown is not None and read_revision(shown.columns) > read_revision(total.columns)


def _view_place(partition: str, sum_row_key: str) -> tuple[str, str]:
    """The partition and the row key of the view row that shows a sum."""
    window, _, names = sum_row_key.removeprefix(SUM_PREFIX).partition("|")
    return window, f"{partition}|{names}"
