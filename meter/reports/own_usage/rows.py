"""Reads the view rows of one subject: a range of keys in a window's partition, or in one of its shards.

Row keys begin with the escaped subject and a bar, which no escaped text contains, so the range holds no
other subject's rows; each row is checked once more nevertheless.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from meter.bucket import bucket_of
from meter.ledger.keys import LAST_KEY, escape, view_partition, view_subject_key
from meter.ledger.rows import Place
from meter.ledger.views.shards import Shards
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Clock, Row, RowStore
from meter.window import Window

PARTITIONS_AT_ONCE = 8

type Found = tuple[Row, Place]


@dataclass(slots=True, kw_only=True)
class SubjectRows:
    """Reads the rows of single subjects. One event loop owns it."""

    store: RowStore
    clock: Clock
    _shards: Shards = field(init=False)

    def __post_init__(self) -> None:
        self._shards = Shards(self.store, self.clock)

    async def read(self, subject: str, windows: Sequence[Window]) -> list[list[Found]]:
        """The subject's rows of each window. Raises StorageUnavailable."""
        await self._shards.read()
        limit = asyncio.Semaphore(PARTITIONS_AT_ONCE)

        async def read(window: Window) -> list[Found]:
            async with limit:
                return await self._read(subject, window)

        reads = [asyncio.create_task(read(window)) for window in windows]
        try:
            return await asyncio.gather(*reads)  # a TaskGroup would wrap what storage says
        finally:
            for each in reads:
                each.cancel()
            await asyncio.gather(*reads, return_exceptions=True)

    async def _read(self, subject: str, window: Window) -> list[Found]:
        table, key, count = VIEW_TABLES[window.period], escape(subject), self._shards.count(window)
        partition = view_partition(window, None if count == 1 else bucket_of(subject) % count)
        rows = self.store.scan(
            table,
            first_partition=partition,
            last_partition=partition,
            first_key=f"{key}|",
            last_key=f"{key}|{LAST_KEY}",
        )
        return [
            (row, Place(table, partition, row.key))
            async for _, row in rows
            if view_subject_key(row.key) == key and row.columns.get("Subject") == subject
        ]
