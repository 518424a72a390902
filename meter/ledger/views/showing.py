"""Copies committed sums to the views, and callers to `Subjects`, without holding up the ledger.

Sums that are committed wait here, the newest state of each. Few are written with each batch; where
they are many they are written together, after 20 s at the latest, since one that changes a thousand
times meanwhile is copied once. A batch waits a little for the copies that it begins. While the views of a
window are throttled their rows wait on, and they alone are tried again, after 1 s, 2 s, 4 s and so on
to a minute.

What waits is lost when the process dies: its marks in the ledger have the sweep show it
(`marks.py`). So rows that are too many for memory can be left to the sweep, too.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from itertools import batched, compress, islice
from operator import is_

from meter.adjustment import Countable
from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.keys import SumKey
from meter.ledger.marks import Marks
from meter.ledger.optimistic import MAX_KNOWN_BYTES
from meter.ledger.rows import SumRow
from meter.ledger.views.shards import Shards
from meter.ledger.views.subjects import SEEN_EVERY, Seen, SubjectWriter, seen_in
from meter.ledger.views.view import ViewWriter
from meter.ports import Clock, RowStore
from meter.usage import UsageEvent
from meter.window import Window

CADENCE_SECONDS = 5.0
# As few are written with each batch: to put them off would save nothing, and a crash would show later.
FEW_ROWS = 100
MANY_ROWS, MOST_CADENCES = 1_000, 4.0
PATIENCE_SECONDS = 2.0
LONGEST_WAIT_SECONDS = 60.0
# About 1 KB each; most are remembered for the ledger anyway, so as many wait as are remembered.
MAX_WAITING_ROWS, REMEMBERED_BYTES = 80_000, 1_600
ROWS_AT_ONCE = 1_000
MAX_KNOWN_SUBJECTS = 50_000

log = logging.getLogger(__name__)


@dataclass(slots=True, kw_only=True)
class _Queue[K, T]:
    """Rows that wait to be written together; a newer row replaces an older one of its key."""

    name: str
    clock: Clock
    write: Callable[[Sequence[T]], Awaitable[object]]
    newer: Callable[[T, T], T]
    written: Callable[[Sequence[K]], None]
    left: Callable[[Sequence[K]], None]
    waiting: dict[K, T] = field(default_factory=dict)
    failures: int = 0
    due_at: float = 0.0
    task: asyncio.Task[None] | None = None

    def add(self, key: K, row: T) -> None:
        """Keep the row."""
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
            # What is added meanwhile waits for the next time, or its end might never come.
            waiting = self.waiting
            for now in batched(list(waiting), ROWS_AT_ONCE, strict=False):
                found = zip(now, map(waiting.get, now), strict=True)
                some = {key: row for key, row in found if row is not None}
                await self._write(some)
                done = list(compress(some, map(is_, some.values(), map(waiting.get, some))))
                for key in done:
                    del waiting[key]
                self.written(done)
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

    async def _write(self, rows: Mapping[K, T]) -> None:
        try:
            await self.write(list(rows.values()))
        except RowsRefused as exc:
            keys = list(rows)
            if len(keys) == 1:  # it would hold up the others for ever
                if self.waiting.pop(keys[0], None) is not None:
                    self.left(keys)
                log.error(
                    "row_refused partition=%s row=%s reason=%s",
                    self.name,
                    _name(rows[keys[0]]),
                    exc,
                )
                return
            middle = len(keys) // 2
            for half in (keys[:middle], keys[middle:]):
                await self._write({key: rows[key] for key in half})


@dataclass(slots=True, kw_only=True)
class Showing:
    """Rows that wait to be shown, and the tasks that show them. One event loop owns it."""

    store: RowStore
    clock: Clock
    marks: Marks
    most_waiting: int = MAX_WAITING_ROWS
    most_known_bytes: int = MAX_KNOWN_BYTES
    _views: ViewWriter = field(init=False)
    _windows: dict[Window, _Queue[SumKey, SumRow]] = field(default_factory=dict)
    _subjects: _Queue[str, Seen] = field(init=False)
    _seen: OrderedDict[str, tuple[datetime, datetime]] = field(default_factory=OrderedDict)
    _due_at: float = float("-inf")
    _trying: asyncio.Task[None] | None = None

    def __post_init__(self) -> None:
        shards = Shards(self.store, self.clock)
        self._views = ViewWriter(self.store, shards, self.most_known_bytes)
        self._subjects = _Queue(
            name="Subjects",
            clock=self.clock,
            write=SubjectWriter(self.store).record,
            newer=Seen.__add__,
            written=_nothing,
            left=_nothing,
        )

    def add(self, sums: Iterable[SumRow]) -> None:
        """Keep committed sums until they are shown."""
        windows, news = self._windows, []
        for row in sums:
            key = row.key
            queue = windows.get(key.window) or self._begin(key.window)
            if key in queue.waiting:
                queue.add(key, row)
            else:  # nearly always
                queue.waiting[key] = row
                news.append(key)
        self.marks.add(news)

    def note(self, events: Iterable[Countable]) -> None:
        """Keep the callers of these events until they are recorded."""
        for event in events:
            if isinstance(event, UsageEvent) and self._is_news(event):
                self._subjects.add(event.subject, seen_in(event))

    async def keep_up(self) -> None:
        """Write what waits, if that was not begun in the last seconds, and wait for it a little."""
        if self._is_due():
            await self._start(PATIENCE_SECONDS)
        self._keep_trying()
        self._drop_surplus()

    async def settle(self) -> None:
        """Write all that waits, once, wait for it, and remove the marks. For the end of the process."""
        if under_way := [queue.task for queue in self._queues() if queue.task is not None]:
            await asyncio.wait(under_way)
        for queue in self._queues():
            queue.due_at = 0.0
        await self._start(None)
        await self.marks.clear(even_recent=True)

    async def stop(self) -> None:
        """Break off what goes on in the background, before the store is closed."""
        tasks = self.tasks()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def tasks(self) -> list[asyncio.Task[None]]:
        """What goes on in the background."""
        tasks = [self._trying, *(queue.task for queue in self._queues())]
        return [task for task in tasks if task is not None and not task.done()]

    @property
    def waiting_rows(self) -> int:
        """How many rows wait for a view partition."""
        return sum(len(queue.waiting) for queue in self._windows.values())

    def _queues(self) -> "Sequence[_Queue[SumKey, SumRow] | _Queue[str, Seen]]":
        return [*self._windows.values(), self._subjects]

    def _begin(self, window: Window) -> _Queue[SumKey, SumRow]:
        queue = _Queue[SumKey, SumRow](
            name=window.name,
            clock=self.clock,
            write=partial(self._views.write_window, window),
            newer=_highest,
            written=self.marks.discard,
            left=self.marks.left,
        )
        self._windows[window] = queue
        return queue

    def _is_due(self) -> bool:
        is_full = 2 * self.waiting_rows >= self.most_waiting
        return is_full or self.clock.monotonic() >= self._due_at

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
            surplus = self.waiting_rows - self.most_waiting
            if surplus <= 0:
                return
            waiting = self._windows[window].waiting
            dropped = list(islice(waiting, surplus))
            for key in dropped:
                del waiting[key]
            self.marks.left(dropped)
            if dropped:
                log.warning("views_left_to_sweep partition=%s rows=%d", window.name, len(dropped))

    async def _start(self, seconds: float | None) -> None:
        rows = self.waiting_rows
        share = 0.0 if rows <= FEW_ROWS else min(MOST_CADENCES, rows / MANY_ROWS)
        self._due_at = self.clock.monotonic() + share * CADENCE_SECONDS
        started = [task for each in self._queues() if (task := each.start())]
        if started:
            await asyncio.wait(started, timeout=seconds)
            for task in started:
                if task.done():
                    task.result()
        now = self.clock.monotonic()
        done = [w for w, each in self._windows.items() if not each.waiting and each.due_at <= now]
        for window in done:
            del self._windows[window]

    def _keep_trying(self) -> None:
        is_idle = self._trying is None or self._trying.done()
        if is_idle and any(each.waiting for each in self._queues()):
            self._trying = asyncio.create_task(self._try_on())

    async def _try_on(self) -> None:
        while any(each.waiting for each in self._queues()):
            await asyncio.sleep(CADENCE_SECONDS)
            if self._is_due():
                await self._start(None)
            await self.marks.clear()


def _nothing(_keys: Sequence[str]) -> None:
    """Subjects that were not recorded are with their next call."""


def _name(row: object) -> str:
    return row.key.view_row_key if isinstance(row, SumRow) else str(getattr(row, "subject", ""))


def _highest(known: SumRow, row: SumRow) -> SumRow:
    return row if row.revision >= known.revision else known
