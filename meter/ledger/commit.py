"""Counts each call once: its marker row and the sums it adds to are one transaction.

The ledger of a month is one table, a bucket of subjects one partition (`meter/bucket.py`):

| row key                                  | columns                  | written                         |
|------------------------------------------|--------------------------|---------------------------------|
| `c|` event id `|` subject                | see `markers.py`         | insert: fails if it exists      |
| `s|` window `|` dimensions               | see `rows.py`, `packing` | insert, or update if unchanged  |
| `v|` writer                              | see `marks.py`           | with each transaction           |

Table Storage applies an entity-group transaction whole or not at all. So a repeated event fails the
transaction because its marker is there, a concurrent writer because the sum has another etag, and
a writer that dies leaves nothing. After a conflict the markers show which calls are already
counted; the others are added to the sums as they are then. When it is unknown whether a transaction
was applied, the batch fails and is delivered again: then the markers decide. Where a redelivery is
likely the markers are asked first, which is one query and no transaction.

A transaction holds calls of many subjects. If one of its rows makes it fail, it is split until the
culprit stands alone. Some events can never be counted: those of a month whose ledger was dropped,
since its markers are gone, and those that a damaged sum, an overflow or the service itself refuses.
They are given back with the reason; all others are counted.
"""

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from msgspec import Struct

from meter.adjustment import Countable
from meter.errors import LedgerDamaged, RowsRefused, StorageUnavailable, TableMissing
from meter.ledger.decode import Reason, Refusal
from meter.ledger.fold import Entry, entries_of, keys_of
from meter.ledger.keys import SumKey, call_row_key, call_row_range, ledger_table, view_range
from meter.ledger.markers import marker_row
from meter.ledger.marks import Marks, Place
from meter.ledger.memory import MOST_KNOWN_BYTES
from meter.ledger.optimistic import MAX_CONFLICTS, MAX_TRANSACTION_ROWS
from meter.ledger.packing.adding import Opened, changed
from meter.ledger.rows import SumRow
from meter.ledger.sums import KnownSums
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Clock, Conflict, RowStore
from meter.window import Period, Window

RANGE_GAP_SECONDS = 5
# A refusal may be a passing fault of the service or of something before it; not so often in a row.
MAX_REFUSALS = 5
# Throttled rows must not keep the others from being counted; an outage of all must not be asked about
# for as long as a batch has events. It is one if so many transactions fail, and none succeeds for so long.
MAX_OUTAGES = 8
OUTAGE_SECONDS = 10.0

log = logging.getLogger(__name__)

type EventKey = tuple[str, UUID]  # subject and id: ids are unique per subject


@dataclass(slots=True, kw_only=True)
class Committed:
    """What became of some events of a bucket.

    Those that `failed` must be delivered again; those that are `refused` can never be counted.
    """

    new: set[EventKey] = field(default_factory=set)
    repeated_calls: int = 0
    refused: dict[EventKey, Refusal] = field(default_factory=dict)
    failed: dict[EventKey, StorageUnavailable] = field(default_factory=dict)


class _Item(Struct, frozen=True, gc=False):
    """An event and what it adds."""

    key: EventKey
    event: Countable
    entries: Sequence[Entry]

    @property
    def row_key(self) -> str:
        return call_row_key(self.event.id, self.event.subject)


class Trouble:
    """Tells some failing rows or partitions from an outage of all. One batch owns it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._failures = 0
        self._answered_at = clock.monotonic()
        self.outage = StorageUnavailable("storage does not answer")

    def note(self, failure: StorageUnavailable | None) -> None:
        """Note the end of a transaction; refused rows and conflicts are an answer, too."""
        if failure is None or isinstance(failure, RowsRefused | _Contended):
            self._failures, self._answered_at = 0, self._clock.monotonic()
        else:
            self._failures, self.outage = self._failures + 1, failure

    def is_outage_of_all(self) -> bool:
        """Whether to try nothing more in this delivery."""
        seconds = self._clock.monotonic() - self._answered_at
        return self._failures >= MAX_OUTAGES and seconds >= OUTAGE_SECONDS


@dataclass(slots=True, kw_only=True)
class _Share:
    """A bucket's events of one month, and what has become of them."""

    month: Window
    place: Place
    creates_table: bool
    splits: bool
    trouble: Trouble
    result: Committed = field(default_factory=Committed)

    def refuse(self, items: Sequence[_Item], reason: Reason, detail: str) -> None:
        self.result.refused |= {item.key: Refusal(reason, detail) for item in items}

    def fail(self, items: Sequence[_Item], failure: StorageUnavailable) -> None:
        self.result.failed |= {item.key: failure for item in items}


