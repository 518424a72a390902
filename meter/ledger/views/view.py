"""Writes the views: absolute totals across subjects, copied from the ledger after its commit.

| table        | partition       | row key                                | columns                  |
|--------------|-----------------|----------------------------------------|--------------------------|
| UsageByHour  | `2026-11-23T07` | the dimensions, joined by `|`          | see `rows.py`            |
| UsageByDay   | `2026-11-23`    | the same                               | the same                 |
| UsageByMonth | `2026-11`       | the same                               | the same                 |

Where a window has many rows, its partitions are `2026-11~00`, `2026-11~01` and so on (`shards.py`).

View rows are replaced, never added to. Each carries the revision of its ledger row and only a higher
revision replaces it, so a late or repeated copy changes nothing and no total ever goes back. What
this process remembers of a view row may be used to write it, never to skip it: a repair may have
given the sum and its view another revision. When a copy is made is `showing.py`'s matter.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import batched

from meter.ledger.optimistic import (
    MAX_KNOWN_BYTES,
    MAX_TRANSACTION_ROWS,
    ROWS_BY_RANGE,
    OptimisticRows,
)
from meter.ledger.rows import SumColumns, SumRow, read_revision
from meter.ledger.views.shards import Shards
from meter.ports import Row, RowStore
from meter.window import Period, Window

VIEW_TABLES = {Period.HOUR: "UsageByHour", Period.DAY: "UsageByDay", Period.MONTH: "UsageByMonth"}


class ViewWriter:
    """Writes the views."""

    def __init__(
        self, store: RowStore, shards: Shards, most_known_bytes: int = MAX_KNOWN_BYTES
    ) -> None:
        self._shards = shards
        self._rows = OptimisticRows(
            store=store,
            remembers=("Revision", "WindowStart"),
            values_of=_shown,
            asks_before_skipping=True,
            expects_new=True,
            most_bytes=most_known_bytes,
        )
        self._added: defaultdict[Window, int] = defaultdict(int)

    async def write(self, rows: Iterable[SumRow]) -> int:
        """Copy the sums to their views; gives the number of rows written. Raises StorageUnavailable."""
        windows = _by_window(rows)
        return sum(await asyncio.gather(*(self.write_window(*of) for of in windows.items())))

    async def write_window(self, window: Window, rows: Sequence[SumRow]) -> int:
        """The same for sums of one window."""
        await self._shards.read()
        places = self._shards.split(window, rows)
        written = await asyncio.gather(*(self._write(window, *of) for of in places.items()))
        await self._shards.note_rows(window, self._added[window])
        return sum(written)

    async def learn(self, rows: Iterable[SumRow]) -> None:
        """Read the view rows of these sums by partition where they are many, before they are written.

        For a process that has not written them itself. Raises StorageUnavailable.
        """
        await self._shards.read()
        for window, of in _by_window(rows).items():
            for partition, some in self._shards.split(window, of).items():
                if len(some) >= ROWS_BY_RANGE:
                    await self._rows.learn(VIEW_TABLES[window.period], partition)

    async def _write(self, window: Window, partition: str, rows: Sequence[SumRow]) -> int:
        written = 0
        latest = {row.key.view_row_key: row for row in rows}
        for some in batched(latest.items(), MAX_TRANSACTION_ROWS, strict=False):
            part = dict(some)
            table = VIEW_TABLES[window.period]
            build = partial(_newer, part)
            changed = await self._rows.change(table, partition, list(part), build)
            written += len(changed)
            self._added[window] += len([row for row in changed if row.etag is None])
        return written


def _by_window(rows: Iterable[SumRow]) -> Mapping[Window, Sequence[SumRow]]:
    windows: defaultdict[Window, list[SumRow]] = defaultdict(list)
    for row in rows:
        windows[row.key.window].append(row)
    return windows


def _newer(rows: Mapping[str, SumRow], stored: Mapping[str, Row]) -> list[Row]:
    """The rows that are missing from the view or newer than there."""
    found = []
    for key, row in rows.items():
        before = stored.get(key)
        if before is None:
            columns = SumColumns(row, of_key=True, with_zeros=True)
            found.append(Row(key=key, columns=columns))
        elif read_revision(before.columns) < row.revision:
            is_whole = "WindowStart" in before.columns  # or somebody else made it
            columns = SumColumns(row, of_key=not is_whole, with_zeros=not is_whole)
            found.append(Row(key=key, columns=columns, etag=before.etag))
    return found


def _shown(columns: Mapping[str, object]) -> tuple[object, ...]:
    """The revision, and whether there is a window's start: there is in a row that was written here."""
    if type(columns) is SumColumns:
        return columns.row.revision, True
    return columns.get("Revision"), columns.get("WindowStart")
