"""Finds view rows that do not show the sums of some ledger partitions, and has them repaired.

A view partition has the rows of many ledger partitions, so it is read once for all that are compared
together. If they have few sums, these are kept from the audit; else they are read again by range, day
by day, with the views of that day. Only what differs is read row by row. Of a single subject only the
range of its keys is read.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import batched, chain, pairwise

from meter.ledger.keys import (
    LAST_KEY,
    LEDGER_PARTITIONS,
    SUM_PREFIX,
    SumPlace,
    escape,
    ledger_partition,
    ledger_table,
    parse_sum_key,
    unescape,
    view_partition,
    view_subject_key,
    view_window,
)
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.packing.packed import OpenSum, unpacked
from meter.ledger.packing.scanning import rows_between
from meter.ledger.views.shards import Shards
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.upkeep.audit import Audited
from meter.upkeep.differences import Difference
from meter.upkeep.restore import ViewRepair, is_shown
from meter.window import Period, Window, parse_window, window_of

SLICES_AT_ONCE = 4
RANGES_AT_ONCE = 16
MOST_KEPT = 20_000  # sums, of about 2 KB


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """View partitions from `first` to `last` without `last` itself, or just one."""

    period: Period
    first: str
    last: str

    def __contains__(self, partition: str) -> bool:
        return self.first <= partition < self.last or partition == self.first


type _ByPartition = Mapping[str, dict[SumPlace, Row]]
"""Sums by the view partition that shows them."""


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Compares the views with the sums of audited ledger partitions, or with a subject's alone."""

    store: RowStore
    shards: Shards
    month: Window
    repair: ViewRepair
    subject: str | None = None
    """As in row keys."""
    most_kept: int = MOST_KEPT
    sums: int = 0
    _audited: list[str] = field(default_factory=list)
    _untouched: set[tuple[str, str]] = field(default_factory=set)
    _kept: dict[SumPlace, Row] = field(default_factory=dict)
    _open: defaultdict[str, list[OpenSum]] = field(default_factory=lambda: defaultdict(list))
    """By ledger partition; their months' rows are not among those of their windows."""
    _limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RANGES_AT_ONCE))

    @property
    def is_large(self) -> bool:
        """Whether there are too many sums to keep them."""
        return self.sums > self.most_kept

    def add(self, audited: Audited) -> None:
        """Compare that partition, too.

        View rows of damaged sums stay as they are: they may be better than the sums.
        """
        partition, sums = audited.share.partition, audited.share.sums
        self._audited.append(partition)
        for key in audited.damaged:
            place = parse_sum_key(partition, key)
            self._untouched.add((place.window, place.name))
        self.sums += len(sums)
        self._open[partition] = [row for row in sums.values() if isinstance(row, OpenSum)]
        if self.is_large:
            self._kept.clear()
        else:
            self._kept |= {parse_sum_key(partition, key): row for key, row in sums.items()}

    async def run(self) -> AsyncIterator[Difference]:
        """Restore view rows, and remove those without a sum. Raises StorageUnavailable, LedgerMissing."""
        await self.shards.read()
        kept = self._by_view_partition(self._kept)
        for some in batched(self._slices(), SLICES_AT_ONCE, strict=False):
            await self.shards.read()
            found = await asyncio.gather(*(self._compare_slice(part, kept) for part in some))
            for difference in chain.from_iterable(found):
                yield difference

    def _slices(self) -> Iterator[_Slice]:
        """Parts of the view tables that hold all of the month, also what should not be there."""
        month = self.month.name
        days = [day.name for day in _windows_of(self.month, Period.DAY)] if self.is_large else []
        for period in VIEW_TABLES:
            if self.subject is not None:
                yield from self._slices_of_subject(period)
                continue
            names = [month, *([] if period is Period.MONTH else days), month + LAST_KEY * 2]
            for first, last in pairwise(names):
                yield _Slice(period=period, first=first, last=last)

    def _slices_of_subject(self, period: Period) -> Iterator[_Slice]:
        """Where the subject's rows of each window belong: each is a query of a range of keys."""
        (home,) = self._audited
        for window in _windows_of(self.month, period):
            partition = self._home(window, home)
            yield _Slice(period=period, first=partition, last=partition)

    async def _compare_slice(self, part: _Slice, kept: _ByPartition) -> list[Difference]:
        found: list[Difference] = []
        if self.is_large:
            sums = self._by_view_partition(await self._read_sums(part))
        elif part.first == part.last:
            sums = {part.first: kept.get(part.first, {})}
        else:
            sums = {partition: of for partition, of in kept.items() if partition in part}
        sums = {p: of for p, of in sums.items() if _window_in(part.period, p) is not None}
        async for partition, rows in self._shown(part):
            found += await self._compare(part.period, partition, sums.pop(partition, {}), rows)
        for partition, left in sums.items():
            found += await self._compare(part.period, partition, left, {})
        return found

    async def _read_sums(self, part: _Slice) -> dict[SumPlace, Row]:
        """The sums of the slice's windows, a range of row keys in each ledger partition."""
        window = f"{SUM_PREFIX}{part.first}"
        first, last = f"{window}|", f"{window}|{LAST_KEY}"
        if part.period is Period.HOUR:
            first, last = f"{window}T", f"{window}T{LAST_KEY}"

        async def read(home: str) -> dict[SumPlace, Row]:
            # They were read earlier: what has a row of its own meanwhile is newer there.
            rows: dict[str, Row] = {
                row.key: row for row in self._open[home] if first <= row.key <= last
            }
            async with self._limit:
                place = ledger_table(self.month), home
                async for row in rows_between(self.store, place, first, last):
                    with suppress(ValueError):  # the audit reports it
                        rows[row.key] = unpacked(home, row).rows[0]
            return {parse_sum_key(home, key): row for key, row in rows.items()}

        parts = await asyncio.gather(*map(read, self._audited))
        return {place: row for part in parts for place, row in part.items()}

    def _by_view_partition(self, sums: Mapping[SumPlace, Row]) -> _ByPartition:
        found: defaultdict[str, dict[SumPlace, Row]] = defaultdict(dict)
        for place, row in sums.items():
            found[self._home(Window(place.window), place.partition)][place] = row
        return found

    async def _shown(self, part: _Slice) -> AsyncIterator[tuple[str, dict[str, Row]]]:
        """The rows of each view partition, by row key."""
        at, rows = "", dict[str, Row]()
        first, last = (f"{self.subject}|", f"{self.subject}|{LAST_KEY}")
        scan = self.store.scan(
            VIEW_TABLES[part.period],
            first_partition=part.first,
            last_partition=part.last,
            first_key=None if self.subject is None else first,
            last_key=None if self.subject is None else last,
        )
        async for partition, row in scan:
            if partition not in part:
                continue
            if partition != at:
                if rows:
                    yield at, rows
                at, rows = partition, {}
            rows[row.key] = row
        if rows:
            yield at, rows

    async def _compare(
        self,
        period: Period,
        partition: str,
        sums: dict[SumPlace, Row],
        shown: Mapping[str, Row],
    ) -> list[Difference]:
        names = {place.name for place in sums}
        found: list[Difference] = []
        for some in batched(self._wrong(sums, shown), MAX_TRANSACTION_ROWS, strict=False):
            # A view row may show a newer state than the sum: that is read once more, after the row.
            read = {place: sums[place] for place in some if place.name not in shown}
            read |= await self.repair.read_sums(place for place in some if place.name in shown)
            if places := self._wrong(read, shown):
                found += await self.repair.restore(partition, places, read, shown)
        window = _window_in(period, partition)
        surplus: dict[str, tuple[Row, Sequence[SumPlace]]] = {}
        for key in shown.keys() - names:
            owners = self._owners(shown[key])
            is_damaged = window is not None and (window.name, key) in self._untouched
            if self._is_ours(owners) and not is_damaged:
                surplus[key] = shown[key], self._places(window, partition, key, owners)
        for rows in batched(sorted(surplus.items()), MAX_TRANSACTION_ROWS, strict=False):
            found += await self.repair.remove(period, partition, dict(rows))
        return found

    def _wrong(self, sums: Mapping[SumPlace, Row], shown: Mapping[str, Row]) -> list[SumPlace]:
        wrong = [
            place
            for place, row in sums.items()
            if not is_shown(place, row, shown.get(place.name))
            and (place.window, place.name) not in self._untouched
        ]
        return sorted(wrong, key=_by_name)

    def _home(self, window: Window, ledger: str) -> str:
        """The view partition of a ledger partition's sums of a window."""
        count = self.shards.count(window)
        return view_partition(window, None if count == 1 else int(ledger) % count)

    def _owners(self, row: Row) -> Collection[str]:
        """The ledger partitions in which the row's sum can be: all where only a wrong hash is left."""
        key = view_subject_key(row.key)
        try:
            subject = unescape(key)
        except ValueError:
            subject = None
        if subject is None:
            text = row.columns.get("Subject")
            subject = text if isinstance(text, str) and escape(text) == key else None
        return LEDGER_PARTITIONS if subject is None else (ledger_partition(subject),)

    def _is_ours(self, owners: Collection[str]) -> bool:
        """What may be of any ledger partition is looked at with the first one."""
        return next(iter(owners)) in self._audited

    def _places(
        self, window: Window | None, partition: str, key: str, owners: Collection[str]
    ) -> Sequence[SumPlace]:
        """Where the row's sum could be, if the row is where it belongs."""
        if window is None:
            return ()
        return [
            SumPlace(home, window.name, key)
            for home in owners
            if self._home(window, home) == partition
        ]


def _by_name(place: SumPlace) -> str:
    return place.name


def _window_in(period: Period, partition: str) -> Window | None:
    """The window of a view partition; None if it is none of that period."""
    try:
        window = parse_window(view_window(partition))
    except ValueError:
        return None
    return window if window.period is period else None


def _windows_of(month: Window, period: Period) -> list[Window]:
    step = timedelta(hours=1)
    hours = int((month.end - month.start) / step)
    windows = (window_of(month.start + step * hour, period) for hour in range(hours))
    return list(dict.fromkeys(windows))
