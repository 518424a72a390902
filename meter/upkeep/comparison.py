"""Finds view rows that do not show the sums of some ledger partitions, and has them repaired.

A view partition has the rows of many ledger partitions, so it is read once for all that are compared
together; then their sums of its window are read by range, and only what differs is read row by
row. Of a single subject only the range of its keys is read.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import batched, pairwise

from meter.ledger.keys import (
    LAST_KEY,
    LEDGER_PARTITIONS,
    SumPlace,
    escape,
    ledger_partition,
    ledger_table,
    parse_sum_key,
    subject_key,
    sums_of_window,
    unescape,
    view_partition,
    view_window,
)
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.views.shards import Shards
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.upkeep.audit import Audited
from meter.upkeep.differences import Difference
from meter.upkeep.restore import ViewRepair, is_shown
from meter.window import Period, Window, parse_window, window_of

SLICES_AT_ONCE = 8
# With as many sums the views are read day by day, some days at once.
SLICED_FROM = 20_000
RANGES_AT_ONCE = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class _Slice:
    """View partitions from `first` to `last` without `last` itself, or just one."""

    period: Period
    first: str
    last: str

    def __contains__(self, partition: str) -> bool:
        return self.first <= partition < self.last or partition == self.first


@dataclass(slots=True, kw_only=True)
class Comparison:
    """Compares the views with the sums of audited ledger partitions, or with a subject's alone."""

    store: RowStore
    shards: Shards
    month: Window
    repair: ViewRepair
    subject: str | None = None
    """As in row keys."""
    sliced_from: int = SLICED_FROM
    _sums_audited: int = 0
    _audited: set[str] = field(default_factory=set)
    _untouched: set[tuple[str, str]] = field(default_factory=set)
    _windows: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _limit: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(RANGES_AT_ONCE))

    def add(self, audited: Audited) -> None:
        """Compare that partition, too.

        View rows of damaged sums stay as they are: they may be better than the sums.
        """
        partition = audited.share.partition
        self._audited.add(partition)
        for key in audited.damaged:
            place = parse_sum_key(partition, key)
            self._untouched.add((place.window, place.name))
        self._sums_audited += len(audited.share.sums)
        for key in audited.share.sums:
            self._windows[key.split("|", 2)[1]].add(partition)

    async def run(self) -> AsyncIterator[Difference]:
        """Restore view rows, and remove those without a sum. Raises StorageUnavailable, LedgerMissing."""
        for some in batched(self._slices(), SLICES_AT_ONCE, strict=False):
            await self.shards.read()
            for found in await asyncio.gather(*map(self._compare_slice, some)):
                for difference in found:
                    yield difference

    def _slices(self) -> Iterator[_Slice]:
        """Parts of the view tables that hold all of the month, also what should not be there."""
        month = self.month.name
        is_small = self._sums_audited < self.sliced_from
        days = [] if is_small else [day.name for day in _windows_of(self.month, Period.DAY)]
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

    async def _compare_slice(self, part: _Slice) -> list[Difference]:
        found: list[Difference] = []
        seen: set[str] = set()
        async for partition, rows in self._shown(part):
            seen.add(partition)
            found += await self._compare(part.period, partition, rows)
        for window, homes in self._windows.items():
            if Window(window).period is part.period:
                for partition in {self._home(Window(window), home) for home in homes} - seen:
                    if partition in part:
                        found += await self._compare(part.period, partition, {})
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
        self, period: Period, partition: str, shown: Mapping[str, Row]
    ) -> list[Difference]:
        window = _window_in(period, partition)
        owners = {key: self._owners(row) for key, row in shown.items()}
        sums: dict[SumPlace, Row] = {}
        if window is not None:
            known = self._windows.get(window.name, set())
            homes = {home for owner in owners.values() if len(owner) == 1 for home in owner} | known
            here = [h for h in sorted(homes & self._audited) if self._home(window, h) == partition]
            for some in await asyncio.gather(*(self._sums(window, home) for home in here)):
                sums |= some
        wrong = [
            place
            for place, row in sums.items()
            if (place.window, place.name) not in self._untouched
            and not is_shown(place, row, shown.get(place.name))
        ]
        found: list[Difference] = []
        for places in batched(sorted(wrong, key=_by_name), MAX_TRANSACTION_ROWS, strict=False):
            found += await self.repair.restore(partition, places, sums, shown)
        names = {place.name for place in sums}
        surplus = {
            key: (row, self._places(window, partition, key, owners[key]))
            for key, row in shown.items()
            if key not in names and self._is_ours(owners[key])
            if window is None or (window.name, key) not in self._untouched
        }
        for rows in batched(surplus.items(), MAX_TRANSACTION_ROWS, strict=False):
            found += await self.repair.remove(period, partition, dict(rows))
        return found

    async def _sums(self, window: Window, home: str) -> dict[SumPlace, Row]:
        first, last = sums_of_window(window)
        if self.subject is not None:
            first, last = f"{first}{self.subject}|", f"{first}{self.subject}|{LAST_KEY}"
        found: dict[SumPlace, Row] = {}
        async with self._limit:
            rows = self.store.scan(
                ledger_table(self.month),
                first_partition=home,
                last_partition=home,
                first_key=first,
                last_key=last,
            )
            async for _, row in rows:
                try:
                    found[parse_sum_key(home, row.key)] = row
                except ValueError:
                    continue  # the audit reports it
        return found

    def _home(self, window: Window, ledger: str) -> str:
        """The view partition of a ledger partition's sums of a window."""
        count = self.shards.count(window)
        return view_partition(window, None if count == 1 else int(ledger) % count)

    def _owners(self, row: Row) -> Collection[str]:
        """The ledger partitions in which the row's sum can be: all where only a wrong hash is left."""
        key = subject_key(row.key)
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
