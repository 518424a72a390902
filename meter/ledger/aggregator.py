"""The aggregator: counts a batch of hub messages before its checkpoint.

`decode -> fold -> commit -> show -> dead letters`. An event is in the ledger or in `DeadLetters` when
the batch is finished; the views follow (`showing.py`). Any other error fails the whole batch: it is
delivered again, and events that are already counted are skipped. What fails for one subject or one
table does not keep the others from being counted: each subject is tried once per delivery, those that
failed before come last, and only an outage of all ends it early.
"""

import asyncio
import logging
from collections import OrderedDict, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from meter.adjustment import Adjustment, Countable
from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.adjusting.floor import Admitted, Floor
from meter.ledger.commit import Committed, Committer, EventKey
from meter.ledger.deadletters import keep
from meter.ledger.decode import DeadLetter, Decoded, Message, Reason, Refusal, decode
from meter.ledger.positions import HubPositions
from meter.ledger.rows import SumRow
from meter.ledger.showing import Showing
from meter.ledger.subjects import SubjectWriter, record_behind
from meter.ledger.view import ViewWriter
from meter.ports import Clock, RowStore
from meter.usage import UsageEvent
from meter.window import Period, Window, window_of

MAX_CONCURRENT_COMMITS = 8
# Throttled partitions must not keep the others from being counted; an outage of all must not be asked
# about for as long as a batch has subjects. It is one if so many fail, and none succeeds for so long.
MAX_OUTAGES = 8
OUTAGE_SECONDS = 10.0
MAX_FAILING_SUBJECTS = 10_000

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
    """What became of a batch's events; those of `events` need not be delivered again."""

    commits: list[Committed] = field(default_factory=list)
    events: list[Countable] = field(default_factory=list)
    outages: list[StorageUnavailable] = field(default_factory=list)
    refused: dict[EventKey, Refusal] = field(default_factory=dict)

    @property
    def sums(self) -> list[SumRow]:
        return [row for each in self.commits for row in each.sums]

    @property
    def calls(self) -> list[UsageEvent]:
        return [event for event in self.events if isinstance(event, UsageEvent)]

    def add(self, committed: Committed, events: Sequence[Countable]) -> None:
        self.commits.append(committed)
        self.events += events
        self.refused |= committed.refused

    def missing(self, events: Sequence[Countable]) -> set[str]:
        """The subjects of which some of these events must be delivered again."""
        done = {(event.subject, event.id) for event in self.events}
        return {event.subject for event in events if (event.subject, event.id) not in done}

    def report(self, letters: Sequence[DeadLetter] = ()) -> BatchReport:
        return BatchReport(
            new_calls=sum(each.new_calls for each in self.commits),
            repeated_calls=sum(each.repeated_calls for each in self.commits),
            dead_letters=len(letters),
            refused=self.refused,
        )

    def raise_outage(self) -> None:
        """One outage is enough to report: the whole batch is delivered again."""
        if self.outages:
            raise StorageUnavailable(str(self.outages[0])) from self.outages[0]


