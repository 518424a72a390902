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
was applied, the batch fails and is delivered again: then the markers decide. Where a redelivery is
likely the markers are asked first, which is one query and no transaction.

Some events can never be counted: those of a month whose ledger was dropped, since its markers are
gone, and those that a damaged sum, an overflow or the service itself refuses. They are given back
with the reason; the other events of the subject are counted.
"""

import asyncio
import logging
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from uuid import UUID

from meter.adjustment import Countable
from meter.errors import LedgerDamaged, RowsRefused, TableMissing
from meter.ledger.decode import Reason, Refusal
from meter.ledger.fold import fold, sum_keys_of
from meter.ledger.keys import SumKey, call_row_key, escape, ledger_table
from meter.ledger.markers import marker_row
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS, OptimisticRows
from meter.ledger.rows import SumRow, check_range, next_revision, sum_row
from meter.ledger.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.window import Period, Window

RANGE_GAP_SECONDS = 60
MAX_OWN_CALLS = 50_000  # 100 to 200 bytes each
# A refusal may be a passing fault of the service or of something before it; not so often in a row.
MAX_REFUSALS = 5

log = logging.getLogger(__name__)

type EventKey = tuple[str, UUID]  # subject and id: ids are unique per subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Committed:
    """The result of a commit: the sums to show, how many events were new, and which can never be.

    A repeat gives no sum if this process counted it, and gave its sums to be shown, before.
    """

    sums: tuple[SumRow, ...]
    new_calls: int
    repeated_calls: int
    refused: Mapping[EventKey, Refusal] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class _Share:
    """One subject's events of one month, and what has become of them."""

    subject: str
    month: Window
    table: str
    partition: str
    creates_table: bool
    sums: dict[SumKey, SumRow] = field(default_factory=dict)
    new_calls: int = 0
    done: list[Countable] = field(default_factory=list)
    refused: dict[EventKey, Refusal] = field(default_factory=dict)

    def refuse(self, events: Sequence[Countable], reason: Reason, detail: str) -> None:
        self.refused |= {(event.subject, event.id): Refusal(reason, detail) for event in events}


