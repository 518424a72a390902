"""Repairs views that miss sums after a crash, where no redelivery has done so.

The aggregator writes a sum to its view right after the commit. If it dies in between, the hub
delivers the batch again, and the view is written then. The sweep covers the cases in which the hub
cannot, adjustments among them: every few minutes it writes the recent sums of the subjects that
called or were adjusted in the last hours. View rows that are up to date stay as they are.
"""

import asyncio
import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter.errors import LedgerDamaged
from meter.ledger.decode import MAX_AHEAD
from meter.ledger.keys import ledger_table, sums_since
from meter.ledger.rows import SumRow, read_sum_row
from meter.ledger.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ledger.view import ViewWriter
from meter.ports import Clock, RowStore, Tables
from meter.upkeep.standing import standing_months
from meter.window import Period, Window, window_of

LOOK_BACK = timedelta(hours=3)
# A sum that still grows is written with its next call; the sweep skips it.
QUIET = timedelta(minutes=2)
SUBJECTS_AT_ONCE = 16
SUMS_AT_ONCE = 500

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ranges:
    """From which hour on each month's sums are looked at, and up to which moment they are quiet."""

    recent: dict[Window, Window]
    whole: dict[Window, Window]
    quiet_since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Sweep:
    """Writes recent sums to the views again."""

    store: RowStore
    tables: Tables
    clock: Clock

    async def run(self) -> int:
        """Sweep once; gives the number of view rows repaired. Raises StorageUnavailable."""
        since = self.clock.now() - LOOK_BACK
        ranges = await self._ranges(since)
        # A new one, since rows that an older one remembers may be gone.
        views = ViewWriter(self.store)
        repaired = 0
        waiting: list[SumRow] = []
        async for subjects in self._subjects(since):
            parts = (
                self._quiet_sums(partition, is_adjusted=is_adjusted, ranges=ranges)
                for partition, is_adjusted in subjects
            )
            for sums in await asyncio.gather(*parts):
                waiting += sums
            if len(waiting) >= SUMS_AT_ONCE:
                repaired += await views.write(waiting)
                waiting = []
        repaired += await views.write(waiting)
        if repaired:
            log.warning("views_repaired rows=%d", repaired)
        return repaired

    async def _ranges(self, since: datetime) -> _Ranges:
        now = since + LOOK_BACK
        months = {window_of(moment, Period.MONTH) for moment in (since, now, now + MAX_AHEAD)}
        hour = window_of(since, Period.HOUR)
        return _Ranges(
            recent=dict.fromkeys(sorted(months), hour),
            # An adjustment counts in any window.
            whole={month: month for month in await standing_months(self.tables)},
            quiet_since=await self.tables.service_time() - QUIET,
        )

    async def _quiet_sums(
        self, partition: str, *, is_adjusted: bool, ranges: _Ranges
    ) -> list[SumRow]:
        found: list[SumRow] = []
        for month, start in (ranges.whole if is_adjusted else ranges.recent).items():
            table = ledger_table(month)
            first, last = sums_since(start, month)
            rows = self.store.scan(
                table,
                first_partition=partition,
                last_partition=partition,
                first_key=first,
                last_key=last,
            )
            async for _, row in rows:
                if row.written_at is not None and row.written_at > ranges.quiet_since:
                    continue
                try:
                    found.append(read_sum_row(partition, row))
                except (LedgerDamaged, ValueError) as exc:
                    log.error("sum_damaged table=%s reason=%s", table, exc)
        return found

    async def _subjects(self, since: datetime) -> AsyncIterator[list[tuple[str, bool]]]:
        """The subjects to look at, some at once, and whether they were adjusted."""
        rows = self.store.scan(
            SUBJECTS_TABLE, first_partition=SUBJECTS_PARTITION, last_partition=SUBJECTS_PARTITION
        )
        some: list[tuple[str, bool]] = []
        async for _, row in rows:
            is_adjusted = _is_since(row.columns.get("AdjustedAt"), since)
            if is_adjusted or _is_since(row.columns.get("LastSeen"), since):
                some.append((row.key, is_adjusted))
            if len(some) == SUBJECTS_AT_ONCE:
                yield some
                some = []
        if some:
            yield some


def _is_since(moment: object, since: datetime) -> bool:
    """Whether it may be; a damaged cell does not keep its subject out."""
    return moment is not None and (not isinstance(moment, datetime) or moment >= since)
