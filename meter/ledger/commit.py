"""Counts each call once: its marker row and the sums it adds to are one transaction.

The ledger of a month is one table, a subject's share of it one partition:

| row key                               | columns                  | written                         |
|---------------------------------------|--------------------------|---------------------------------|
| `c|` event id                         | see `markers.py`         | insert: fails if it exists      |
| `s|` window `|` deployment `|` model `|` tier | see `rows.py`    | insert, or update if unchanged  |

Table Storage applies an entity-group transaction whole or not at all. So a repeated event fails the
transaction because its marker is there, a concurrent writer because the sum has another etag, and
a writer that dies leaves nothing. After a conflict the markers show which calls are already
counted; the others are added to the sums as they are then. When it is unknown whether a transaction
was applied, the batch fails and is delivered again: then the markers decide.
"""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from uuid import UUID

from meter.adjustment import Countable
from meter.ledger.fold import fold, sum_keys_of
from meter.ledger.keys import SumKey, call_row_key, escape, ledger_table
from meter.ledger.markers import marker_row
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ledger.rows import SumRow, sum_row
from meter.ports import Row, RowStore
from meter.window import Window

RANGE_SECONDS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The result of a commit: the sums of its events as they are now, and how many were new."""

    sums: tuple[SumRow, ...]
    new_calls: int
    repeated_calls: int


class Committer:
    """Writes the ledger."""

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._sums = OptimisticRows(store=store)

    async def commit(self, subject: str, month: Window, events: Sequence[Countable]) -> Committed:
        """Count one subject's calls of one month. Raises StorageUnavailable."""
        sums: dict[SumKey, SumRow] = {}
        unique = list({event.id: event for event in reversed(events)}.values())[::-1]
        new_calls = 0
        for chunk in _chunks(subject, unique):
            rows, added = await self._commit_chunk(subject, ledger_table(month), chunk)
            sums.update((row.key, row) for row in rows)
            new_calls += added
        return Committed(
            sums=tuple(sums.values()), new_calls=new_calls, repeated_calls=len(events) - new_calls
        )

    async def _commit_chunk(
        self, subject: str, table: str, chunk: Sequence[Countable]
    ) -> tuple[list[SumRow], int]:
        partition = escape(subject)
        unique = dict.fromkeys(key for event in chunk for key in sum_keys_of(subject, event))
        keys = {key.place.row_key: key for key in unique}
        changed = await self._sums.change(
            table,
            partition,
            list(keys),
            chunk,
            partial(_rows, subject),
            # Before the sums are read again, so these are never older than the markers.
            after_conflict=partial(self._uncounted, table, partition),
        )
        stored = changed.stored
        sums = [sum_row(key, stored[k].columns) for k, key in keys.items() if k in stored]
        return sums, len(changed.items)

    async def _uncounted(
        self, table: str, partition: str, events: Sequence[Countable]
    ) -> list[Countable]:
        ranges = _ranges([event.id for event in events])
        found = await asyncio.gather(
            *(
                self._store.keys_between(table, partition, call_row_key(first), call_row_key(last))
                for first, last in ranges
            )
        )
        counted = set[str]().union(*found)
        return [event for event in events if call_row_key(event.id) not in counted]


def _chunks(subject: str, events: Sequence[Countable]) -> Iterator[list[Countable]]:
    """Split the events so that the markers and sums of a chunk fit into one transaction."""
    chunk: list[Countable] = []
    keys: set[SumKey] = set()
    for event in events:
        wider = keys.union(sum_keys_of(subject, event))
        if chunk and len(chunk) + 1 + len(wider) > MAX_TRANSACTION_ROWS:
            yield chunk
            chunk, wider = [], set(sum_keys_of(subject, event))
        chunk.append(event)
        keys = wider
    if chunk:
        yield chunk


def _ranges(ids: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
    """Ranges that contain the ids, none much wider than RANGE_SECONDS: no scan of a whole month.

    The first 48 bits of an id are its creation time in milliseconds (UUIDv7). Any other id merely
    gets a range of its own.
    """
    ranges: list[tuple[UUID, UUID]] = []
    for each in sorted(ids):
        if ranges and (each.int >> 80) - (ranges[-1][0].int >> 80) <= RANGE_SECONDS * 1000:
            ranges[-1] = ranges[-1][0], each
        else:
            ranges.append((each, each))
    return ranges


def _rows(subject: str, events: Sequence[Countable], stored: Mapping[str, Row]) -> list[Row]:
    """The markers of these events and the sums they add to; nothing where all were repeats."""
    rows = [marker_row(event) for event in events]
    for key, added in fold(subject, events).items():
        row_key = key.place.row_key
        before = stored.get(row_key, Row(key=row_key, columns={}))
        known = sum_row(key, before.columns)
        row = SumRow(key=key, sums=known.sums + added, revision=known.revision + 1)
        rows.append(replace(before, columns=row.columns()))
    return rows
