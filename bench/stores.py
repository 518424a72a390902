"""Row stores that count what is asked of them: Table Storage, and dictionaries."""

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import replace
from dataclasses import dataclass, field
from typing import Any

from azure.data.tables.aio import TableServiceClient

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore, TablesTransport
from meter.ledger.keys import CALL_PREFIX
from meter.ports import Conflict, Row, Written

_LEDGER = re.compile(r"Ledger\d{6}")


@dataclass(slots=True, kw_only=True)
class Asked:
    """Requests on the wire, and rows written."""

    transactions: int = 0
    reads: int = 0
    ledger_rows: int = 0
    other_rows: int = 0

    def note_rows(self, table: str, rows: int) -> None:
        """Count rows of one transaction."""
        if _LEDGER.fullmatch(table):
            self.ledger_rows += rows
        else:
            self.other_rows += rows


class CountingTransport(TablesTransport):
    """Counts the requests that go to Table Storage through the SDK, retries included."""

    def __init__(self, asked: Asked) -> None:
        super().__init__()
        self._asked = asked

    async def send(self, request: Any, **options: Any) -> Any:
        """Send it."""
        if request.method == "GET":
            self._asked.reads += 1
        else:
            self._asked.transactions += 1
        return await super().send(request, **options)


class CountingTables(TablesRowStore):
    """Table Storage."""

    def __init__(self, connection_string: str, asked: Asked) -> None:
        super().__init__(
            TableServiceClient.from_connection_string(
                connection_string, **CLIENT_OPTIONS, transport=CountingTransport(asked)
            ),
            sends_directly=True,
        )
        self._asked = asked

    async def _submit(self, *of_transaction: Any) -> Any:
        self._asked.transactions += 1
        return await super()._submit(*of_transaction)

    async def write(self, table: str, partition: str, **options: Any) -> Any:
        """One entity-group transaction."""
        rows = sum(len(options.get(kind, ())) for kind in ("insert", "update", "delete"))
        self._asked.note_rows(table, rows)
        return await super().write(table, partition, **options)


@dataclass(slots=True, kw_only=True)
class MemoryStore:
    """Keeps rows in dictionaries, so that nearly all that is measured is this project's own work."""

    asked: Asked
    keeps_markers: bool = True
    _tables: dict[tuple[str, str], dict[str, Row]] = field(default_factory=dict)
    _etag: int = 0

    async def close(self) -> None:
        """Nothing is open."""

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """The rows that exist, by row key."""
        self.asked.reads += len(keys)
        stored = self._tables.get((table, partition), {})
        return {key: stored[key] for key in keys if key in stored}

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """The row keys from `first` to `last`, both included."""
        self.asked.reads += 1
        return {key for key in self._tables.get((table, partition), {}) if first <= key <= last}

    async def write(
        self,
        table: str,
        partition: str,
        *,
        insert: Sequence[Row] = (),
        update: Sequence[Row] = (),
        delete: Sequence[Row] = (),
        **_options: object,
    ) -> Written | Conflict:
        """Apply all, or nothing if a row is there already or is not as it was read."""
        self.asked.transactions += 1
        self.asked.note_rows(table, len(insert) + len(update) + len(delete))
        self._etag += 1
        stored = self._tables.setdefault((table, partition), {})
        if any(row.key in stored for row in insert):
            return Conflict(exists=True)
        if any(row.key not in stored or stored[row.key].etag != row.etag for row in update):
            return Conflict()
        for row in (*insert, *update):
            if self.keeps_markers or not row.key.startswith(CALL_PREFIX):
                before = stored[row.key].columns if row.etag else {}
                columns = {**before, **dict(row.columns.items())}
                stored[row.key] = replace(row, columns=columns, etag=str(self._etag))
        for row in delete:
            stored.pop(row.key, None)
        return Written({row.key: str(self._etag) for row in (*insert, *update)})

    async def scan(
        self,
        table: str,
        *,
        first_partition: str,
        last_partition: str,
        first_key: str | None = None,
        last_key: str | None = None,
        **_options: object,
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a range of partitions and keys, in order."""
        self.asked.reads += 1
        places = [(t, p) for t, p in self._tables if t == table]
        for place in sorted(p for p in places if first_partition <= p[1] <= last_partition):
            rows = self._tables[place]
            keys = [k for k in rows if (first_key or "") <= k and (not last_key or k <= last_key)]
            for key in sorted(keys):
                yield place[1], rows[key]