class Committer:
    """Writes the ledger."""

    def __init__(self, store: RowStore) -> None:
        self._store = store
        self._sums = OptimisticRows(store=store)
        # Calls that this process found counted, and whose sums it has given to be shown.
        self._own: OrderedDict[EventKey, None] = OrderedDict()
        self._refusals: Counter[tuple[str, Window]] = Counter()

    async def commit(
        self,
        subject: str,
        month: Window,
        events: Sequence[Countable],
        *,
        has_ended: bool = False,
        may_be_repeats: bool = False,
    ) -> Committed:
        """Count one subject's calls of one month. Raises StorageUnavailable.

        The table of a month that `has_ended` may have been dropped, and is not begun again then.
        """
        share = _Share(
            subject=subject,
            month=month,
            table=ledger_table(month),
            partition=escape(subject),
            creates_table=not has_ended,
        )
        unique = list({event.id: event for event in reversed(events)}.values())[::-1]
        for chunk in _chunks(subject, unique):
            asks_first = may_be_repeats or any((subject, e.id) in self._own for e in chunk)
            await self._count(share, chunk, asks_first=asks_first)
        # Only now: after a failure nobody is given the sums of the chunks before it.
        self._remember(subject, share.done)
        if not share.refused:
            self._refusals.pop((subject, month), None)
        refused = sum((subject, event.id) in share.refused for event in events)
        return Committed(
            sums=tuple(share.sums.values()),
            new_calls=share.new_calls,
            repeated_calls=len(events) - refused - share.new_calls,
            refused=share.refused,
        )

    async def _count(self, share: _Share, chunk: Sequence[Countable], *, asks_first: bool) -> None:
        """Commit a chunk, less its events that can never be counted."""
        seems_dropped = False
        while chunk:
            try:
                await self._commit_chunk(share, chunk, asks_first=asks_first)
                return
            except LedgerDamaged as exc:
                # Every turn leaves out all events of one more row, so the turns end. Calls that are
                # counted stay in, and are not added again: their sums may not be shown yet.
                hit = _adding_to(exc.row, share.subject, await self._uncounted(share, chunk))
                chunk = [event for event in chunk if event not in hit]
                asks_first = True
                share.refuse(hit, Reason.CANNOT_BE_STORED, str(exc))
            except TableMissing:
                if await self._was_dropped(share.month):
                    if not seems_dropped:  # or it was begun, and shown, just now
                        seems_dropped = True
                        continue
                    detail = f"{share.table} was dropped, and what it had counted is not known"
                    share.refuse(chunk, Reason.MONTH_CLOSED, detail)
                    return
                share.creates_table = True
            except RowsRefused as exc:
                await self._after_refusal(share, chunk, exc)
                return

    async def _after_refusal(
        self, share: _Share, chunk: Sequence[Countable], refusal: RowsRefused
    ) -> None:
        """Fail some deliveries; then count the events one by one, less those that are refused."""
        place = share.subject, share.month
        if self._refusals[place] < MAX_REFUSALS:
            self._refusals[place] += 1
            if self._refusals[place] < MAX_REFUSALS:
                raise refusal
        if len(chunk) > 1:
            for event in chunk:
                await self._count(share, [event], asks_first=True)
        elif await self._uncounted(share, chunk):
            share.refuse(chunk, Reason.CANNOT_BE_STORED, f"{share.partition}: {refusal}")
        else:
            await self._count(share, chunk, asks_first=True)

    async def _commit_chunk(
        self, share: _Share, chunk: Sequence[Countable], *, asks_first: bool
    ) -> None:
        new = shown = chunk
        if asks_first:
            new = await self._uncounted(share, chunk)
            is_new = {event.id for event in new}
            # Who counted the others may have died before showing them.
            shown = [e for e in chunk if e.id in is_new or (share.subject, e.id) not in self._own]
        unique = dict.fromkeys(key for event in shown for key in sum_keys_of(share.subject, event))
        keys = {key.place.row_key: key for key in unique}
        if len(new) < len(shown):
            self._sums.forget(share.table, share.partition, keys)
        changed = await self._sums.change(
            share.table,
            share.partition,
            list(keys),
            new,
            partial(_rows, share.subject),
            # Before the sums are read again, so these are never older than the markers.
            after_conflict=partial(self._uncounted, share),
            creates_table=share.creates_table,
        )
        share.new_calls += len(changed.items)
        share.done += chunk
        for row_key, row in changed.stored.items():
            try:
                share.sums[keys[row_key]] = sum_row(keys[row_key], row.columns)
            except LedgerDamaged as exc:  # a repeat's: the other sums are still to be shown
                self._sums.forget(share.table, share.partition, [row_key])  # it may be repaired
                log.error("sum_damaged table=%s reason=%s", share.table, exc)

    def _remember(self, subject: str, events: Sequence[Countable]) -> None:
        self._own.update(((subject, event.id), None) for event in events)
        while len(self._own) > MAX_OWN_CALLS:
            self._own.popitem(last=False)

    async def _uncounted(self, share: _Share, events: Sequence[Countable]) -> list[Countable]:
        ranges = _ranges([event.id for event in events])
        found = await asyncio.gather(
            *(
                self._store.keys_between(
                    share.table, share.partition, call_row_key(first), call_row_key(last)
                )
                for first, last in ranges
            )
        )
        counted = set[str]().union(*found)
        return [event for event in events if call_row_key(event.id) not in counted]

    async def _was_dropped(self, month: Window) -> bool:
        """Whether the month's ledger had calls: their view rows outlive it."""
        rows = self._store.scan(
            VIEW_TABLES[Period.MONTH],
            first_partition=month.name,
            last_partition=month.name,
            columns=(),
        )
        async for _ in rows:
            return True
        return False


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


def _adding_to(row_key: str, subject: str, events: Sequence[Countable]) -> list[Countable]:
    """The events that add to that sum."""
    return [
        event
        for event in events
        if row_key in {key.place.row_key for key in sum_keys_of(subject, event)}
    ]


def _ranges(ids: Sequence[UUID]) -> list[tuple[UUID, UUID]]:
    """Ranges that contain the ids, without gaps over RANGE_GAP_SECONDS: no scan of a whole month.

    The first 48 bits of an id are its creation time in milliseconds (UUIDv7). Any other id merely
    gets a range of its own.
    """
    ranges: list[tuple[UUID, UUID]] = []
    for each in sorted(ids):
        if ranges and (each.int >> 80) - (ranges[-1][1].int >> 80) <= RANGE_GAP_SECONDS * 1000:
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
        row = SumRow(key=key, sums=known.sums + added, revision=next_revision(known))
        columns = row.columns()
        check_range(key, columns)
        rows.append(replace(before, columns=columns))
    return rows
