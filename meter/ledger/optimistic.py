"""Changes rows that have other writers: build, write if unchanged, read and retry after a conflict.

Rows that were read or written last are remembered, so in a steady stream a change costs one
transaction and no read. Every write is conditional on the etag: an outdated memory costs a conflict,
never a wrong row. Where memory says that there is nothing to write, no etag is checked: storage is
asked before a row is skipped (`asks_before_skipping`), since repairs may have changed it.

With `expects_new`, rows that are not remembered are taken for new at first; the insert proves it.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from msgspec import Struct

from meter.errors import MeterError, StorageUnavailable
from meter.ledger.memory import RowMemory
from meter.ports import Conflict, Row, RowStore

MAX_TRANSACTION_ROWS = 100  # the limit of 4 MiB is out of reach: our rows are under 4 KB each
MAX_CONFLICTS = 10
MAX_KNOWN_BYTES = 48 * 1024 * 1024
# Objects in CPython 3.13: of a row with its etag, and of a column with its value.
_ROW_BYTES, _COLUMN_BYTES = 250, 30
# With more rows of a partition to read, the whole partition is read instead, unless it is very large. A
# query reads so many rows in the time of one read by key.
ROWS_BY_RANGE, ROWS_A_READ = 20, 50


class _Kept(Struct, frozen=True, gc=False):
    """What is remembered of a row; None stands for a column that it does not have."""

    etag: str | None
    names: tuple[str, ...]
    values: tuple[object, ...]


@dataclass(slots=True, kw_only=True)
class OptimisticRows:
    """Changes rows of one kind. `remembers` names the columns that builders read; None means all.

    `values_of` reads these from columns, or None for one that is not there, faster than by name; of
    columns that are written it gives them all, whichever the row had before.
    """

    store: RowStore
    remembers: tuple[str, ...] | None = None
    values_of: Callable[[Mapping[str, object]], tuple[object, ...]] | None = None
    asks_before_skipping: bool = False
    expects_new: bool = False
    most_bytes: int = MAX_KNOWN_BYTES
    _known: RowMemory[_Kept] = field(init=False)
    _learned: dict[tuple[str, str], int] = field(default_factory=dict)
    """How many rows partitions had when they were learned last."""

    def __post_init__(self) -> None:
        self._known = RowMemory(self.most_bytes, self._size)

    async def change(
        self,
        table: str,
        partition: str,
        keys: Sequence[str],
        build: Callable[[Mapping[str, Row]], Sequence[Row]],
        *,
        creates_table: bool = True,
    ) -> Sequence[Row]:
        """Write in one transaction what `build` makes of the rows stored under `keys`.

        A built row with an etag is an update, one without is an insert; when none is built, nothing
        is written. After a conflict the rows are read, and built, again. Gives the rows as they were
        built. Raises StorageUnavailable, also when conflicts do not end, TableMissing if the table is
        missing and may not be created, and what `build` raises.
        """
        try:
            return await self._change(table, partition, keys, build, creates_table)
        except MeterError:
            self.forget(table, partition, keys)
            raise

    def forget(self, table: str, partition: str, keys: Iterable[str]) -> None:
        """Read these rows from storage next time."""
        self._known.drop(table, partition, keys)

    async def learn(self, table: str, partition: str) -> None:
        """Read a partition and remember its rows, as far as there is room. Raises StorageUnavailable."""
        await self._learn(table, partition, ())

    async def _learn(self, table: str, partition: str, wanted: Collection[str]) -> dict[str, Row]:
        """Learn a partition; gives the wanted rows."""
        rows = self.store.scan(
            table,
            first_partition=partition,
            last_partition=partition,
            columns=self.remembers,
        )
        count, found = 0, {}
        learned: list[Row] = []
        async for _, row in rows:
            count += 1
            learned.append(row)
            if len(learned) == ROWS_A_READ:
                self._remember(table, partition, learned)
                learned.clear()
            if row.key in wanted:
                found[row.key] = row
        self._remember(table, partition, learned)
        self._learned[table, partition] = count
        return found

    async def _change(
        self,
        table: str,
        partition: str,
        keys: Sequence[str],
        build: Callable[[Mapping[str, Row]], Sequence[Row]],
        creates_table: bool,
    ) -> Sequence[Row]:
        expects_new = self.expects_new
        for _ in range(MAX_CONFLICTS):
            known = self._remembered(table, partition, keys)
            stored = known if expects_new else await self._stored(table, partition, keys, known)
            rows = build(stored)
            asks = self.asks_before_skipping and known
            if asks and (unsure := known.keys() - {row.key for row in rows}):
                self.forget(table, partition, unsure)
                stored = await self._stored(table, partition, keys, {})
                rows = build(stored)
            if not rows or await self._write(table, partition, keys, rows, creates_table):
                return rows
            expects_new = False
        raise StorageUnavailable(f"{table}: {MAX_CONFLICTS} conflicts in a row in one partition")

    def _remembered(self, table: str, partition: str, keys: Sequence[str]) -> dict[str, Row]:
        found, get = {}, self._known.of(table, partition).get
        for key in keys:  # most rows of a large batch are new
            kept = get(key)
            if kept is not None:
                found[key] = Row(key=key, columns=_columns(kept), etag=kept.etag)
        return found

    async def _stored(
        self, table: str, partition: str, keys: Sequence[str], known: Mapping[str, Row]
    ) -> dict[str, Row]:
        stored = {**known} or self._remembered(table, partition, keys)
        unknown = [key for key in keys if key not in stored]
        expected = self._learned.get((table, partition), 0)
        if self.expects_new and len(unknown) >= max(ROWS_BY_RANGE, expected // ROWS_A_READ):
            stored |= await self._learn(table, partition, set(unknown))
        elif unknown:
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
    ) -> bool:
        insert = [row for row in rows if row.etag is None]
        update = [row for row in rows if row.etag is not None]
        result = await self.store.write(
            table, partition, insert=insert, update=update, creates_table=creates_table
        )
        if isinstance(result, Conflict):
            self.forget(table, partition, keys)
            return False
        known = set(keys)
        self._note(table, partition, [row for row in rows if row.key in known], result.etags)
        return True

    def _note(
        self, table: str, partition: str, rows: Iterable[Row], etags: Mapping[str, str]
    ) -> None:
        """Remember what was written, which is merged into the rows."""
        names, values_of = self.remembers, self.values_of
        if names is not None and values_of is not None:
            kept = {row.key: _Kept(etags[row.key], names, values_of(row.columns)) for row in rows}
        else:
            known = self._known.of(table, partition)
            kept = {
                row.key: self._kept(
                    row.columns, etags[row.key], None if row.etag is None else known[row.key]
                )
                for row in rows
                # Of one that was forgotten meanwhile only the columns that were written are known.
                if row.etag is None or row.key in known
            }
        self._known.put(table, partition, kept)

    def _remember(self, table: str, partition: str, rows: Iterable[Row]) -> None:
        kept = {row.key: self._kept(row.columns, row.etag, None) for row in rows}
        self._known.put(table, partition, kept)

    def _kept(self, columns: Mapping[str, object], etag: str | None, before: _Kept | None) -> _Kept:
        names = self.remembers
        if names is None:
            if before is not None:
                columns = {**_columns(before), **columns}
            return _Kept(etag, tuple(columns), tuple(columns.values()))
        if self.values_of is not None:
            values = self.values_of(columns)
        else:
            values = tuple([columns.get(name) for name in names])
        if before is not None:
            both = zip(values, before.values, strict=True)
            values = tuple([old if new is None else new for new, old in both])
        return _Kept(etag, names, values)

    def _size(self, rows: Mapping[str, _Kept]) -> int:
        if self.remembers is None:
            columns = sum(len(row.names) for row in rows.values())
        else:
            columns = len(rows) * len(self.remembers)
        return _ROW_BYTES * len(rows) + _COLUMN_BYTES * columns + sum(map(len, rows))


def _columns(kept: _Kept) -> dict[str, object]:
    columns = dict(zip(kept.names, kept.values, strict=True))
    if None in kept.values:
        return {name: value for name, value in columns.items() if value is not None}
    return columns
