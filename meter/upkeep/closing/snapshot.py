"""Where closed months are stored.

| table                | partition     | row key            | is                                      |
|----------------------|---------------|--------------------|-----------------------------------------|
| ClosedMonths         | `closed`      | `2026-10`          | a closed month                          |
|                      |               | `latest`           | `Month`, `Root` of the one closed last  |
| Closed202610xATTEMPT | `day|2026-10-20`, `month|2026-10`, ... | as in views | a sum, as in its view |
|                      | `corrections` | day `|` dimensions | a correction of an earlier month        |
|                      | `buckets`     | `00` to `63`       | a ledger partition's subtree of markers |

A closed month has `Root`, `Table`, `ClosedAt`, `ClosedBy`, `Leaves`, and its header in the pieces
`Header0`, `Header1`, ...; a subtree its `Hash`, its `Counts` (JSON), and `WrittenAt`, when the last of
its markers was written.

A snapshot has a table of its own, which is written first. The row in ClosedMonths makes it valid, so a
half-written one is none; it is inserted with a change of `latest`, in one transaction: of two processes
that close any months at once, one loses. Nothing of a closed month is ever written again.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from itertools import batched

from meter.errors import LedgerDamaged
from meter.ledger.fold import Sums
from meter.ledger.keys import FIRST_KEY, LAST_KEY, SumKey
from meter.ledger.rows import SumRow
from meter.ports import MAX_TRANSACTION_ROWS, Row, RowStore, Written
from meter.upkeep.closing.canonical import canonical
from meter.upkeep.closing.header import Header, read_header
from meter.usage import format_time
from meter.window import Period, Window, window_of

CLOSED_TABLE = "ClosedMonths"
CLOSED_PARTITION = "closed"
LATEST_KEY = "latest"
CORRECTIONS, BUCKETS = "corrections", "buckets"
HEADER_CHARS = 30_000  # a string column holds 64 KiB of UTF-16
WRITES_AT_ONCE = 16


def sums_partition(period: Period, name: str) -> str:
    """The partition of a snapshot that has the sums of a window of that period."""
    return f"{period}|{name}"


def snapshot_prefix(month: Window) -> str:
    """How the names of all tables of a month's snapshots begin, those of failed attempts included."""
    return f"Closed{month.name.replace('-', '')}x"


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonth:
    """A closed month: its header, and the table that has its numbers."""

    header: Header
    table: str

    @property
    def month(self) -> Window:
        """The month that was closed."""
        return self.header.month


@dataclass(frozen=True, slots=True, kw_only=True)
class ClosedMonths:
    """All closed months, and the row that says which was closed last."""

    by_month: Mapping[Window, ClosedMonth] = field(default_factory=dict)
    latest: Row | None = None

    @property
    def latest_root(self) -> str:
        """The root of the month that was closed last; empty before the first."""
        return "" if self.latest is None else str(self.latest.columns.get("Root", ""))

    def table_of(self, window: Window) -> str | None:
        """The table with the closed numbers of an hour, a day or a month; None if it is open."""
        closed = self.by_month.get(window.month)
        return None if closed is None else closed.table

    def arrival_month(self, month: Window) -> Window | None:
        """The month to which what arrives now for a closed month belongs; None if nothing can.

        That is the one in which it was closed, or the one after those that hold its corrections.
        """
        closed = self.by_month[month]
        found = window_of(closed.header.closed_at, Period.MONTH)
        for other in self.by_month.values():
            if month in other.header.settled:
                return None
            if month in other.header.corrected:
                found = max(found, window_of(other.month.end, Period.MONTH))
        return found


async def read_closed(store: RowStore) -> ClosedMonths:
    """The closed months. Raises StorageUnavailable, and LedgerDamaged for one that was changed."""
    by_month: dict[Window, ClosedMonth] = {}
    latest = None
    scan = store.scan(
        CLOSED_TABLE, first_partition=CLOSED_PARTITION, last_partition=CLOSED_PARTITION
    )
    async for _, row in scan:
        if row.key == LATEST_KEY:
            latest = row
            continue
        try:
            header, table = read_header(json.loads(_joined(row.columns))), row.columns.get("Table")
            if header.root != row.columns.get("Root") or header.month.name != row.key:
                raise ValueError("it is not what the root says")
            if not isinstance(table, str):
                raise ValueError("it names no table")
        except ValueError as exc:
            raise LedgerDamaged(
                str(exc),
                table=CLOSED_TABLE,
                partition=CLOSED_PARTITION,
                row=row.key,
                column="Header0",
            ) from exc
        by_month[header.month] = ClosedMonth(header=header, table=table)
    return ClosedMonths(by_month=dict(sorted(by_month.items())), latest=latest)


