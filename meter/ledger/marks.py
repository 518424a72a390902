"""Marks in the ledger that say what the views may miss, so that a crash loses nothing of them.

| row key        | column | type   | meaning                                                            |
|----------------|--------|--------|--------------------------------------------------------------------|
| `v|` writer    | From   | String | window from which on, in the order of keys, sums may not be shown  |

The mark of a process is a row of each transaction that changes sums, in their own partition. So
sums that are committed and not shown always have a mark, whatever dies when. Who has shown all removes
its mark. A mark that was not written for `ABANDONED_AFTER` is of a process that died or is held up:
the sweep shows its sums, and so does, at once, the next process that counts there. A process never
takes up a mark again whose state it is not sure of: it leaves it to the sweep and goes on with
another one.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection, Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from operator import attrgetter

from meter.errors import StorageUnavailable, TableMissing
from meter.ledger.keys import (
    LAST_KEY,
    MARK_PREFIX,
    SumKey,
    earlier,
    ledger_month,
    ledger_table,
)
from meter.ports import Clock, Row, RowStore, Written
from meter.window import Window, parse_window

ABANDONED_AFTER = timedelta(minutes=2)
IDLE_SECONDS = 60.0  # a mark that is needed again soon is not removed first

type Place = tuple[str, str]
"""A ledger's table and its partition."""

_window_and_partition: Callable[[SumKey], tuple[Window, str]]
_window_and_partition = attrgetter("window", "dimensions.partition")


@dataclass(slots=True)
class _Mark:
    """What this process knows of its mark in one place, and of what is not shown there."""

    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    behind: Counter[Window] = field(default_factory=Counter)
    has_asked: bool = False
    number: int = 0
    etag: str | None = None
    written_at: float = 0.0


@dataclass(slots=True)
class Marks:
    """The marks of one process; `writer` is an id that no other process has. One event loop owns it."""

    store: RowStore
    clock: Clock
    writer: str
    _marks: dict[Place, _Mark] = field(default_factory=dict)

    def lock(self, place: Place) -> asyncio.Lock:
        """Held while sums are written there, until they are noted to be behind."""
        return self._at(place).lock

    def row(self, place: Place, keys: Iterable[SumKey]) -> Row:
        """The mark to write together with these sums."""
        mark = self._at(place)
        first: Window | None = None
        for window in (*mark.behind, *{key.window for key in keys}):
            first = window if first is None else earlier(first, window)
        assert first is not None, "a transaction without sums needs no mark"
        return Row(key=self._key(mark), columns={"From": first.name}, etag=mark.etag)

    def written(self, place: Place, etag: str) -> None:
        """The mark was written."""
        mark = self._at(place)
        mark.etag, mark.written_at = etag, self.clock.monotonic()

    async def refresh(self, place: Place) -> None:
        """Look what became of the mark: the sweep may have removed it. Raises StorageUnavailable."""
        mark = self._at(place)
        key = self._key(mark)
        row = (await self.store.read(*place, [key])).get(key)
        mark.etag = None if row is None else row.etag

    async def foreign(self, place: Place) -> Window | None:
        """From which window on other processes' sums may not be shown; asked once for each place.

        They may be those that had the place before, and died. Raises StorageUnavailable.
        """
        mark = self._at(place)
        if mark.has_asked:
            return None
        mark.has_asked = True
        first: Window | None = None
        async for row in read_marks(self.store, place):
            if not row.key.startswith(f"{MARK_PREFIX}{self.writer}."):
                month = ledger_month(place[0])
                assert month is not None, "a place is in a ledger"
                window = window_of_mark(row, month)
                first = window if first is None else earlier(first, window)
        return first

    def leave(self, place: Place) -> None:
        """Leave the mark to the sweep, if there is one, and begin another."""
        mark = self._at(place)
        mark.number, mark.etag = mark.number + 1, None

    def add(self, keys: Iterable[SumKey]) -> None:
        """Committed sums are not shown yet."""
        for (window, place), number in _by_place(keys).items():
            self._at(place).behind[window] += number

    def discard(self, keys: Iterable[SumKey]) -> None:
        """Sums that were added are shown."""
        for (window, place), number in _by_place(keys).items():
            behind = self._at(place).behind
            behind[window] -= number
            if behind[window] <= 0:
                del behind[window]

    def left(self, keys: Collection[SumKey]) -> None:
        """Sums that were added are left to the sweep."""
        for _, place in _by_place(keys):
            self.leave(place)
        self.discard(keys)

    async def clear(self, *, even_recent: bool = False) -> None:
        """Remove the marks of what is shown, and was so for a while."""
        before = self.clock.monotonic() - IDLE_SECONDS
        done = [
            self._remove(place, mark)
            for place, mark in self._marks.items()
            if mark.etag is not None
            and not mark.behind
            and (even_recent or mark.written_at <= before)
        ]
        await asyncio.gather(*done)

    async def _remove(self, place: Place, mark: _Mark) -> None:
        async with mark.lock:
            if mark.behind or mark.etag is None:
                return
            row = Row(key=self._key(mark), columns={}, etag=mark.etag)
            try:
                result = await self.store.write(*place, delete=[row], creates_table=False)
            except (StorageUnavailable, TableMissing):
                result = None
            # Not removed, or perhaps: it says too much, which costs the sweep a look.
            if not isinstance(result, Written):
                mark.number += 1
            mark.etag = None

    def _key(self, mark: _Mark) -> str:
        return f"{MARK_PREFIX}{self.writer}.{mark.number}"

    def _at(self, place: Place) -> _Mark:
        if place not in self._marks:
            self._marks[place] = _Mark()
        return self._marks[place]


async def read_marks(store: RowStore, place: Place) -> AsyncIterator[Row]:
    """The marks in a place, of all processes. Raises StorageUnavailable."""
    table, partition = place
    rows = store.scan(
        table,
        first_partition=partition,
        last_partition=partition,
        first_key=MARK_PREFIX,
        last_key=MARK_PREFIX + LAST_KEY,
    )
    async for _, row in rows:
        yield row


def window_of_mark(row: Row, month: Window) -> Window:
    """The window that a stored mark says; the month's first hour if it cannot be read."""
    try:
        return parse_window(str(row.columns.get("From")))
    except ValueError:
        return Window(f"{month.name}-01T00")


def _by_place(keys: Iterable[SumKey]) -> dict[tuple[Window, Place], int]:
    """How many sums there are of each window and place."""
    counts = Counter(map(_window_and_partition, keys))
    return {
        (window, (ledger_table(window.month), partition)): number
        for (window, partition), number in counts.items()
    }
