"""Rebuilds a month: checks the ledger against its markers and makes the views equal to the ledger.

Ledger partitions are checked some at a time, since reads wait for the network. After each group of
them the views are compared with their sums: a view partition has rows of all, and is read once for
a group. A group has all partitions of a small month, a quarter of them where there are many sums. A
rebuild that was interrupted goes on with the first group that was not finished.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import batched

from meter.errors import LedgerMissing
from meter.ledger.keys import LEDGER_PARTITIONS, escape, ledger_partition, ledger_table
from meter.ledger.views.shards import Shards
from meter.ports import Clock, RowStore, Tables
from meter.upkeep.audit import Audit, Audited
from meter.upkeep.comparison import MOST_KEPT, Comparison
from meter.upkeep.differences import LEDGER_KINDS, Difference, Kind
from meter.upkeep.restore import ViewRepair
from meter.upkeep.share import Share
from meter.window import Window

LARGE_GROUP = 16
# A partition's sums are in memory while it is checked.
PARTITIONS_AT_ONCE = 4


@dataclass(slots=True, kw_only=True)
class Summary:
    """What was checked, and how many rows of each kind were wrong."""

    subjects: int = 0
    calls: int = 0
    sums: int = 0
    found: Counter[Kind] = field(default_factory=Counter)
    repaired: Counter[Kind] = field(default_factory=Counter)
    kept: int = 0
    """View rows that stay although the ledger has fewer calls."""

    def add(self, share: Share) -> None:
        """Count what was checked."""
        self.subjects += len(share.subjects)
        self.calls += share.calls
        self.sums += len(share.sums)

    def note(self, difference: Difference) -> None:
        """Count what was wrong."""
        self.found[difference.kind] += 1
        self.repaired[difference.kind] += difference.is_repaired
        self.kept += difference.is_kept

    @property
    def is_sound(self) -> bool:
        """Whether the ledger was right, and the views are right now."""
        return self.found == self.repaired and not LEDGER_KINDS & self.found.keys()


@dataclass(slots=True, kw_only=True)
class Progress:
    """How far a rebuild has come: `checked` of `partitions`, `finished` with their views."""

    partitions: Sequence[str]
    calls: int = 0
    checked: int = 0
    finished: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """Rebuilds one month, or some ledger partitions of it; a dry run writes nothing.

    With a `subject`, only its markers, sums and view rows are looked at.

    A view row with more calls than the ledger may be all that is left of them: a ledger can be an
    older copy, or begun anew. Unless it `prunes`, no view row is removed and none gets fewer calls.
    """

    store: RowStore
    tables: Tables
    clock: Clock
    month: Window
    partitions: Sequence[str] = LEDGER_PARTITIONS
    subject: str | None = None
    is_dry_run: bool = False
    repairs_ledger: bool = False
    prunes: bool = False
    most_kept: int = MOST_KEPT

    async def run(
        self,
        report: Callable[[Difference], None],
        show: Callable[[Progress], None] = lambda _: None,
    ) -> Summary:
        """Check and repair; `report` gets each difference, and `show` often how far it is.

        Raises LedgerMissing when there is nothing to rebuild from, and StorageUnavailable.
        """
        table = ledger_table(self.month)
        if table not in await self.tables.names(table):
            raise LedgerMissing(f"there is no table {table}")
        summary = Summary()

        def note(difference: Difference) -> None:
            summary.note(difference)
            report(difference)

        one = None if self.subject is None else [ledger_partition(self.subject)]
        progress = Progress(partitions=one or self.partitions)
        shards = Shards(self.store, self.clock)
        comparison = self._comparison(shards)
        for some in batched(progress.partitions, PARTITIONS_AT_ONCE, strict=False):
            for audited in await self._check(some, progress, show):
                summary.add(audited.share)
                comparison.add(audited)
                for difference in audited.differences:
                    note(difference)
            group = progress.checked - progress.finished
            is_last = progress.checked == len(progress.partitions)
            if is_last or (comparison.is_large and group >= LARGE_GROUP):
                async for difference in comparison.run():
                    note(difference)
                    show(progress)
                progress.finished = progress.checked
                comparison = self._comparison(shards)
            show(progress)
        return summary

    async def _check(
        self, partitions: Sequence[str], progress: Progress, show: Callable[[Progress], None]
    ) -> list[Audited]:
        audit = Audit(
            store=self.store,
            month=self.month,
            repairs=self.repairs_ledger and not self.is_dry_run,
            only=None if self.subject is None else {escape(self.subject)},
        )

        def count(calls: int) -> None:
            progress.calls += calls
            show(progress)

        async def check(partition: str) -> Audited:
            audited = await audit.check(partition, count)
            progress.checked += 1
            return audited

        tasks = [asyncio.create_task(check(partition)) for partition in partitions]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _comparison(self, shards: Shards) -> Comparison:
        return Comparison(
            store=self.store,
            shards=shards,
            month=self.month,
            repair=ViewRepair(
                store=self.store,
                tables=self.tables,
                month=self.month,
                is_dry_run=self.is_dry_run,
                keeps=not self.prunes,
            ),
            subject=None if self.subject is None else escape(self.subject),
            most_kept=self.most_kept,
        )