async def insert_header(store: RowStore, before: ClosedMonths, header: Header, table: str) -> bool:
    """Make a snapshot valid; whether it is. Another month or attempt may have been first.

    Raises StorageUnavailable: then it may be valid.
    """
    text = canonical(header.document).decode()
    pieces = (text[at : at + HEADER_CHARS] for at in range(0, len(text), HEADER_CHARS))
    columns: dict[str, object] = {
        "Root": header.root,
        "Table": table,
        "ClosedAt": header.closed_at,
        "ClosedBy": header.document["closed_by"],
        "Leaves": header.document["leaves"],
        **{f"Header{number}": piece for number, piece in enumerate(pieces)},
    }
    latest: dict[str, object] = {"Month": header.month.name, "Root": header.root}
    etag = None if before.latest is None else before.latest.etag
    row = Row(key=LATEST_KEY, columns=latest, etag=etag)
    result = await store.write(
        CLOSED_TABLE,
        CLOSED_PARTITION,
        insert=[Row(key=header.month.name, columns=columns), *([] if etag else [row])],
        update=[row] if etag else [],
    )
    return isinstance(result, Written)


@dataclass(slots=True)
class SnapshotWriter:
    """Writes the rows of a snapshot to its table."""

    store: RowStore
    table: str
    rows: int = 0

    async def write_sums(self, sums: Iterable[tuple[SumKey, Sums]]) -> None:
        """Write sums as their views have them. Raises StorageUnavailable."""
        by_window: dict[str, list[Row]] = {}
        for key, each in sums:
            row = Row(key=key.view_row_key, columns=_columns(key, each))
            place = sums_partition(key.window.period, key.window.name)
            by_window.setdefault(place, []).append(row)
        await self._write(by_window)

    async def write_corrections(self, sums: Sequence[tuple[SumKey, Sums]]) -> None:
        """Write what was added to days of earlier months. Raises StorageUnavailable."""
        rows = [
            Row(key=f"{key.window.name}|{key.view_row_key}", columns=_columns(key, each))
            for key, each in sums
        ]
        await self._write({CORRECTIONS: rows})

    async def write_buckets(self, rows: Sequence[Row]) -> None:
        """Write the subtrees of ledger partitions. Raises StorageUnavailable."""
        await self._write({BUCKETS: rows})

    async def _write(self, by_partition: Mapping[str, Sequence[Row]]) -> None:
        transactions = [
            (partition, some)
            for partition, rows in by_partition.items()
            for some in batched(sorted(rows, key=_key), MAX_TRANSACTION_ROWS, strict=False)
        ]
        self.rows += sum(len(rows) for _, rows in transactions)
        for several in batched(transactions, WRITES_AT_ONCE, strict=False):
            # The table is this attempt's alone: a row that is there was written by a retry.
            writes = (self.store.write(self.table, place, insert=rows) for place, rows in several)
            for result in await asyncio.gather(*writes, return_exceptions=True):
                if isinstance(result, BaseException):
                    raise result


async def digest_rows(store: RowStore, table: str) -> dict[str, object]:
    """The number and the SHA-256 of a snapshot's rows, in the order of their keys.

    Each row is hashed as JSON: its partition, its key and its columns, times as in events.
    """
    hashed, count = sha256(), 0
    async for partition, row in scan_table(store, table):
        columns = {
            name: format_time(value) if isinstance(value, datetime) else value
            for name, value in row.columns.items()
        }
        hashed.update(canonical({"partition": partition, "row": row.key, "columns": columns}))
        count += 1
    return {"count": count, "sha256": hashed.hexdigest()}


def scan_table(store: RowStore, table: str) -> AsyncIterator[tuple[str, Row]]:
    """All rows of a snapshot, in the order of their keys."""
    return store.scan(table, first_partition=FIRST_KEY, last_partition=LAST_KEY)


def _key(row: Row) -> str:
    return row.key


def _columns(key: SumKey, sums: Sums) -> dict[str, object]:
    return SumRow(key=key, sums=sums, revision=1).columns()


def _joined(columns: Mapping[str, object]) -> str:
    pieces: list[str] = []
    while isinstance(piece := columns.get(f"Header{len(pieces)}"), str):
        pieces.append(piece)
    return "".join(pieces)
