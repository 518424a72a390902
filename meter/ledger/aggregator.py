"""The aggregator: counts a batch of hub messages before its checkpoint.

`decode -> fold -> commit -> show -> dead letters`. An event is in the ledger or in `DeadLetters` when
the batch is finished; the views follow (`showing.py`). Any other error fails the whole batch: it is
delivered again, and events that are already counted are skipped. What fails for one bucket or one
table does not keep the others from being counted: each is tried once per delivery, those that failed
before come last, with their transactions split, and only an outage of all ends it early.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from meter.adjustment import Adjustment, Countable
from meter.errors import StorageUnavailable
from meter.ledger.adjusting.floor import Admitted, Floor
from meter.ledger.commit import Committed, Committer, EventKey, Trouble
from meter.ledger.deadletters import keep
from meter.ledger.decode import DeadLetter, Decoded, Message, Reason, Refusal, decode
from meter.ledger.keys import ledger_partition
from meter.ledger.marks import Marks
from meter.ledger.memory import MOST_KNOWN_BYTES
from meter.ledger.positions import HubPositions
from meter.ledger.views.showing import MAX_WAITING_ROWS, REMEMBERED_BYTES, Showing
from meter.ports import Clock, CountObserver, RowStore
from meter.usage import UsageEvent
from meter.window import Window, windows_of

MAX_CONCURRENT_COMMITS = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """The result of one batch; `refused` are valid events that no ledger can take any more."""

    new_calls: int
    repeated_calls: int
    dead_letters: int = 0
    refused: Mapping[EventKey, Refusal] = field(default_factory=dict)


@dataclass(slots=True)
class _Counted:
    """What became of a batch's events."""

    commits: list[Committed] = field(default_factory=list)
    other_outages: list[StorageUnavailable] = field(default_factory=list)
    refused: dict[EventKey, Refusal] = field(default_factory=dict)

    @property
    def lost(self) -> set[EventKey]:
        """The events that must be delivered again."""
        return {key for each in self.commits for key in each.failed}

    @property
    def outages(self) -> list[StorageUnavailable]:
        failed = (failure for each in self.commits for failure in each.failed.values())
        return [*failed, *self.other_outages]

    def add(self, committed: Committed) -> None:
        self.commits.append(committed)
        self.refused |= committed.refused

    def report(self, letters: Sequence[DeadLetter] = ()) -> BatchReport:
        return BatchReport(
            new_calls=sum(len(each.new) for each in self.commits),
            repeated_calls=sum(each.repeated_calls for each in self.commits),
            dead_letters=len(letters),
            refused=self.refused,
        )

    def tell(self, observers: Sequence[CountObserver], events: Sequence[Countable]) -> None:
        """Tell them which of the batch's calls were counted just now."""
        if observers:
            new = {key for each in self.commits for key in each.new}
            first = {(each.subject, each.id): each for each in reversed(events)}
            calls = [each for key, each in reversed(first.items()) if key in new]
            repeats = sum(each.repeated_calls for each in self.commits)
            for observer in observers:
                observer.counted([each for each in calls if isinstance(each, UsageEvent)], repeats)

    def raise_outage(self) -> None:
        """One outage is enough to report: the whole batch is delivered again."""
        if self.outages:
            raise StorageUnavailable(str(self.outages[0])) from self.outages[0]


