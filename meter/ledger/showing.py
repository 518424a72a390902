"""Copies committed sums to the views, and callers to `Subjects`, without holding up the ledger.

The views of a window are one partition, shared by all subjects; so is `Subjects`. While one of them
is throttled its rows wait here, in memory, and it alone is tried again, after 1 s, 2 s, 4 s and so
on to a minute. A batch waits for the copies it began, but not longer than `PATIENCE_SECONDS`.

What waits is lost when the process dies. Then the batch is delivered again if it was not finished,
and its sums are read and shown; otherwise the sweep finds the sums by their subject's row. So a batch
is finished once each of its sums is shown or its subject is in `Subjects`.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from meter.adjustment import Countable
from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.rows import SumRow
from meter.ledger.subjects import SubjectWriter
from meter.ledger.view import ViewWriter
from meter.ports import Clock, RowStore
from meter.usage import UsageEvent
from meter.window import Window

PATIENCE_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 60.0
CADENCE_SECONDS = 5.0
MAX_WAITING_ROWS = 50_000  # about 2 KB each
MAX_KNOWN_SUBJECTS = 50_000
SEEN_EVERY = timedelta(minutes=10)

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Partition[T]:
    """The rows that wait for one partition; a newer row replaces an older one of its key."""

    name: str
    clock: Clock
    write: Callable[[Mapping[str, T]], Awaitable[object]]
    newer: Callable[[T, T], T]
    waiting: dict[str, T] = field(default_factory=dict)
    failures: int = 0
    due_at: float = 0.0
    task: asyncio.Task[None] | None = None

    def add(self, key: str, row: T) -> None:
        known = self.waiting.get(key)
        self.waiting[key] = row if known is None else self.newer(known, row)

    def start(self) -> asyncio.Task[None] | None:
        """Begin to write what waits, unless that is under way or too early after a failure."""
        is_idle = self.task is None or self.task.done()
        if not is_idle or not self.waiting or self.clock.monotonic() < self.due_at:
            return None
        self.task = asyncio.create_task(self._run())
        return self.task

    async def _run(self) -> None:
        try:
            while self.waiting:
                some = dict(islice(self.waiting.items(), MAX_TRANSACTION_ROWS))
                await self._write(some)
                for key, row in some.items():
                    if self.waiting.get(key) is row:
                        del self.waiting[key]
            self.failures = 0
        except StorageUnavailable as exc:
            self.failures += 1
            wait = min(2.0 ** (self.failures - 1), LONGEST_WAIT_SECONDS)
            self.due_at = self.clock.monotonic() + wait
            log.warning(
                "views_behind partition=%s rows=%d seconds=%.0f reason=%s",
                self.name,
                len(self.waiting),
                wait,
                exc,
            )

    async def _write(self, rows: Mapping[str, T]) -> None:
        try:
            await self.write(rows)
        except RowsRefused as exc:
            if len(rows) > 1:
                for key, row in rows.items():
                    await self._write({key: row})
            else:  # it would hold up the others for ever
                log.error("row_refused partition=%s row=%s reason=%s", self.name, *rows, exc)


@dataclass(slots=True, kw_only=True)
class Showing:
    """Rows that wait to be shown, and the tasks that show them. One event loop owns it."""

    store: RowStore
    clock: Clock
    _views: ViewWriter = field(init=False)
    _windows: dict[Window, _Partition[SumRow]] = field(default_factory=dict)
    _subjects: "_Partition[_Seen]" = field(init=False)
    _seen: OrderedDict[str, tuple[datetime, datetime]] = field(default_factory=OrderedDict)
    _trying: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._views = ViewWriter(self.store)
        writer = SubjectWriter(self.store)

        async def record(seen: Mapping[str, _Seen]) -> None:
            await writer.record(event for each in seen.values() for event in each)

        self._subjects = _Partition(name="Subjects", clock=self.clock, write=record, newer=_widest)

    async def show(self, sums: Iterable[SumRow], events: Iterable[Countable]) -> bool:
        """Show these sums and the callers of these events, or keep them to do so later.

        Gives whether all of it will be shown even if the process dies now: by the sweep.
        """
        sums = list(sums)
        for row in sums:
            self._window(row.key.window).add(row.key.place.view_row_key, row)
        adjusted: set[str] = set()
        for event in events:
            if not isinstance(event, UsageEvent):
                adjusted.add(event.subject)  # the sweep looks for calls
            elif self._is_news(event):
                self._subjects.add(event.subject, (event, event))
        self._drop_surplus()
        await self._start(PATIENCE_SECONDS)
        unknown = adjusted.union(self._subjects.waiting)
        return not any(row.key.dimensions.subject in unknown and self._waits(row) for row in sums)

    async def settle(self) -> None:
        """Write all that waits, once, and wait for it. For the end of the process."""
        for partition in self._partitions():
            partition.due_at = 0.0
        await self._start(None)

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for a view partition."""
        return sum(len(partition.waiting) for partition in self._windows.values())

    def _partitions(self) -> "Sequence[_Partition[SumRow] | _Partition[_Seen]]":
        return [*self._windows.values(), self._subjects]

    def _window(self, window: Window) -> _Partition[SumRow]:
        if window not in self._windows:

            async def write(rows: Mapping[str, SumRow]) -> None:
                await self._views.write(rows.values())

            self._windows[window] = _Partition(
                name=window.name, clock=self.clock, write=write, newer=_highest
            )
        return self._windows[window]

    def _waits(self, row: SumRow) -> bool:
        partition = self._windows.get(row.key.window)
        return partition is not None and row.key.place.view_row_key in partition.waiting

    def _is_news(self, event: UsageEvent) -> bool:
        """Whether the subject's row must be looked at: once in a process, and in ten minutes."""
        first, last = self._seen.get(event.subject, (event.time, event.time - SEEN_EVERY))
        if first <= event.time < last + SEEN_EVERY:
            return False
        self._seen[event.subject] = min(first, event.time), max(last, event.time)
        self._seen.move_to_end(event.subject)
        while len(self._seen) > MAX_KNOWN_SUBJECTS:
            self._seen.popitem(last=False)
        return True

    def _drop_surplus(self) -> None:
        """Leave the oldest windows' rows to the sweep when too many wait."""
        for window in sorted(self._windows):
            if self.waiting_rows <= MAX_WAITING_ROWS:
                return
            rows = len(self._windows.pop(window).waiting)
            log.error("views_left_to_sweep partition=%s rows=%d", window.name, rows)

    async def _start(self, seconds: float | None) -> None:
        started = [task for each in self._partitions() if (task := each.start())]
        if started:
            await asyncio.wait(started, timeout=seconds)
            for task in started:
                if task.done():
                    task.result()
        done = [w for w, each in self._windows.items() if not each.waiting and not each.failures]
        for window in done:
            del self._windows[window]
        if any(each.waiting for each in self._partitions()) and (
            self._trying is None or self._trying.done()
        ):
            self._trying = asyncio.create_task(self._keep_trying())

    async def _keep_trying(self) -> None:
        while any(each.waiting for each in self._partitions()):
            await asyncio.sleep(CADENCE_SECONDS)
            await self._start(None)


type _Seen = tuple[UsageEvent, UsageEvent]  # a subject's first and latest call


def _highest(known: SumRow, row: SumRow) -> SumRow:
    return row if row.revision >= known.revision else known


def _widest(known: _Seen, seen: _Seen) -> _Seen:
    first, last = min(known[0], seen[0], key=_time), max(known[1], seen[1], key=_time)
    return first, last


def _time(event: UsageEvent) -> datetime:
    return event.time
