"""Counts each call once: its marker row and the sums it adds to are one transaction.

The ledger of a month is one table, a subject's share of it one partition:

| row key                               | columns                  | written                         |
|---------------------------------------|--------------------------|---------------------------------|
| `c|` event id                         | At, Call                 | insert: fails if it is there    |
| `s|` window `|` deployment `|` model `|` tier | see `rows.py`    | insert, or update if unchanged  |

Table Storage applies an entity-group transaction whole or not at all. So a repeated event fails the
transaction because its marker is there, a concurrent writer because the sum has another etag, and
a writer that dies leaves nothing. After a failure the markers tell which calls are counted already;
the rest is added to the sums as they are then. When it is unknown whether a transaction was applied
the batch fails and comes again: the markers decide then.
"""

import json
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field

from meter.errors import StorageUnavailable
from meter.ledger.fold import fold, sum_keys_of
from meter.ledger.keys import SumKey, call_row_key, escape, ledger_table
from meter.ledger.rows import SumRow, read_revision, read_sums
from meter.ports import Conflict, Row, RowStore
from meter.usage import UsageEvent
from meter.window import Window

MAX_TRANSACTION_ROWS = 100  # and 4 MiB, which 100 of these rows (under 4 KB each) never reach
MAX_CONFLICTS = 10
MAX_KNOWN_PARTITIONS = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Counted:
    """What became of some events: the sums they belong to as they are now, and how many were new."""

    sums: tuple[SumRow, ...]
    new_calls: int
    repeated_calls: int


@dataclass(slots=True)
class Committer:
    """Writes the ledger. Remembers the sums it wrote last; a wrong memory only costs a conflict."""

    store: RowStore
    _known: OrderedDict[tuple[str, str], dict[str, Row]] = field(default_factory=OrderedDict)

    async def commit(self, subject: str, month: Window, events: Sequence[UsageEvent]) -> Counted:
        """Count one subject's calls of one month. Raises StorageUnavailable."""
        sums: dict[SumKey, SumRow] = {}
        unique = list({event.id: event for event in reversed(events)}.values())[::-1]
        new_calls = 0
        for chunk in _chunks(unique):
            try:
                rows, added = await self._commit_chunk(subject, ledger_table(month), chunk)
            except StorageUnavailable:
                self._known.pop((ledger_table(month), escape(subject)), None)
                raise
            sums.update((row.key, row) for row in rows)
            new_calls += added
        return Counted(
            sums=tuple(sums.values()), new_calls=new_calls, repeated_calls=len(events) - new_calls
        )

    async def _commit_chunk(
        self, subject: str, table: str, chunk: Sequence[UsageEvent]
    ) -> tuple[list[SumRow], int]:
        partition = escape(subject)
        keys = {key.row_key(): key for event in chunk for key in sum_keys_of(event)}
        pending = list(chunk)
        for _ in range(MAX_CONFLICTS):
            stored = await self._stored(table, partition, keys)
            if not pending:
                return _sum_rows(subject, keys, stored), 0
            rows = _added_up(subject, stored, pending)
            written = await self._write(table, partition, pending, rows, stored)
            if written is not None:
                return _sum_rows(subject, keys, {**stored, **written}), len(pending)
            pending = await self._uncounted(table, partition, pending)
        raise StorageUnavailable(f"{table}: {MAX_CONFLICTS} conflicts in a row in one partition")

    async def _stored(self, table: str, partition: str, keys: dict[str, SumKey]) -> dict[str, Row]:
        known = self._known.get((table, partition), {})
        unknown = [key for key in keys if key not in known]
        if unknown:
            known = {**known, **await self.store.read(table, partition, unknown)}
        return {key: known[key] for key in keys if key in known}

    async def _write(
        self,
        table: str,
        partition: str,
        pending: Sequence[UsageEvent],
        rows: Sequence[SumRow],
        stored: dict[str, Row],
    ) -> dict[str, Row] | None:
        markers = [_marker(event) for event in pending]
        sums = []
        for row in rows:
            before = stored.get(row.key.row_key())
            etag = None if before is None else before.etag
            sums.append(Row(key=row.key.row_key(), columns=row.columns(), etag=etag))
        result = await self.store.write(
            table,
            partition,
            insert=[*markers, *(row for row in sums if row.etag is None)],
            update=[row for row in sums if row.etag is not None],
        )
        if isinstance(result, Conflict):
            self._known.pop((table, partition), None)
            return None
        written = {
            row.key: Row(key=row.key, columns=row.columns, etag=result.etags[row.key])
            for row in sums
        }
        self._remember(table, partition, written)
        return written

    async def _uncounted(
        self, table: str, partition: str, events: Sequence[UsageEvent]
    ) -> list[UsageEvent]:
        keys = sorted(call_row_key(event.id) for event in events)
        counted = await self.store.keys_between(table, partition, keys[0], keys[-1])
        return [event for event in events if call_row_key(event.id) not in counted]

    def _remember(self, table: str, partition: str, rows: dict[str, Row]) -> None:
        known = self._known.setdefault((table, partition), {})
        if len(known) > MAX_TRANSACTION_ROWS:
            known.clear()  # past hours gather; the current ones are read again
        known.update(rows)
        self._known.move_to_end((table, partition))
        if len(self._known) > MAX_KNOWN_PARTITIONS:
            self._known.popitem(last=False)


def _chunks(events: Sequence[UsageEvent]) -> Iterator[list[UsageEvent]]:
    """Split so that markers and sums of a chunk fit into one transaction."""
    chunk: list[UsageEvent] = []
    keys: set[SumKey] = set()
    for event in events:
        wider = keys.union(sum_keys_of(event))
        if chunk and len(chunk) + 1 + len(wider) > MAX_TRANSACTION_ROWS:
            yield chunk
            chunk, wider = [], set(sum_keys_of(event))
        chunk.append(event)
        keys = wider
    if chunk:
        yield chunk


def _added_up(subject: str, stored: dict[str, Row], pending: Sequence[UsageEvent]) -> list[SumRow]:
    rows = []
    for key, added in fold(pending).items():
        before = stored.get(key.row_key())
        columns = {} if before is None else before.columns
        rows.append(
            SumRow(
                subject=subject,
                key=key,
                sums=read_sums(columns) + added,
                revision=read_revision(columns) + 1,
            )
        )
    return rows


def _sum_rows(subject: str, keys: dict[str, SumKey], rows: dict[str, Row]) -> list[SumRow]:
    return [
        SumRow(
            subject=subject,
            key=key,
            sums=read_sums(rows[row_key].columns),
            revision=read_revision(rows[row_key].columns),
        )
        for row_key, key in keys.items()
        if row_key in rows
    ]


def _marker(event: UsageEvent) -> Row:
    call = {
        "deployment": event.deployment,
        "model": event.model,
        "tier": event.tier,
        "backend": event.backend,
        "operation": event.operation,
        "outcome": event.outcome,
        "status": event.status,
        "source": event.usage_source,
        "usage": {name: count for name, count in asdict(event.usage).items() if count},
    }
    text = json.dumps(call, ensure_ascii=False, separators=(",", ":"))
    return Row(key=call_row_key(event.id), columns={"At": event.time, "Call": text})