@dataclass(slots=True, kw_only=True)
class Aggregator:
    """Counts batches. One event loop owns it. `writer` is an id that no other process has.

    `observers` are told what `handle` counts. It remembers rows of `most_known_bytes` in all. `lull` is
    entered for each batch that `handle` counts.
    """

    store: RowStore
    clock: Clock
    retention: timedelta
    writer: str
    observers: Sequence[CountObserver] = ()
    most_known_bytes: int = MOST_KNOWN_BYTES
    lull: AbstractContextManager[None] = field(default_factory=nullcontext)
    committer: Committer = field(init=False)
    floor: Floor = field(init=False)
    showing: Showing = field(init=False)
    positions: HubPositions = field(init=False)
    _failing: set[tuple[str, Window]] = field(init=False, default_factory=set)

    def __post_init__(self) -> None:
        marks = Marks(self.store, self.clock, self.writer)
        of_views = 3 * self.most_known_bytes // 8  # as they take of all
        self.showing = Showing(
            store=self.store,
            clock=self.clock,
            marks=marks,
            most_waiting=max(MAX_WAITING_ROWS, self.most_known_bytes // REMEMBERED_BYTES),
            most_known_bytes=of_views,
        )
        of_sums = self.most_known_bytes - of_views
        self.committer = Committer(self.store, marks, self.showing.add, of_sums)
        self.floor = Floor(store=self.store, clock=self.clock, retention=self.retention)
        self.positions = HubPositions(self.store, self.clock)

    async def handle(self, messages: Sequence[Message]) -> BatchReport:
        """Count a batch. Raises StorageUnavailable; the batch must then be delivered again."""
        with self.lull:
            return await self._handle(messages)

    async def _handle(self, messages: Sequence[Message]) -> BatchReport:
        may_be_repeats = await self.positions.receive(messages)
        decoded = self.decode(messages)
        enqueued = (m.enqueued_at for m in messages if m.enqueued_at is not None)
        now = max([self.clock.now(), *enqueued])
        counted = await self._commit(decoded.events, now, may_be_repeats=may_be_repeats)
        # At once, also in a delivery that fails: in the next one they are repeats.
        counted.tell(self.observers, decoded.events)
        await self.showing.keep_up()
        letters = [*decoded.dead_letters, *decoded.letters_of(counted.refused)]
        await keep(self.store, letters, may_be_stored=may_be_repeats)
        _log(letters)
        for observer in self.observers if letters else ():
            observer.dead_lettered(len(letters))
        counted.raise_outage()
        await self.positions.save()
        return counted.report(letters)

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Decode the messages by the rules that apply now."""
        return decode(messages, now=self.clock.now(), retention=self.retention)

    async def count(self, events: Sequence[Countable]) -> BatchReport:
        """Count events, and update the views before it returns. Raises StorageUnavailable.

        For commands: events that are `refused` were not counted, and are in no dead letter.
        """
        counted = await self._commit(events, self.clock.now(), may_be_repeats=False)
        await self.showing.settle()
        counted.raise_outage()
        return counted.report()

    async def close(self, seconds: float) -> None:
        """Show what waits to be shown, in about that time; the sweep shows the rest.

        Nothing goes on in the background afterwards.
        """
        settling = asyncio.create_task(self.showing.settle())
        await asyncio.wait({settling}, timeout=seconds)
        if not settling.done():
            settling.cancel()
            await asyncio.gather(settling, return_exceptions=True)
        await self.showing.stop()

    async def _commit(
        self, events: Sequence[Countable], now: datetime, *, may_be_repeats: bool
    ) -> _Counted:
        """Commit the calls, then the adjustments: of these calls, perhaps."""
        counted = _Counted()
        calls = [event for event in events if isinstance(event, UsageEvent)]
        await self._commit_groups(calls, now, counted, may_be_repeats=may_be_repeats)
        unique = {(e.subject, e.id): e for e in reversed(events) if isinstance(e, Adjustment)}
        adjustments = list(unique.values())[::-1]
        if adjustments:
            late = {subject for subject, _ in counted.lost}
            try:
                await self._commit_adjustments(
                    [each for each in adjustments if each.subject not in late], now, counted
                )
            except StorageUnavailable as exc:
                counted.other_outages.append(exc)
        missed = counted.lost | counted.refused.keys()
        if missed:
            calls = [call for call in calls if (call.subject, call.id) not in missed]
        self.showing.note(calls)
        return counted

    async def _commit_adjustments(
        self, adjustments: Sequence[Adjustment], now: datetime, counted: _Counted
    ) -> None:
        found = await self.floor.admit(adjustments)
        for each, result in found.items():
            if isinstance(result, Refusal):
                counted.refused[each.subject, each.id] = result
        admitted = [each for each in found.values() if isinstance(each, Admitted)]
        events = [each.adjustment for each in admitted]
        await self._commit_groups(events, now, counted, may_be_repeats=True)
        lost = counted.lost
        for result in admitted:
            if (result.adjustment.subject, result.adjustment.id) not in lost:
                await self.floor.settle(result)

    async def _commit_groups(
        self,
        events: Sequence[Countable],
        now: datetime,
        counted: _Counted,
        *,
        may_be_repeats: bool,
    ) -> None:
        groups: defaultdict[tuple[str, Window], list[Countable]] = defaultdict(list)
        for event in events:
            _, _, month = windows_of(event.time)
            groups[ledger_partition(event.subject), month].append(event)
        trouble = Trouble(self.clock)
        limit = asyncio.Semaphore(MAX_CONCURRENT_COMMITS)

        async def commit(place: tuple[str, Window], group: list[Countable]) -> None:
            async with limit:
                if trouble.is_outage_of_all():
                    failed = {(each.subject, each.id): trouble.outage for each in group}
                    counted.add(Committed(failed=failed))
                    return
                committed = await self.committer.commit(
                    *place,
                    group,
                    has_ended=place[1].end <= now,
                    may_be_repeats=may_be_repeats,
                    splits=place in self._failing,
                    trouble=trouble,
                )
                counted.add(committed)
                if committed.failed:
                    self._failing.add(place)
                else:
                    self._failing.discard(place)

        async with asyncio.TaskGroup() as tasks:
            for place in sorted(groups, key=lambda place: place in self._failing):
                tasks.create_task(commit(place, groups[place]))


def _log(letters: Sequence[DeadLetter]) -> None:
    for detail in sorted({each.detail for each in letters if each.reason in _PARKED}):
        log.error("events_parked reason=%s", detail)
    if letters:
        log.error("events_dead_lettered count=%d", len(letters))


_PARKED = frozenset({Reason.MONTH_CLOSED, Reason.CANNOT_BE_STORED})