@dataclass(slots=True, kw_only=True)
class Aggregator:
    """Counts batches. One event loop owns it."""

    store: RowStore
    clock: Clock
    retention: timedelta
    committer: Committer = field(init=False)
    floor: Floor = field(init=False)
    showing: Showing = field(init=False)
    positions: HubPositions = field(init=False)
    _failing: OrderedDict[str, None] = field(init=False, default_factory=OrderedDict)

    def __post_init__(self) -> None:
        self.committer = Committer(self.store)
        self.floor = Floor(store=self.store, clock=self.clock, retention=self.retention)
        self.showing = Showing(store=self.store, clock=self.clock)
        self.positions = HubPositions(self.store, self.clock)

    async def handle(self, messages: Sequence[Message]) -> BatchReport:
        """Count a batch. Raises StorageUnavailable; the batch must then be delivered again."""
        may_be_repeats = await self.positions.receive(messages)
        decoded = self.decode(messages)
        enqueued = (m.enqueued_at for m in messages if m.enqueued_at is not None)
        now = max([self.clock.now(), *enqueued])
        counted = await self._commit(decoded.events, now, may_be_repeats=may_be_repeats)
        is_safe = await self.showing.show(counted.sums, counted.events)
        letters = [*decoded.dead_letters, *decoded.letters_of(counted.refused)]
        await keep(self.store, letters, may_be_stored=may_be_repeats)
        _log(letters)
        counted.raise_outage()
        if not is_safe:
            raise StorageUnavailable("neither the views nor Subjects take the batch's rows")
        await self.positions.save()
        return counted.report(letters)

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Decode the messages by the rules that apply now."""
        return decode(messages, now=self.clock.now(), retention=self.retention)

    async def count(self, events: Sequence[Countable]) -> BatchReport:
        """Count events, and update the views before it returns. Raises StorageUnavailable.

        For commands: events that are `refused` were not counted, and are in no dead letter.
        """
        now = self.clock.now()
        # First, so that the sweep finds these sums if this process ends before they are shown.
        hours: dict[str, Window] = {}
        for event in events:
            hour = window_of(event.time, Period.HOUR)
            hours[event.subject] = min(hours.get(event.subject, hour), hour)
        await record_behind(self.store, hours, now)
        counted = await self._commit(events, now, may_be_repeats=False)
        await SubjectWriter(self.store).record(counted.calls)
        await ViewWriter(self.store).write(counted.sums)
        counted.raise_outage()
        return counted.report()

    async def close(self, seconds: float) -> None:
        """Show what waits to be shown, in about that time; the sweep shows the rest."""
        await asyncio.wait({asyncio.create_task(self.showing.settle())}, timeout=seconds)

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
            late = counted.missing(calls)
            try:
                await self._commit_adjustments(
                    [each for each in adjustments if each.subject not in late], now, counted
                )
            except StorageUnavailable as exc:
                counted.outages.append(exc)
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
        done = {(event.subject, event.id) for event in counted.events}
        for result in admitted:
            if (result.adjustment.subject, result.adjustment.id) in done:
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
            groups[event.subject, window_of(event.time, Period.MONTH)].append(event)
        trouble = _Trouble(self.clock)
        limit = asyncio.Semaphore(MAX_CONCURRENT_COMMITS)

        async def commit(subject: str, month: Window, group: list[Countable]) -> None:
            async with limit:
                if trouble.is_outage_of_all():
                    return
                try:
                    committed = await self.committer.commit(
                        subject,
                        month,
                        group,
                        has_ended=month.end <= now,
                        may_be_repeats=may_be_repeats,
                    )
                except StorageUnavailable as exc:
                    counted.outages.append(exc)
                    trouble.note(exc)
                    self._remember_failing(subject)
                else:
                    counted.add(committed, group)
                    trouble.note(None)
                    self._failing.pop(subject, None)

        async with asyncio.TaskGroup() as tasks:
            for subject, month in sorted(groups, key=lambda place: place[0] in self._failing):
                tasks.create_task(commit(subject, month, groups[subject, month]))

    def _remember_failing(self, subject: str) -> None:
        self._failing[subject] = None
        if len(self._failing) > MAX_FAILING_SUBJECTS:
            self._failing.popitem(last=False)


class _Trouble:
    """Tells some failing partitions from an outage of all."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._answered_at = clock.monotonic()

    def note(self, failure: StorageUnavailable | None) -> None:
        """Note the end of a commit; rows that are refused are an answer, too."""
        if failure is None or isinstance(failure, RowsRefused):
            self._failures, self._answered_at = 0, self._clock.monotonic()
        else:
            self._failures += 1

    def is_outage_of_all(self) -> bool:
        """Whether to try no further subject in this delivery."""
        seconds = self._clock.monotonic() - self._answered_at
        return self._failures >= MAX_OUTAGES and seconds >= OUTAGE_SECONDS


def _log(letters: Sequence[DeadLetter]) -> None:
    for detail in sorted({each.detail for each in letters if each.reason in _PARKED}):
        log.error("events_parked reason=%s", detail)
    if letters:
        log.error("events_dead_lettered count=%d", len(letters))


_PARKED = frozenset({Reason.MONTH_CLOSED, Reason.CANNOT_BE_STORED})
