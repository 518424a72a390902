"""Which months a command may count in: none whose ledger was dropped.

A new ledger of such a month would begin at 0 and know no call that was counted before. The views
outlive the ledger, so a month with views and without a ledger was dropped.
"""

from dataclasses import dataclass
from datetime import datetime

from meter.ledger.keys import LEDGER_PREFIX, ledger_month, ledger_table, view_range
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import RowStore, Tables
from meter.window import Period, Window


async def standing_months(tables: Tables) -> list[Window]:
    """The months whose ledgers exist, in order. Raises StorageUnavailable."""
    months = map(ledger_month, await tables.names(LEDGER_PREFIX))
    return sorted(month for month in months if month is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """Says whether a month's ledger was dropped."""

    store: RowStore
    tables: Tables

    async def refusal(self, month: Window, now: datetime) -> str | None:
        """Why nothing can be counted in the month; None if it can. Raises StorageUnavailable."""
        if month.end > now or month in await standing_months(self.tables):
            return None
        first, last = view_range(month, month)
        shown = self.store.scan(
            VIEW_TABLES[Period.MONTH], first_partition=first, last_partition=last, columns=()
        )
        async for _ in shown:
            return (
                f"{ledger_table(month)} was dropped after its retention: a call of {month.name} "
                "that was counted before would be counted again"
            )
        return None
