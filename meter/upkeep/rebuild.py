"""Rebuilds a month: checks the ledger against its markers and makes the views equal to the ledger.

The ledger is read once, one subject after the other; only one subject's sums are in memory.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from meter.errors import LedgerMissing
from meter.ledger.keys import ledger_table
from meter.ports import RowStore, Tables
from meter.upkeep.audit import Audit, read_shares
from meter.upkeep.differences import LEDGER_KINDS, Difference, Kind
from meter.upkeep.restore import ViewRestorer
from meter.window import Window


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

    @property
    def is_sound(self) -> bool:
        """Whether the ledger was right, and the views are right now."""
        return self.found == self.repaired and not LEDGER_KINDS & self.found.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuild:
    """Rebuilds one month; a dry run writes nothing.

    A view row with more calls than the ledger may be all that is left of them: a ledger can be an
    older copy, or begun anew. Unless it `prunes`, no view row is removed and none gets fewer calls.
    """

    store: RowStore
    tables: Tables
    month: Window
    is_dry_run: bool = False
    repairs_ledger: bool = False
    prunes: bool = False

    async def run(self, report: Callable[[Difference], None]) -> Summary:
        """Check and repair; `report` gets each difference as it is found.

        Raises LedgerMissing when there is nothing to rebuild from, and StorageUnavailable.
        """
        table = ledger_table(self.month)
        if table not in await self.tables.names(table):
            raise LedgerMissing(f"there is no table {table}")
        summary = Summary()

        def note(difference: Difference) -> None:
            summary.found[difference.kind] += 1
            summary.repaired[difference.kind] += difference.is_repaired
            summary.kept += difference.is_kept
            report(difference)

        repairs = self.repairs_ledger and not self.is_dry_run
        audit = Audit(store=self.store, month=self.month, repairs=repairs)
        restorer = ViewRestorer(
            store=self.store,
            tables=self.tables,
            month=self.month,
            is_dry_run=self.is_dry_run,
            keeps=not self.prunes,
        )
        async for read in read_shares(self.store, self.month):
            audited = await audit.check(read)
            share = audited.share
            summary.subjects += 1
            summary.calls += share.calls
            summary.sums += len(share.sums)
            shown = await restorer.restore(share.partition, share.sums, damaged=audited.damaged)
            for difference in (*audited.differences, *shown):
                note(difference)
        async for difference in restorer.prune():
            note(difference)
        return summary
