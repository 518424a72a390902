"""The rows of sums as this process knows them: remembered, else read.

A row that is not remembered is taken for new, which costs nothing where it is: the insert proves it.
Where it is not, the transaction fails as a whole, and the rows are read: one by one where they are
few, by window where they are many. What is remembered may be outdated: every write is conditional.
"""

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import suppress

from meter.errors import LedgerDamaged
from meter.ledger.keys import SumKey, sums_of_window
from meter.ledger.marks import Place
from meter.ledger.memory import MOST_KNOWN_BYTES, Memory
from meter.ledger.packing.adding import Change
from meter.ledger.packing.packed import Known, Packed, packed_row, read_packed, two_places
from meter.ledger.packing.scanning import rows_between, rows_since, sums_since_in
from meter.ledger.rows import SumRow
from meter.ports import Row, RowStore
from meter.window import Window

# Objects in CPython 3.13: of a row without its name, and of a sum in it, whose counts are mostly 0.
_ROW_BYTES, _SUM_BYTES = 350, 680
# Fewer sums of a window are read one by one, in parallel. A query reads so many rows of a window in the
# time of one such read.
SUMS_BY_RANGE, ROWS_A_READ = 8, 50


log = logging.getLogger(__name__)


class KnownSums:
    """Reads sums and remembers them."""

    def __init__(self, store: RowStore, most_bytes: int = MOST_KNOWN_BYTES) -> None:
        self._store = store
        self._known: Memory[SumKey, Known] = Memory(most_bytes, _size)
        self._rows: dict[tuple[Place, Window], int] = {}  # when they were read by range last

    @property
    def recall(self) -> Callable[[SumKey], Known | None]:
        """What gives a row, if it is remembered."""
        return self._known.get

    def remembered(self, keys: Iterable[SumKey]) -> dict[SumKey, Known]:
        """Those of the rows that are remembered."""
        get = self._known.get
        return {key: known for key in keys if (known := get(key)) is not None}

    async def known(
        self, place: Place, keys: Collection[SumKey], *, reads: bool
    ) -> dict[SumKey, Known]:
        """Those of the rows that are remembered, and if it `reads` the others that are stored."""
        found = self.remembered(keys)
        if reads:
            found |= await self.read(place, [key for key in keys if key not in found])
        return found

    async def read(self, place: Place, keys: Iterable[SumKey]) -> dict[SumKey, Known]:
        """Those of the rows that are stored, as they are now. Raises StorageUnavailable, LedgerDamaged."""
        by_window: defaultdict[Window, list[SumKey]] = defaultdict(list)
        for key in keys:
            by_window[key.window].append(key)
        reads = (self._read_window(place, window, of) for window, of in by_window.items())
        found: dict[SumKey, Known] = {}
        for part in await asyncio.gather(*reads):
            found |= part
        return found

    async def can_close(self, place: Place, change: Change) -> bool:
        """Whether what is to be closed has no row of its own; if it has, another may have closed it.

        Raises LedgerDamaged if it has one and is open, too, and StorageUnavailable.
        """
        closed = await self.read(place, [row.key for row in change.closed])
        if not closed:
            return True
        opened = {key: SumKey(key.window.month, key.dimensions) for key in closed}
        before = {packed.row.key: known for packed, known in change.months}
        now = await self.read(place, set(opened.values()))  # again, and after the row
        for key, month in opened.items():
            if _etag(before[month]) == _etag(now.get(month)):
                raise two_places(place[1], month.row_key, key.window)
        return False

    async def stored(self, place: Place, keys: Iterable[SumKey]) -> list[SumRow]:
        """The sums of these keys, and others of their rows; damage is logged. Raises StorageUnavailable."""
        wanted = set(keys)
        # Of months first: what is open there, and closed meanwhile, is missed in no other order.
        months = {SumKey(key.window.month, key.dimensions) for key in wanted}
        sums = [each for row in await self._sound(place, months) for each in row.sums()]
        others = wanted - months - {row.key for row in sums}
        sums += [row.row for row in await self._sound(place, others)]
        return sums

    async def read_since(self, place: Place, first: Window, month: Window) -> list[SumRow]:
        """All sums of the place from a window on. Raises StorageUnavailable."""
        found = []
        async for row in rows_since(self._store, place, first, month):
            with suppress(LedgerDamaged, ValueError):
                self._remember(row, read_packed(place[1], row))
            found += sums_since_in(place, row, first)
        return found

    def put(self, rows: Iterable[tuple[Packed, str]]) -> None:
        """Remember rows that were written, with their etags."""
        for packed, etag in rows:
            self._known.put(packed.row.key, Known(etag, packed))

    def forget(self, keys: Iterable[SumKey]) -> None:
        """Do not trust what is remembered of these rows."""
        self._known.drop_all(keys)

    async def _sound(self, place: Place, keys: Collection[SumKey]) -> list[Packed]:
        """What is in these rows, less those that are damaged."""
        try:
            return [known.packed for known in (await self.read(place, keys)).values()]
        except LedgerDamaged as exc:
            if len(keys) == 1:
                log.error("sum_damaged table=%s reason=%s", place[0], exc)
                return []
        return [packed for key in keys for packed in await self._sound(place, [key])]

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
            found[key] = self._remember(row, packed_row(key, row))
        return found

    async def _read_range(
        self, place: Place, window: Window, wanted: Collection[str]
    ) -> dict[str, Row]:
        """The wanted rows; the others of the window are remembered, since they are wanted next."""
        count = 0
        found: dict[str, Row] = {}
        async for row in rows_between(self._store, place, *sums_of_window(window)):
            count += 1
            if row.key in wanted:
                found[row.key] = row
            else:
                with suppress(LedgerDamaged, ValueError):  # told when it is wanted
                    self._remember(row, read_packed(place[1], row))
        self._rows[place, window] = count
        return found

    def _remember(self, row: Row, packed: Packed) -> Known:
        assert row.etag is not None, "a stored row has an etag"
        known = Known(row.etag, packed)
        self._known.put(packed.row.key, known)
        return known


def _etag(known: Known | None) -> str | None:
    return None if known is None else known.etag


def _size(key: SumKey, known: Known) -> int:
    sums = 1 if known.packed.hour is None else 3
    return _ROW_BYTES + sums * _SUM_BYTES + len(key.dimensions.name)
