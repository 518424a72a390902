"""Copies committed sums to the views, and callers to `Subjects`, without holding up the ledger.

The views of a window are one partition, shared by all subjects; so is `Subjects`. While one of them
is throttled its rows wait here, in memory, and it alone is tried again, after 1 s, 2 s, 4 s and so
on to a minute. A batch waits for the copies it began, but not longer than `PATIENCE_SECONDS`.

What waits is lost when the process dies. Then the batch is delivered again if it was not finished,
and its sums are read and shown; otherwise the sweep shows them, because their subject's row says from
which hour on its views are behind. So a batch is finished once each of its sums is shown or that is
said, and rows that are too many for memory are dropped only then.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import islice

from meter.adjustment import Countable
from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.keys import SumKey
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.rows import SumRow
from meter.ledger.subjects import SubjectWriter, record_behind
from meter.ledger.view import ViewWriter
from meter.ports import Clock, RowStore
from meter.usage import UsageEvent
from meter.window import Period, Window, window_of

PATIENCE_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 60.0
CADENCE_SECONDS = 5.0
MAX_WAITING_ROWS = 50_000  # about 2 KB each
MAX_KNOWN_SUBJECTS = 50_000
SEEN_EVERY = timedelta(minutes=10)
SAID_EVERY_SECONDS = 600.0  # far below `BELIEVED_AFTER`

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
    most_waiting: int = MAX_WAITING_ROWS
    _views: ViewWriter = field(init=False)
    _windows: dict[Window, _Partition[SumRow]] = field(default_factory=dict)
    _subjects: "_Partition[_Seen]" = field(init=False)
    _behind: _Partition[Window] = field(init=False)
    # Subjects whose row says that they are behind: from which hour on, and when it was written.
    _said: OrderedDict[str, tuple[Window, float]] = field(default_factory=OrderedDict)
    _unjudged: Counter[SumKey] = field(default_factory=Counter)
    _seen: OrderedDict[str, tuple[datetime, datetime]] = field(default_factory=OrderedDict)
    _trying: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        self._views = ViewWriter(self.store)
        writer = SubjectWriter(self.store)

        async def record(seen: Mapping[str, _Seen]) -> None:
            await writer.record(event for each in seen.values() for event in each)

        self._subjects = _Partition(name="Subjects", clock=self.clock, write=record, newer=_widest)
        self._behind = _Partition(
            name="Subjects", clock=self.clock, write=self._say_behind, newer=min
        )

    async def show(self, sums: Iterable[SumRow], events: Iterable[Countable]) -> bool:
        """Show these sums and the callers of these events, or keep them to do so later.

        Gives whether all of it will be shown even if the process dies now: by the sweep.
        """
        sums, events = list(sums), list(events)
        keys = [row.key for row in sums]
        self._unjudged.update(keys)
        try:
            for row in sums:
                self._window(row.key.window).add(row.key.place.view_row_key, row)
            for event in events:
                if isinstance(event, UsageEvent) and self._is_news(event):
                    self._subjects.add(event.subject, (event, event))
            await self._start(PATIENCE_SECONDS)
            await self._admit([row for row in sums if self._waits(row)], events)
        finally:
            self._unjudged -= Counter(keys)
        self._drop_surplus()
        return self._is_safe({*_subjects_of(sums), *(event.subject for event in events)})

    async def settle(self) -> None:
        """Write all that waits, once, and wait for it. For the end of the process."""
        for partition in self._partitions():
            partition.due_at = 0.0
        await self._start(None)

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for a view partition."""
        return sum(len(partition.waiting) for partition in self._windows.values())

    def _partitions(
        self,
    ) -> "Sequence[_Partition[SumRow] | _Partition[_Seen] | _Partition[Window]]":
        return [*self._windows.values(), self._subjects, self._behind]

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

    async def _admit(self, waiting: Sequence[SumRow], events: Sequence[Countable]) -> None:
        """Say of the subjects of these rows that they are behind, unless that is said already."""
        hours: dict[str, Window] = {}
        for event in events if waiting else ():
            hour = window_of(event.time, Period.HOUR)
            hours[event.subject] = min(hours.get(event.subject, hour), hour)
        late = self.clock.monotonic() - SAID_EVERY_SECONDS
        for row in waiting:
            subject = row.key.dimensions.subject
            hour = hours.get(subject) or window_of(row.key.window.start, Period.HOUR)
            said = self._said.get(subject)
            if said is None or hour < said[0] or said[1] <= late:
                self._behind.add(subject, hour)
        if self._behind.waiting and (task := self._behind.start() or self._behind.task):
            await asyncio.wait({task}, timeout=PATIENCE_SECONDS)
            if task.done():
                task.result()

    async def _say_behind(self, hours: Mapping[str, Window]) -> None:
        before = self.clock.monotonic()
        await record_behind(self.store, hours, self.clock.now())
        for subject, hour in hours.items():
            self._said[subject] = hour, before
            self._said.move_to_end(subject)
        while len(self._said) > MAX_KNOWN_SUBJECTS:
            self._said.popitem(last=False)

    def _is_safe(self, subjects: set[str]) -> bool:
        unsaid = subjects & self._behind.waiting.keys()
        return not unsaid or unsaid.isdisjoint(
            name for each in self._windows.values() for name in _subjects_of(each.waiting.values())
        )

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
        """Leave rows to the sweep when too many wait, the oldest windows' first."""
        for window in sorted(self._windows):
            if self.waiting_rows <= self.most_waiting:
                return
            waiting = self._windows[window].waiting
            dropped = [key for key, row in waiting.items() if self._is_said(row)]
            for key in dropped:
                del waiting[key]
            if dropped:
                log.warning("views_left_to_sweep partition=%s rows=%d", window.name, len(dropped))

    def _is_said(self, row: SumRow) -> bool:
        """Whether the sweep will find the row."""
        subject = row.key.dimensions.subject
        return row.key not in self._unjudged and subject not in self._behind.waiting

    async def _start(self, seconds: float | None) -> None:
        started = [task for each in self._partitions() if (task := each.start())]
        if started:
            await asyncio.wait(started, timeout=seconds)
            for task in started:
                if task.done():
                    task.result()
        now = self.clock.monotonic()
        done = [w for w, each in self._windows.items() if not each.waiting and each.due_at <= now]
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


def _subjects_of(sums: Iterable[SumRow]) -> Iterable[str]:
    return (row.key.dimensions.subject for row in sums)


def _highest(known: SumRow, row: SumRow) -> SumRow:
    return row if row.revision >= known.revision else known


def _widest(known: _Seen, seen: _Seen) -> _Seen:
    first, last = min(known[0], seen[0], key=_time), max(known[1], seen[1], key=_time)
    return first, last


def _time(event: UsageEvent) -> datetime:
    return event.time
