"""Makes the views of a month equal to its ledger's sums, while calls are counted and shown.

A view row carries the revision of the sum it shows, and a sum is committed before it is shown. So a
view row whose revision is above that of its sum, when the sum is read after it, never came from the
ledger; nor did one with the same revision and other columns. Each row is written only if it is
unchanged (If-Match): a copy that the aggregator makes in between wins, and is checked again.

No revision is ever lowered, since an aggregator at work remembers what it saw and would take its next
copies for old ones: the sum of a view row that is ahead gets a revision above it first.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import batched

from meter.errors import LedgerMissing, TableMissing
from meter.ledger.keys import LAST_KEY, SumPlace, ledger_table, parse_sum_key, parse_view_key
from meter.ledger.optimistic import MAX_CONFLICTS, MAX_TRANSACTION_ROWS
from meter.ledger.rows import SUM_COLUMNS, cleared_adjustments, read_revision
from meter.ledger.view import VIEW_TABLES
from meter.ports import Row, RowStore, Tables, Written
from meter.upkeep.audit import in_transactions
from meter.upkeep.differences import Difference, Kind, difference_of, differing
from meter.window import Period, Window, parse_window

WINDOWS_AT_ONCE = 16

HIGHEST_REVISION = 2**62  # one that only a hand can have written; it is not outbid


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repair:
    """A wrong or missing view row, and the row to write there.

    `raised` gives the sum a revision above that of the view row; `lowers` says that the view row
    may show more calls or adjustments than its sum.
    """

    difference: Difference
    row: Row
    raised: Row | None
    lowers: bool


@dataclass(slots=True, kw_only=True)
class ViewRestorer:
    """Compares views with a ledger and repairs them: `restore` for every subject, then `prune`.

    With `keeps`, no view row is removed, and none gets fewer calls than it shows.
    """

    store: RowStore
    tables: Tables
    month: Window
    is_dry_run: bool
    keeps: bool = False
    _rows_shown: Counter[str] = field(default_factory=Counter)
    _untouched: set[SumPlace] = field(default_factory=set)

    async def restore(
        self, partition: str, sums: Mapping[str, Row], *, damaged: Collection[str]
    ) -> list[Difference]:
        """Show one subject's sums, given by row key. Raises StorageUnavailable.

        View rows of damaged sums stay as they are: they may be better than the sums.
        """
        self._untouched.update(parse_sum_key(partition, key) for key in damaged)
        keys = sorted(sums.keys() - set(damaged))
        keys.sort(key=lambda key: parse_sum_key(partition, key).window)
        parts = in_transactions(partition, keys)
        found: list[Difference] = []
        for batch in batched(parts, WINDOWS_AT_ONCE, strict=False):
            restored = (self._restore(places, sums) for places in batch)
            for part in await asyncio.gather(*restored):
                found += part
        return found

    async def prune(self) -> AsyncIterator[Difference]:
        """Remove view rows without a sum. Raises StorageUnavailable, LedgerMissing."""
        for period in VIEW_TABLES:
            async for window, rows in self._windows(period):
                # Every sum is shown, so with as many rows as sums none is surplus.
                if len(rows) != self._rows_shown[window]:
                    for some in batched(rows, MAX_TRANSACTION_ROWS, strict=False):
                        for difference in await self._prune(period, window, some):
                            yield difference

    async def _restore(
        self, places: Sequence[SumPlace], sums: Mapping[str, Row]
    ) -> list[Difference]:
        window = Window(places[0].window)
        sums = {place.row_key: sums[place.row_key] for place in places}
        wrong: list[_Repair] = []
        kept: list[_Repair] = []
        repaired: list[Difference] = []
        view_keys = [place.view_row_key for place in places]
        for _ in range(MAX_CONFLICTS):
            shown = await self.store.read(VIEW_TABLES[window.period], window.name, view_keys)
            is_ahead = any(_is_ahead(*pair) for pair in _pairs(places, sums, shown))
            if is_ahead:
                # Read after the view, the sum is at least at the revision that was shown.
                sums = await self._read_sums(places)
            checked = [each for pair in _pairs(places, sums, shown) if (each := _checked(*pair))]
            kept = [each for each in checked if self.keeps and each.lowers]
            wrong = [each for each in checked if each not in kept]
            if not wrong or self.is_dry_run:
                break
            if await self._write(places[0].partition, window, wrong):
                repaired += [replace(each.difference, is_repaired=True) for each in wrong]
                wrong = []
                if not is_ahead:
                    break
            # While a view row seemed ahead, the aggregator may have skipped a newer copy.
            sums = await self._read_sums(places)
        missing = sum(each.difference.kind is Kind.MISSING for each in wrong)
        self._rows_shown[window.name] += len(sums) - missing
        stay = (replace(each.difference, is_kept=True) for each in kept)
        return [*repaired, *(each.difference for each in wrong), *stay]

    async def _write(self, partition: str, window: Window, wrong: Sequence[_Repair]) -> bool:
        """Raise the sums' revisions where that must be, then write the view rows."""
        if raised := [each.raised for each in wrong if each.raised is not None]:
            ledger = ledger_table(self.month)
            try:
                result = await self.store.write(
                    ledger, partition, update=raised, creates_table=False
                )
            except TableMissing as exc:
                raise LedgerMissing(f"{ledger} was dropped just now") from exc
            if not isinstance(result, Written):
                return False
        rows = [each.row for each in wrong]
        result = await self.store.write(
            VIEW_TABLES[window.period],
            window.name,
            insert=[row for row in rows if row.etag is None],
            update=[row for row in rows if row.etag is not None],
        )
        return isinstance(result, Written)

    async def _read_sums(self, places: Sequence[SumPlace]) -> Mapping[str, Row]:
        keys = [place.row_key for place in places]
        return await self.store.read(ledger_table(self.month), places[0].partition, keys)

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
        """Check these rows; those without a sum are deleted, unless they changed meanwhile."""
        surplus: list[Row] = []
        is_deleted = False
        for _ in range(MAX_CONFLICTS):
            rows = [r for r in rows if parse_view_key(window, r.key) not in self._untouched]
            has_sum = await asyncio.gather(*(self._has_sum(period, window, row) for row in rows))
            surplus = [row for row, found in zip(rows, has_sum, strict=True) if not found]
            if not surplus or self.is_dry_run or self.keeps:
                break
            if not await self.tables.names(ledger_table(self.month)):
                raise LedgerMissing(f"{ledger_table(self.month)} was dropped just now")
            result = await self.store.write(VIEW_TABLES[period], window, delete=surplus)
            is_deleted = isinstance(result, Written)
            if is_deleted:
                break
            left = await self.store.read(VIEW_TABLES[period], window, [r.key for r in surplus])
            rows = list(left.values())
        found = (
            difference_of(Kind.SURPLUS, parse_view_key(window, row.key), is_repaired=is_deleted)
            for row in surplus
        )
        return [replace(each, is_kept=self.keeps) for each in found]

    async def _has_sum(self, period: Period, window: str, row: Row) -> bool:
        """Whether the row has a sum. Read after the row, since a sum is written before it."""
        try:
            is_window = parse_window(window).period is period
        except ValueError:
            is_window = False
        return is_window and bool(await self._read_sums([parse_view_key(window, row.key)]))


