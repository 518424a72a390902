"""`meter.ports.RowStore` and `Tables` in memory, with Table Storage's limits and with faults on demand.

A fault is planned for the next call of one operation; several are used up in the order planned.
A scan reads page by page, as the service does: each page shows the state when it is read.
"""

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from copy import replace
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum, auto

from meter.errors import RowsRefused, StorageUnavailable, TableMissing
from meter.ports import Conflict, Row, Written

MAX_ROWS = 100
MAX_KEY_CHARS = 512
MAX_TEXT_BYTES = 65_536  # UTF-16
MAX_ENTITY_BYTES = 1_048_576
INT64 = range(-(2**63), 2**63)
_FORBIDDEN_IN_KEYS = frozenset("/\\#?") | {chr(code) for code in (*range(32), *range(127, 160))}


class Fault(Enum):
    """The fault of one call."""

    NOTHING = auto()
    CONFLICT = auto()
    UNAVAILABLE = auto()
    REFUSED = auto()
    ANSWER_LOST = auto()


type Intruder = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Transaction:
    """One applied write: its place and how many rows it had."""

    table: str
    partition: str
    rows: int


@dataclass(slots=True)
class MemoryRowStore:
    """Rows in dictionaries. `transactions` and `history` list what was applied, in order.

    `time` is the service's clock, which a test moves.
    """

    tables: dict[str, dict[tuple[str, str], Row]] = field(default_factory=dict)
    transactions: list[Transaction] = field(default_factory=list)
    history: list[tuple[str, str, Row]] = field(default_factory=list)
    calls: defaultdict[str, int] = field(default_factory=lambda: defaultdict(int))
    pauses: deque[int] = field(default_factory=deque)
    page_rows: int = 1000
    time: datetime = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
    _faults: defaultdict[str, deque[Fault]] = field(default_factory=lambda: defaultdict(deque))
    _intruders: deque[Intruder] = field(default_factory=deque)
    _last_etag: int = 0

    def plan(self, operation: str, *faults: Fault) -> None:
        """Plan faults for the next calls of that method."""
        self._faults[operation].extend(faults)

    def planned(self, operation: str) -> bool:
        """Whether a fault that was planned is not used up."""
        return bool(self._faults[operation])

    def forget_plans(self) -> None:
        """Remove all planned faults."""
        self._faults.clear()
        self._intruders.clear()
        self.pauses.clear()

    def intrude(self, *intruders: Intruder) -> None:
        """Run one of these just before each of the next writes is applied."""
        self._intruders.extend(intruders)

    def rows(self, table: str, partition: str | None = None) -> dict[str, Mapping[str, object]]:
        """The columns of a table's rows by row key, for assertions."""
        found = self.tables.get(table, {})
        return {
            key: row.columns for (place, key), row in found.items() if partition in {None, place}
        }

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """The existing ones of the rows, by row key."""
        await self._begin("read", table)
        stored = self.tables.get(table, {})
        return {key: _copy(stored[partition, key]) for key in keys if (partition, key) in stored}

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """The row keys from `first` to `last`, both included."""
        await self._begin("keys_between", table)
        stored = self.tables.get(table, {})
        return {key for place, key in stored if place == partition and first <= key <= last}

    async def write(
        self,
        table: str,
        partition: str,
        *,
        insert: Sequence[Row] = (),
        update: Sequence[Row] = (),
        delete: Sequence[Row] = (),
        creates_table: bool = True,
    ) -> Written | Conflict:
        """Apply all or nothing."""
        fault = await self._begin("write", table)
        if self._intruders:
            await self._intruders.popleft()()
        if fault is Fault.CONFLICT:
            return Conflict()
        _check_limits(table, partition, [*insert, *update, *delete])
        if table not in self.tables and not creates_table:
            raise TableMissing(table)
        if self._is_conflict(table, partition, insert, [*update, *delete]):
            stored = self.tables.get(table, {})
            return Conflict(exists=any((partition, row.key) in stored for row in insert))
        etags = self._apply(table, partition, insert, update)
        for row in delete:
            del self.tables[table][partition, row.key]
        self.transactions.append(Transaction(table, partition, len(etags) + len(delete)))
        if fault is Fault.ANSWER_LOST:
            raise StorageUnavailable(f"{table}: the answer was lost")
        return Written(etags)

    async def scan(
        self,
        table: str,
        *,
        first_partition: str,
        last_partition: str,
        first_key: str | None = None,
        last_key: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a range of partitions, and of a range of keys in each, in key order."""
        last: tuple[str, str] | None = None
        while True:
            await self._begin("scan", table)
            places = [
                (partition, key)
                for partition, key in sorted(self.tables.get(table, {}))
                if (last is None or (partition, key) > last)
                and first_partition <= partition <= last_partition
                and (first_key is None or first_key <= key)
                and (last_key is None or key <= last_key)
            ]
            page = [(p, _copy(self.tables[table][p, key])) for p, key in places[: self.page_rows]]
            for partition, row in page:
                yield partition, row if columns is None else _only(row, columns)
            if len(places) <= self.page_rows:
                return
            last = places[self.page_rows - 1]

    async def names(self, prefix: str) -> list[str]:
        """The tables with this name prefix, in order."""
        await self._begin("names", prefix)
        return sorted(name for name in self.tables if name.startswith(prefix))

    async def drop(self, table: str) -> None:
        """Delete a table; it may be gone already."""
        await self._begin("drop", table)
        self.tables.pop(table, None)

    async def service_time(self) -> datetime:
        """The service's clock."""
        await self._begin("service_time", "")
        return self.time

    async def _begin(self, operation: str, table: str) -> Fault:
        self.calls[operation] += 1
        for _ in range(self.pauses.popleft() if self.pauses else 1):
            await asyncio.sleep(0)  # yields, so that other tasks can interleave
        planned = self._faults[operation]
        fault = planned.popleft() if planned else Fault.NOTHING
        if fault is Fault.UNAVAILABLE:
            raise StorageUnavailable(f"{table}: no answer")
        if fault is Fault.REFUSED:
            raise RowsRefused(f"{table}: write: refused InvalidInput 400")
        return fault

    def _is_conflict(
        self, table: str, partition: str, insert: Iterable[Row], update: Iterable[Row]
    ) -> bool:
        stored = self.tables.get(table, {})
        keys = [row.key for row in (*insert, *update)]
        return (
            len(set(keys)) < len(keys)
            or any((partition, row.key) in stored for row in insert)
            or any(
                (before := stored.get((partition, row.key))) is None or before.etag != row.etag
                for row in update
            )
        )

    def _apply(
        self, table: str, partition: str, insert: Sequence[Row], update: Sequence[Row]
    ) -> dict[str, str]:
        stored = self.tables.setdefault(table, {})
        etags = {}
        for row in (*insert, *update):
            self._last_etag += 1
            before = stored.get((partition, row.key))
            kept = {name: value for name, value in row.columns.items() if value is not None}
            merged = {**(before.columns if before else {}), **kept}
            etags[row.key] = f'W/"{self._last_etag}"'
            stored[partition, row.key] = Row(
                key=row.key, columns=merged, etag=etags[row.key], written_at=self.time
            )
            self.history.append((table, partition, stored[partition, row.key]))
        return etags


def _copy(row: Row) -> Row:
    return replace(row, columns=dict(row.columns))


def _only(row: Row, columns: Sequence[str]) -> Row:
    return replace(row, columns={n: row.columns[n] for n in columns if n in row.columns})


def _check_limits(table: str, partition: str, rows: Sequence[Row]) -> None:
    """Refuse what the service answers with 400, and an adapter reports as refused."""
    if not 0 < len(rows) <= MAX_ROWS:
        raise RowsRefused(f"{table}: a transaction has 1 to 100 rows, got {len(rows)}")
    for key in (partition, *(row.key for row in rows)):
        if _utf16_bytes(key) > 2 * MAX_KEY_CHARS or not _FORBIDDEN_IN_KEYS.isdisjoint(key):
            raise RowsRefused(f"{table}: no legal key: {key!r}")
    for row in rows:
        if sum(_size(name, value) for name, value in row.columns.items()) > MAX_ENTITY_BYTES:
            raise RowsRefused(f"{table}: the row is too large")


def _size(name: str, value: object) -> int:
    match value:
        case bool() | float() | None:
            size, is_legal = 8, True
        case int():
            size, is_legal = 8, value in INT64
        case str():
            size = _utf16_bytes(value)
            is_legal = size <= MAX_TEXT_BYTES
        case bytes():
            size, is_legal = len(value), len(value) <= MAX_TEXT_BYTES
        case datetime():
            size, is_legal = 8, value.tzinfo is not None and value == value.astimezone(UTC)
        case _:
            raise TypeError(f"{name}: {type(value).__name__} cannot be stored")
    if not is_legal:
        raise RowsRefused(f"{name}: no legal value")
    return size + 2 * len(name)


def _utf16_bytes(text: str) -> int:
    return 2 * len(text) if text.isascii() else len(text.encode("utf-16-le"))
