"""Repairs views that miss sums after a crash, where no redelivery has done so.

The aggregator writes a sum to its view right after the commit. If it dies in between, the hub
delivers the batch again, and the view is written then. The sweep covers the case in which the hub
cannot: every few minutes it writes the recent sums of the subjects that called in the last hours.
View rows that are up to date stay as they are.
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
# A sum that still grows is written with its next call; the sweep skips it.
QUIET = timedelta(minutes=2)
SUMS_AT_ONCE = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Writes recent sums to the views again."""

    store: RowStore
    clock: Clock

    async def run(self) -> int:
        """Sweep once; gives the number of view rows repaired. Raises StorageUnavailable."""
        now = self.clock.now()
        # A new one, since rows that an older one remembers may be gone.
        views = ViewWriter(self.store)
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