def _pairs(
    places: Iterable[SumPlace], sums: Mapping[str, Row], shown: Mapping[str, Row]
) -> Iterator[tuple[SumPlace, Row, Row | None]]:
    """Each stored sum with its view row."""
    for place in places:
        if place.row_key in sums:
            yield place, sums[place.row_key], shown.get(place.view_row_key)


def _checked(place: SumPlace, total: Row, shown: Row | None) -> _Repair | None:
    right = {name: value for name, value in total.columns.items() if name in SUM_COLUMNS}
    found = {} if shown is None else shown.columns
    right |= cleared_adjustments(found, right)
    columns = differing(found, right)
    if not columns:
        return None
    kind, etag, raised = Kind.MISSING, None, None
    if shown is not None:
        is_older = read_revision(found) < read_revision(right)
        kind, etag = Kind.BEHIND if is_older else Kind.DIFFERENT, shown.etag
        if read_revision(right) <= read_revision(found) < HIGHEST_REVISION:
            right["Revision"] = read_revision(found) + 1
            revision = {"Revision": right["Revision"]}
            raised = Row(key=place.row_key, columns=revision, etag=total.etag)
    return _Repair(
        difference=difference_of(kind, place, columns, is_repaired=False),
        row=Row(key=place.view_row_key, columns=right, etag=etag),
        raised=raised,
        lowers=any(_lowers(found, total.columns, name) for name in ("Calls", "Adjustments")),
    )


def _lowers(found: Mapping[str, object], right: Mapping[str, object], name: str) -> bool:
    """Whether the row would show less; one that cannot be read may show more unless it is older."""
    shown, counted = found.get(name, 0), right.get(name, 0)
    if type(shown) is int and type(counted) is int:
        return shown > counted
    return not 0 < read_revision(found) <= read_revision(right)


def _is_ahead(_place: SumPlace, total: Row, shown: Row | None) -> bool:
    return shown is not None and read_revision(shown.columns) > read_revision(total.columns)
