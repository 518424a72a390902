"""The sums of the ledger as this process knows them: remembered, else read.

A sum that is not remembered is taken for new, which costs nothing where it is: the insert proves it.
Where it is not, the transaction fails as a whole, and the sums are read: one by one where they are
few, by window where they are many. What is remembered may be outdated: every write is conditional.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from msgspec import Struct

from meter.errors import LedgerDamaged
from meter.ledger.keys import SumKey, sums_of_window, sums_since
from meter.ledger.marks import Place
from meter.ledger.memory import MOST_KNOWN_BYTES, Memory
from meter.ledger.rows import SumRow, read_sum_row, sum_row
from meter.ports import Row, RowStore
from meter.window import Window

# An entry's objects in CPython 3.13, without its name; most of its counts are 0.
_ENTRY_BYTES = 950
# Fewer sums of a window are read one by one, in parallel. A query reads so many rows of a window in the
# time of one such read.
SUMS_BY_RANGE, ROWS_A_READ = 8, 50


class Known(Struct, frozen=True, gc=False):
    """A stored sum, and the etag of its row."""

    etag: str
    row: SumRow


log = logging.getLogger(__name__)


class KnownSums:
    """Reads sums and remembers them."""

    def __init__(self, store: RowStore, most_bytes: int = MOST_KNOWN_BYTES) -> None:
        self._store = store
        self._known: Memory[SumKey, Known] = Memory(most_bytes, _size)
        self._rows: dict[tuple[Place, Window], int] = {}  # when they were read by range last

    def remembered(self, keys: Iterable[SumKey]) -> dict[SumKey, Known]:
        """Those of the sums that are remembered."""
        get = self._known.get
        return {key: known for key in keys if (known := get(key)) is not None}

    async def read(self, place: Place, keys: Sequence[SumKey]) -> dict[SumKey, Known]:
        """Those of the sums that are stored, as they are now. Raises StorageUnavailable, LedgerDamaged."""
        by_window: defaultdict[Window, list[SumKey]] = defaultdict(list)
        for key in keys:
            by_window[key.window].append(key)
        reads = (self._read_window(place, window, of) for window, of in by_window.items())
        found: dict[SumKey, Known] = {}
        for part in await asyncio.gather(*reads):
            found |= part
        return found

    async def read_since(self, place: Place, first: Window, month: Window) -> list[SumRow]:
        """All sums of the place from a window on. Raises StorageUnavailable."""
        table, partition = place
        first_key, last_key = sums_since(first, month)
        rows = self._store.scan(
            table,
            first_partition=partition,
            last_partition=partition,
            first_key=first_key,
            last_key=last_key,
        )
        found = []
        async for _, row in rows:
            try:
                found.append(self._remember(row, read_sum_row(partition, row)).row)
            except (LedgerDamaged, ValueError) as exc:
                log.error("sum_damaged table=%s reason=%s", table, exc)
        return found

    def put(self, rows: Iterable[SumRow], etags: Iterable[str]) -> None:
        """Remember sums that were written, and the etags of their rows."""
        for row, etag in zip(rows, etags, strict=True):
            self._known.put(row.key, Known(etag, row))

    def forget(self, keys: Iterable[SumKey]) -> None:
        """Do not trust what is remembered of these sums."""
        self._known.drop_all(keys)

    async def _read_window(
        self, place: Place, window: Window, keys: Sequence[SumKey]
    ) -> dict[SumKey, Known]:
        table, partition = place
        by_row_key = {key.row_key: key for key in keys}
        expected = self._rows.get((place, window), 0)
        if len(keys) >= max(SUMS_BY_RANGE, expected // ROWS_A_READ):
            stored: Mapping[str, Row] = await self._read_range(place, window, by_row_key.keys())
        else:
            stored = await self._store.read(table, partition, list(by_row_key))
        found = {}
        for row_key, row in stored.items():
            key = by_row_key[row_key]
            found[key] = self._remember(row, sum_row(key, row.columns))
        return found

    async def _read_range(
        self, place: Place, window: Window, wanted: Collection[str]
    ) -> dict[str, Row]:
        """The wanted rows; the others of the window are remembered, since they are wanted next."""
        count = 0
        table, partition = place
        first, last = sums_of_window(window)
        rows = self._store.scan(
            table,
            first_partition=partition,
            last_partition=partition,
            first_key=first,
            last_key=last,
        )
        found: dict[str, Row] = {}
        async for _, row in rows:
            count += 1
            if row.key in wanted:
                found[row.key] = row
            else:
                with suppress(LedgerDamaged, ValueError):  # told when it is wanted
                    self._remember(row, read_sum_row(partition, row))
        self._rows[place, window] = count
        return found

    def _remember(self, row: Row, value: SumRow) -> Known:
        assert row.etag is not None, "a stored row has an etag"
        known = Known(row.etag, value)
        self._known.put(value.key, known)
        return known


def _size(key: SumKey, _: Known) -> int:
    return _ENTRY_BYTES + len(key.dimensions.name)
