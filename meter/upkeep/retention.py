"""Drops ledgers in which no call can be counted any more; the views keep their totals.

The aggregator refuses events older than the retention. Once a month has ended longer ago than that,
nothing is added to its ledger, and its markers detect no repeats any more.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter.ledger.keys import ledger_table
from meter.ports import Clock, Tables
from meter.upkeep.standing import standing_months
from meter.window import Window

# Covers batches that were read a moment before, and clocks that differ.
MARGIN = timedelta(days=1)
NEWEST_KEPT = 2

log = logging.getLogger(__name__)


def is_over(month: Window, *, now: datetime, retention: timedelta) -> bool:
    """Whether no event of the month can be accepted any more, by any aggregator."""
    return now - month.end > retention + MARGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Drops old ledgers: one per run, and never one of the two newest, whatever a clock shows."""

    tables: Tables
    clock: Clock
    retention: timedelta

    async def run(self) -> str | None:
        """Drop the oldest ledger if it is over; gives its name. Raises StorageUnavailable."""
        months = await standing_months(self.tables)
        if len(months) <= NEWEST_KEPT:
            return None
        # A clock that is ahead would drop a running month: the earlier of two decides.
        now = min(self.clock.now(), await self.tables.service_time())
        if not is_over(months[0], now=now, retention=self.retention):
            return None
        table = ledger_table(months[0])
        await self.tables.drop(table)
        log.info("ledger_dropped table=%s", table)
        return table
