"""In how many partitions the view rows of a window are: one, or more where a window has many rows.

Table `ViewShards`, partition `hour`, `day` or `month`, row key the first window that is split so, column
Count. A window that has begun never changes: a row would be in two places otherwise, and be counted
twice. So a row is only ever inserted, for windows that begin later than `NOTICE` from now, and who
writes views reads the table again before that time has passed.
"""

import asyncio
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from meter.bucket import BUCKETS, bucket_of
from meter.ledger.keys import FIRST_KEY, LAST_KEY, view_partition
from meter.ledger.rows import SumRow
from meter.ports import Clock, Row, RowStore
from meter.window import Period, Window, window_of

SHARDS_TABLE = "ViewShards"
NOTICE = timedelta(minutes=30)
READ_AGAIN_SECONDS = 600.0
# A partition takes 2,000 rows a second, and a flush every few seconds writes each row once.
ROWS_A_SHARD = 5_000


@dataclass(frozen=True, slots=True)
class Splits:
    """The split of each window: by period, from which window on it is in how many partitions."""

    counts: Mapping[Period, Sequence[tuple[str, int]]] = field(default_factory=dict)

    def count(self, window: Window) -> int:
        """The number of partitions of the window's view rows."""
        of_period = self.counts.get(window.period, ())
        place = bisect_right(of_period, (window.name, BUCKETS))
        return of_period[place - 1][1] if place else 1

    def partitions_of(self, window: Window) -> list[str]:
        """All view partitions of a window."""
        count = self.count(window)
        if count == 1:
            return [view_partition(window, None)]
        return [view_partition(window, shard) for shard in range(count)]


async def read_splits(store: RowStore) -> Splits:
    """The splits as they are stored. Raises StorageUnavailable."""
    counts: dict[Period, list[tuple[str, int]]] = {}
    rows = store.scan(SHARDS_TABLE, first_partition=FIRST_KEY, last_partition=LAST_KEY)
    async for period, row in rows:
        count = row.columns.get("Count")
        if period in tuple(Period) and type(count) is int and 1 < count <= BUCKETS:
            counts.setdefault(Period(period), []).append((row.key, count))
    return Splits(counts)


@dataclass(slots=True)
class Shards:
    """The splits as they were read last. One event loop owns it."""

    store: RowStore
    clock: Clock
    _splits: Splits = field(default_factory=Splits)
    _read_at: float | None = None
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def read(self) -> None:
        """Read the table, unless that was done just now. Raises StorageUnavailable."""
        async with self._lock:  # many ask at once
            now = self.clock.monotonic()
            if self._read_at is None or now >= self._read_at + READ_AGAIN_SECONDS:
                self._splits = await read_splits(self.store)
                self._read_at = now

    def count(self, window: Window) -> int:
        """The number of partitions of the window's view rows."""
        return self._splits.count(window)

    def split(self, window: Window, rows: Sequence[SumRow]) -> Mapping[str, Sequence[SumRow]]:
        """Sums of a window by their view partition."""
        count = self.count(window)
        if count == 1:
            return {view_partition(window, None): rows}
        parts: dict[str, list[SumRow]] = {}
        for row in rows:
            shard = bucket_of(row.key.dimensions.subject) % count
            parts.setdefault(view_partition(window, shard), []).append(row)
        return parts

    def partitions_of(self, window: Window) -> list[str]:
        """All view partitions of a window."""
        return self._splits.partitions_of(window)

    async def note_rows(self, window: Window, rows: int) -> None:
        """Split later windows of that length further if this one has too many rows.

        `rows` are those that this process has added to it. Raises StorageUnavailable.
        """
        count = self.count(window)
        later = window_of(self.clock.now() + NOTICE, window.period)
        first = Window(window_of(later.end, window.period).name)
        if rows <= ROWS_A_SHARD * count or self.count(first) > count or count == BUCKETS:
            return
        row = Row(key=first.name, columns={"Count": min(2 * count, BUCKETS)})
        await self.store.write(SHARDS_TABLE, window.period, insert=[row])  # or it is there already
        self._read_at = None
