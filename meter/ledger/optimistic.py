"""Changes rows that others change too: read, build, write if unchanged, after a conflict once more.

What was read or written last is remembered, so that a steady stream of changes costs one
transaction each and no read. Every write is on condition of the etag: a wrong memory costs a
conflict, never a wrong row.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from meter.errors import StorageUnavailable
from meter.ports import Conflict, Row, RowStore

MAX_TRANSACTION_ROWS = 100  # and 4 MiB, which 100 rows of ours (under 4 KB each) never reach
MAX_CONFLICTS = 10
MAX_KNOWN_ROWS = 20_000  # 1 to 2 KB each


@dataclass(slots=True, kw_only=True)
class OptimisticRows:
    """Changes rows of one kind. `remembers` names the columns that builders look at; None is all."""

    store: RowStore
    remembers: frozenset[str] | None = None
    most_known: int = MAX_KNOWN_ROWS
    _known: OrderedDict[tuple[str, str, str], Row] = field(default_factory=OrderedDict)

    async def change(
        self,
        table: str,
        partition: str,
        keys: Sequence[str],
        build: Callable[[Mapping[str, Row]], Sequence[Row]],
        *,
        after_conflict: Callable[[], Awaitable[None]] | None = None,
    ) -> Mapping[str, Row]:
        """Write in one transaction what `build` makes of the rows that are stored under `keys`.

        A built row with an etag is an update, one without an insert; when none is built nothing is
        written. Gives the rows under `keys` as they are then. `after_conflict` runs before the rows
        are read again. Raises StorageUnavailable, also when conflicts do not end.
        """
        for _ in range(MAX_CONFLICTS):
            stored = await self._stored(table, partition, keys)
            rows = build(stored)
            if not rows:
                return stored
            written = await self._write(table, partition, keys, rows)
            if written is not None:
                return {**stored, **written}
            if after_conflict is not None:
                await after_conflict()
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
        self, table: str, partition: str, keys: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Row] | None:
        try:
            result = await self.store.write(
                table,
                partition,
                insert=[row for row in rows if row.etag is None],
                update=[row for row in rows if row.etag is not None],
            )
        except StorageUnavailable:
            self._forget(table, partition, keys)
            raise
        if isinstance(result, Conflict):
            self._forget(table, partition, keys)
            return None
        asked = set(keys)
        written = {r.key: replace(r, etag=result.etags[r.key]) for r in rows if r.key in asked}
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

    def _forget(self, table: str, partition: str, keys: Sequence[str]) -> None:
        for key in keys:
            self._known.pop((table, partition, key), None)
