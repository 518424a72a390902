"""Changes rows that have other writers: read, build, write if unchanged, retry after a conflict.

Rows that were read or written last are remembered, so in a steady stream a change costs one
transaction and no read. Every write is conditional on the etag: an outdated memory costs a conflict,
never a wrong row. Where memory says that there is nothing to write, no etag is checked: storage is
asked before a row is skipped (`asks_before_skipping`), since repairs may have changed it.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meter.errors import MeterError, StorageUnavailable
from meter.ports import Conflict, Row, RowStore

MAX_TRANSACTION_ROWS = 100  # the limit of 4 MiB is out of reach: our rows are under 4 KB each
MAX_CONFLICTS = 10
MAX_KNOWN_ROWS = 20_000  # 1 to 2 KB each


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed[T]:
    """A change that was made: of which items, what it wrote, and the rows under its keys now."""

    items: T
    written: Sequence[Row]
    stored: Mapping[str, Row]


@dataclass(slots=True, kw_only=True)
class OptimisticRows:
    """Changes rows of one kind. `remembers` names the columns that builders read; None means all."""

    store: RowStore
    remembers: frozenset[str] | None = None
    asks_before_skipping: bool = False
    most_known: int = MAX_KNOWN_ROWS
    _known: OrderedDict[tuple[str, str, str], Row] = field(default_factory=OrderedDict)

    async def change[T](
        self,
        table: str,
        partition: str,
        keys: Sequence[str],
        items: T,
        build: Callable[[T, Mapping[str, Row]], Sequence[Row]],
        *,
        after_conflict: Callable[[T], Awaitable[T]] | None = None,
        creates_table: bool = True,
    ) -> Changed[T]:
        """Write in one transaction what `build` makes of `items` and the rows stored under `keys`.

        A built row with an etag is an update, one without is an insert; when none is built, nothing
        is written. After a conflict `after_conflict` says which items are still to be written; only
        then are the rows read again. Raises StorageUnavailable, also when conflicts do not end,
        TableMissing if the table is missing and may not be created, and what `build` raises.
        """
        try:
            return await self._change(
                table, partition, keys, items, build, after_conflict, creates_table
            )
        except MeterError:
            self.forget(table, partition, keys)
            raise

    def forget(self, table: str, partition: str, keys: Iterable[str]) -> None:
        """Read these rows from storage next time."""
        for key in keys:
            self._known.pop((table, partition, key), None)

    async def _change[T](
        self,
        table: str,
        partition: str,
        keys: Sequence[str],
        items: T,
        build: Callable[[T, Mapping[str, Row]], Sequence[Row]],
        after_conflict: Callable[[T], Awaitable[T]] | None,
        creates_table: bool,
    ) -> Changed[T]:
        for _ in range(MAX_CONFLICTS):
            known = {key for key in keys if (table, partition, key) in self._known}
            stored = await self._stored(table, partition, keys)
            rows = build(items, stored)
            if self.asks_before_skipping and (unsure := known - {row.key for row in rows}):
                self.forget(table, partition, unsure)
                stored = await self._stored(table, partition, keys)
                rows = build(items, stored)
            written: Mapping[str, Row] | None = {}
            if rows:
                written = await self._write(table, partition, keys, rows, creates_table)
            if written is not None:
                return Changed(items=items, written=rows, stored={**stored, **written})
            if after_conflict is not None:
                items = await after_conflict(items)
        raise StorageUnavailable(f"{table}: {MAX_CONFLICTS} conflicts in a row in one partition")

    async def _stored(self, table: str, partition: str, keys: Sequence[str]) -> dict[str, Row]:
        known = self._known
        stored = {k: known[table, partition, k] for k in keys if (table, partition, k) in known}
        unknown = [key for key in keys if key not in stored]
        if unknown:
            found = await self.store.read(table, partition, unknown)
            self._remember(table, partition, found.values())
            stored |= found
        return stored

    async def _write(
        self,
        table: str,
        partition: str,
        keys: Sequence[str],
        rows: Sequence[Row],
        creates_table: bool,
    ) -> dict[str, Row] | None:
        insert = [row for row in rows if row.etag is None]
        update = [row for row in rows if row.etag is not None]
        result = await self.store.write(
            table, partition, insert=insert, update=update, creates_table=creates_table
        )
        if isinstance(result, Conflict):
            self.forget(table, partition, keys)
            return None
        known = set(keys)
        written = {r.key: replace(r, etag=result.etags[r.key]) for r in rows if r.key in known}
        self._remember(table, partition, written.values())
        return written

    def _remember(self, table: str, partition: str, rows: Iterable[Row]) -> None:
        for row in rows:
            self._known[table, partition, row.key] = self._reduced(row)
            self._known.move_to_end((table, partition, row.key))
        while len(self._known) > self.most_known:
            self._known.popitem(last=False)

    def _reduced(self, row: Row) -> Row:
        if self.remembers is None:
            return row
        kept = {name: value for name, value in row.columns.items() if name in self.remembers}
        return Row(key=row.key, columns=kept, etag=row.etag)
