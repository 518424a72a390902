"""The aggregator: counts a batch of hub messages and updates the views before the checkpoint.

`decode -> subjects -> fold -> commit -> view`. Any error fails the whole batch: it is delivered
again, and events that are already counted are skipped.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from meter.adjustment import Countable
from meter.errors import StorageUnavailable
from meter.ledger.commit import Committed, Committer
from meter.ledger.deadletters import keep
from meter.ledger.decode import Decoded, Message, decode
from meter.ledger.subjects import SubjectWriter
from meter.ledger.view import ViewWriter
from meter.ports import Clock, RowStore
from meter.usage import UsageEvent
from meter.window import Period, Window, window_of

MAX_CONCURRENT_COMMITS = 8

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchReport:
    """The result of one batch."""

    new_calls: int
    repeated_calls: int
    dead_letters: int = 0


@dataclass(slots=True, kw_only=True)
class Aggregator:
    """Counts batches. One event loop owns it."""

    store: RowStore
    clock: Clock
    retention: timedelta
    committer: Committer = field(init=False)
    views: ViewWriter = field(init=False)
    subjects: SubjectWriter = field(init=False)

    def __post_init__(self) -> None:
        self.committer = Committer(self.store)
        self.views = ViewWriter(self.store)
        self.subjects = SubjectWriter(self.store)

    async def handle(self, messages: Sequence[Message]) -> BatchReport:
        """Count a batch. Raises StorageUnavailable; the batch must then be delivered again."""
        decoded = self.decode(messages)
        await keep(self.store, decoded.dead_letters)
        report = await self.count(decoded.events)
        if decoded.dead_letters:
            log.error("events_dead_lettered count=%d", len(decoded.dead_letters))
        return replace(report, dead_letters=len(decoded.dead_letters))

    def decode(self, messages: Sequence[Message]) -> Decoded:
        """Decode the messages by the rules that apply now."""
        return decode(messages, now=self.clock.now(), retention=self.retention)

    async def count(self, events: Sequence[Countable]) -> BatchReport:
        """Count events and update the views. Raises StorageUnavailable."""
        # First, so that every subject with a sum has a row: the sweep searches these rows.
        await self.subjects.record(event for event in events if isinstance(event, UsageEvent))
        counted = await self._commit(events)
        await self.views.write(row for part in counted for row in part.sums)
        return BatchReport(
            new_calls=sum(part.new_calls for part in counted),
            repeated_calls=sum(part.repeated_calls for part in counted),
        )

    async def _commit(self, events: Sequence[Countable]) -> list[Committed]:
        groups: defaultdict[tuple[str, Window], list[Countable]] = defaultdict(list)
        for event in events:
            groups[event.subject, window_of(event.time, Period.MONTH)].append(event)
        limit = asyncio.Semaphore(MAX_CONCURRENT_COMMITS)

        async def commit(subject: str, month: Window, group: list[Countable]) -> Committed:
            async with limit:
                return await self.committer.commit(subject, month, group)

        try:
            async with asyncio.TaskGroup() as tasks:
                commits = [
                    tasks.create_task(commit(subject, month, group))
                    for (subject, month), group in groups.items()
                ]
        except* StorageUnavailable as outages:
            # One outage is enough to report: the whole batch is delivered again.
            raise StorageUnavailable(str(outages.exceptions[0])) from outages
        return [task.result() for task in commits]
