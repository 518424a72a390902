"""Drops ledgers in which no call can be counted any more; the views keep their totals.

The aggregator refuses events older than the retention. Once a month has ended longer ago than that,
nothing is added to its ledger, and its markers detect no repeats any more.
"""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta

from meter.ledger.keys import LEDGER_PREFIX, ledger_month
from meter.ports import Clock, Tables
from meter.window import Window

# Covers batches that were read a moment before, and clocks that differ.
MARGIN = timedelta(days=1)

log = logging.getLogger(__name__)


def is_over(month: Window, *, now: datetime, retention: timedelta) -> bool:
    """Whether no event of the month can be accepted any more, by any aggregator."""
    return now - month.end > retention + MARGIN


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Drops old ledgers."""

    tables: Tables
    clock: Clock
    retention: timedelta

    async def run(self) -> list[str]:
        """Drop the ledgers that are over; gives their names. Raises StorageUnavailable."""
        now = self.clock.now()
        dropped = []
        for table in await self.tables.names(LEDGER_PREFIX):
            month = ledger_month(table)
            if month is not None and is_over(month, now=now, retention=self.retention):
                await self.tables.drop(table)
                log.info("ledger_dropped table=%s", table)
                dropped.append(table)
        return dropped
