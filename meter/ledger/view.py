"""Writes the views: absolute totals across subjects, copied from the ledger after its commit.

| table        | partition       | row key                                | columns                  |
|--------------|-----------------|----------------------------------------|--------------------------|
| UsageByHour  | `2026-11-23T07` | subject `|` deployment `|` model `|` tier | see `rows.py`         |
| UsageByDay   | `2026-11-23`    | the same                               | the same                 |
| UsageByMonth | `2026-11`       | the same                               | the same                 |

View rows are replaced, never added to. Each carries the revision of its ledger row and only a higher
revision replaces it, so a late or repeated copy changes nothing and no total ever goes back. What
this process remembers of a view row may be used to write it, never to skip it: a repair may have
given the sum and its view another revision. When a copy is made is `showing.py`'s matter.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from itertools import batched

from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ledger.rows import SumRow, read_revision
from meter.ports import Row, RowStore
from meter.window import Period, Window

VIEW_TABLES = {Period.HOUR: "UsageByHour", Period.DAY: "UsageByDay", Period.MONTH: "UsageByMonth"}


class ViewWriter:
    """Writes the views."""

    def __init__(self, store: RowStore) -> None:
        self._rows = OptimisticRows(
            store=store, remembers=frozenset({"Revision"}), asks_before_skipping=True
        )

    async def write(self, rows: Iterable[SumRow]) -> int:
        """Copy the sums to their views; gives the number of rows written. Raises StorageUnavailable."""
        by_window: defaultdict[Window, dict[str, SumRow]] = defaultdict(dict)
        for row in rows:
            by_window[row.key.window][row.key.place.view_row_key] = row
        written = 0
        for window, of_window in by_window.items():
            for some in batched(of_window.items(), MAX_TRANSACTION_ROWS, strict=False):
                part = dict(some)
                table = VIEW_TABLES[window.period]
                changed = await self._rows.change(table, window.name, list(part), part, _newer)
                written += len(changed.written)
        return written


def _newer(rows: Mapping[str, SumRow], stored: Mapping[str, Row]) -> list[Row]:
    """The rows that are missing from the view or newer than there."""
    return [
        Row(key=key, columns=row.columns(), etag=stored[key].etag if key in stored else None)
        for key, row in rows.items()
        if key not in stored or read_revision(stored[key].columns) < row.revision
    ]