class _Contended(StorageUnavailable):
    """Conflicts did not end, or the rows are too many."""


class Committer:
    """Writes the ledger. `on_commit` gets the sums of each transaction as soon as it is applied."""

    def __init__(
        self,
        store: RowStore,
        marks: Marks,
        on_commit: Callable[[Sequence[SumRow]], None],
        most_known_bytes: int = MOST_KNOWN_BYTES,
    ) -> None:
        self._store = store
        self._marks = marks
        self._on_commit = on_commit
        self._sums = KnownSums(store, most_known_bytes)
        self._refusals: Counter[tuple[str, Window]] = Counter()

    async def commit(
        self,
        partition: str,
        month: Window,
        events: Sequence[Countable],
        *,
        has_ended: bool = False,
        may_be_repeats: bool = False,
        splits: bool = False,
        trouble: Trouble | None = None,
    ) -> Committed:
        """Count events of one ledger partition and one month. Storage that fails is in the result.

        The table of a month that `has_ended` may have been dropped, and is not begun again then. With
        `splits`, a transaction that storage does not answer is split, too, but in an outage of all.
        `trouble` is that of the whole batch.
        """
        share = _Share(
            month=month,
            place=(ledger_table(month), partition),
            creates_table=not has_ended,
            splits=splits,
            trouble=trouble or Trouble(self._marks.clock),
        )
        unique = {(event.subject, event.id): event for event in reversed(events)}
        items = [_Item(k, e, entries_of(k[0], e)) for k, e in reversed(unique.items())]
        items.sort(key=lambda item: item.entries[0][0][0].dimensions)  # a sum's in one transaction
        async with self._marks.lock(share.place):
            for chunk in _chunks(items, Opened(self._sums.recall)):
                if share.result.failed and not splits:
                    share.fail(chunk, next(iter(share.result.failed.values())))
                else:
                    await self._count(share, chunk, asks_first=may_be_repeats)
            if not share.result.failed:
                await self._take_over(share)
        result = share.result
        lost = result.refused.keys() | result.failed.keys()
        counted = [e for e in events if (e.subject, e.id) not in lost] if lost else events
        result.repeated_calls = len(counted) - len(result.new - lost)
        return result

    async def _take_over(self, share: _Share) -> None:
        """Show what a process that had the partition before may have left when it died."""
        try:
            first = await self._marks.foreign(share.place)
            if first is not None:
                self._on_commit(await self._sums.read_since(share.place, first, share.month))
        except StorageUnavailable as exc:  # the sweep will
            log.warning("marks_unread table=%s reason=%s", share.place[0], exc)

    async def _count(self, share: _Share, chunk: Sequence[_Item], *, asks_first: bool) -> None:
        """Commit a chunk, less its events that can never be counted, or not now."""
        if share.trouble.is_outage_of_all():
            share.fail(chunk, share.trouble.outage)
            return
        seems_dropped = False
        while chunk:
            try:
                await self._commit_chunk(share, chunk, asks_first=asks_first)
                share.trouble.note(None)
                return
            except LedgerDamaged as exc:
                # Every turn leaves out all events of one more row, so the turns end. Calls that are
                # counted stay in, and are not added again: their sums may not be shown yet.
                uncounted = await self._uncounted(share, chunk)
                hit = {item.key for item in uncounted if _adds_to(exc.row, item)}
                share.refuse(
                    [item for item in chunk if item.key in hit], Reason.CANNOT_BE_STORED, str(exc)
                )
                chunk = [item for item in chunk if item.key not in hit]
                asks_first = True
            except TableMissing:
                if await self._was_dropped(share.month):
                    if not seems_dropped:  # or it was begun, and shown, just now
                        seems_dropped = True
                        continue
                    detail = f"{share.place[0]} was dropped, and what it had counted is not known"
                    share.refuse(chunk, Reason.MONTH_CLOSED, detail)
                    return
                share.creates_table = True
            except StorageUnavailable as exc:
                await self._after_failure(share, chunk, exc)
                return

    async def _after_failure(
        self, share: _Share, chunk: Sequence[_Item], failure: StorageUnavailable
    ) -> None:
        """Count the halves; of a single event, say that it must be delivered again, or never."""
        share.trouble.note(failure)
        is_ours = isinstance(failure, RowsRefused | _Contended)
        if len(chunk) > 1 and (is_ours or share.splits):
            middle = len(chunk) // 2
            for half in (chunk[:middle], chunk[middle:]):
                await self._count(share, half, asks_first=True)
            return
        if not isinstance(failure, RowsRefused):
            share.fail(chunk, failure)
            return
        (item,) = chunk
        place = item.event.subject, share.month
        self._refusals[place] += 1
        if self._refusals[place] < MAX_REFUSALS:
            share.fail(chunk, failure)
        else:
            share.refuse(chunk, Reason.CANNOT_BE_STORED, f"{share.place[1]}: {failure}")

    async def _commit_chunk(
        self, share: _Share, chunk: Sequence[_Item], *, asks_first: bool
    ) -> None:
        new, has_conflicts = chunk, False
        for _ in range(MAX_CONFLICTS):
            if asks_first:
                # Before the sums are read, so these are never older than the markers.
                new = await self._uncounted(share, chunk)
            if not new:
                break
            if await self._write(share, new, reads=has_conflicts):
                share.result.new.update(item.key for item in new)
                for item in new if self._refusals else ():
                    self._refusals.pop((item.event.subject, share.month), None)
                break
            asks_first = has_conflicts = True
        else:
            raise _Contended(
                f"{share.place[0]}: {MAX_CONFLICTS} conflicts in a row in one partition"
            )
        if len(new) < len(chunk):
            done = {item.key for item in new}
            await self._show_repeats(share, [item for item in chunk if item.key not in done])

    async def _write(self, share: _Share, new: Sequence[_Item], *, reads: bool) -> bool:
        """Apply one transaction; whether it was, or met a conflict."""
        entries = [entry for item in new for entry in item.entries]
        months = {keys[2] for keys, _ in entries}
        change = changed(entries, await self._sums.known(share.place, months, reads=reads))
        if reads and not await self._sums.can_close(share.place, change):
            return False
        late = await self._sums.known(share.place, change.late, reads=reads)
        packed = change.written(late)
        mark = self._marks.row(share.place, change.sums)
        written = [*(row for _, row in packed), mark]
        if len(written) + len(new) > MAX_TRANSACTION_ROWS and len(new) > 1:
            raise _Contended(f"{share.place[0]}: more rows than a transaction has")
        try:
            result = await self._store.write(
                *share.place,
                insert=[
                    *(marker_row(item.event) for item in new),
                    *(row for row in written if row.etag is None),
                ],
                update=[row for row in written if row.etag is not None],
                creates_table=share.creates_table,
            )
        except StorageUnavailable as exc:
            self._sums.forget(change.keys())
            if not isinstance(exc, RowsRefused):  # it may have been applied
                self._marks.leave(share.place)
            raise
        if isinstance(result, Conflict):
            self._sums.forget(change.keys())
            await self._marks.refresh(share.place)
            return False
        self._marks.written(share.place, result.etags[mark.key])
        self._sums.put((each, result.etags[row.key]) for each, row in packed)
        self._on_commit(list(change.sums.values()))
        return True

    async def _show_repeats(self, share: _Share, items: Sequence[_Item]) -> None:
        """Who counted them may have died before showing them; its mark is taken up only later."""
        keys = keys_of(entry for item in items for entry in item.entries)
        self._sums.forget(keys)
        self._on_commit(await self._sums.stored(share.place, keys))

    async def _uncounted(self, share: _Share, items: Sequence[_Item]) -> list[_Item]:
        ranges = _ranges([item.event.id for item in items])
        found = await asyncio.gather(
            *(
                self._store.keys_between(*share.place, *call_row_range(first, last))
                for first, last in ranges
            )
        )
        counted = set[str]().union(*found)
        return [item for item in items if item.row_key not in counted]

    async def _was_dropped(self, month: Window) -> bool:
        """Whether the month's ledger had calls: their view rows outlive it."""
        first, last = view_range(month, month)
        rows = self._store.scan(
            VIEW_TABLES[Period.MONTH], first_partition=first, last_partition=last, columns=()
        )
        async for _ in rows:
            return True
        return False


def _chunks(items: Sequence[_Item], opened: Opened) -> Iterator[list[_Item]]:
    """Split the events so that the rows of a chunk fit into one transaction, with a mark."""
    chunk: list[_Item] = []
    keys: set[SumKey] = set()
    for item in items:
        own = opened.rows_of(item.entries)
        if chunk and len(chunk) + 2 + len(keys) + len(own - keys) > MAX_TRANSACTION_ROWS:
            yield chunk
            chunk, keys = [], set()
        chunk.append(item)
        keys |= own
    if chunk:
        yield chunk


def _adds_to(row_key: str, item: _Item) -> bool:
    return any(key.row_key == row_key for key in keys_of(item.entries))


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
