"""Shows sums that a crash left unshown, where no redelivery came to do it.

The aggregator shows a sum right after it has committed it. If it dies in between, the hub delivers
the batch again, and the sums are shown then. The sweep is for the case that the hub cannot: every
few minutes it shows the recent sums of the subjects that called in the last hours. What is shown
already stays as it is.
"""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter.ledger.decode import MAX_AHEAD
from meter.ledger.keys import ledger_table, sums_since
from meter.ledger.rows import SumRow, read_sum_row
from meter.ledger.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ledger.view import ViewWriter
from meter.ports import Clock, RowStore
from meter.window import Period, window_of

LOOK_BACK = timedelta(hours=3)
# A sum to which calls are still added is shown with the next of them; the sweep leaves it alone.
QUIET = timedelta(minutes=2)
SUMS_AT_ONCE = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Shows recent sums again."""

    store: RowStore
    clock: Clock

    async def run(self) -> int:
        """Sweep once; how many view rows were repaired. Raises StorageUnavailable."""
        now = self.clock.now()
        views = ViewWriter(self.store)  # a new one: what an older one remembers may be gone
        repaired = 0
        waiting: list[SumRow] = []
        async for row in self._quiet_sums(now):
            waiting.append(row)
            if len(waiting) == SUMS_AT_ONCE:
                repaired += await views.write(waiting)
                waiting = []
        repaired += await views.write(waiting)
        if repaired:
            log.warning("views_repaired rows=%d", repaired)
        return repaired

    async def _quiet_sums(self, now: datetime) -> AsyncIterator[SumRow]:
        since = now - LOOK_BACK
        months = {window_of(moment, Period.MONTH) for moment in (since, now, now + MAX_AHEAD)}
        async for partition in self._subjects_seen(since):
            for month in sorted(months):
                first, last = sums_since(window_of(since, Period.HOUR), month)
                rows = self.store.scan(
                    ledger_table(month),
                    first_partition=partition,
                    last_partition=partition,
                    first_key=first,
                    last_key=last,
                )
                async for _, row in rows:
                    total = read_sum_row(partition, row)
                    last_call_at = total.sums.last_call_at
                    if last_call_at is not None and last_call_at <= now - QUIET:
                        yield total

    async def _subjects_seen(self, since: datetime) -> AsyncIterator[str]:
        rows = self.store.scan(
            SUBJECTS_TABLE, first_partition=SUBJECTS_PARTITION, last_partition=SUBJECTS_PARTITION
        )
        async for _, row in rows:
            last_seen = row.columns.get("LastSeen")
            if isinstance(last_seen, datetime) and last_seen >= since:
                yield row.key
