"""Checks a ledger against itself: each sum must be what the markers of its calls add up to.

A marker and the sums it adds to are written in one transaction, so a difference is damage: rows
that were changed or deleted by hand, or a defect. Markers are the truth, since each stands for one
call; sums can be repaired from them.

Calls are counted while the check reads. A sum that looks wrong is therefore read again: its markers,
read after one state of the sum and before another, must add up to a value between the two; if the
sum did not change, to the sum itself.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched, groupby
from operator import attrgetter

from meter.adjustment import CountedAdjustment
from meter.errors import LedgerMissing, TableMissing
from meter.ledger.adjusting.notes import read_notes
from meter.ledger.fold import Sums, fold
from meter.ledger.keys import (
    ADJUSTED_PREFIX,
    CALL_PREFIX,
    FIRST_KEY,
    LAST_KEY,
    SumKey,
    SumPlace,
    ledger_table,
    parse_sum_key,
    unescape,
)
from meter.ledger.markers import read_marker
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.rows import SumRow, cleared_adjustments, key_columns, read_revision, sums_columns
from meter.ledger.subjects import SUBJECTS_PARTITION, SUBJECTS_TABLE
from meter.ports import Row, RowStore, Written
from meter.upkeep.differences import Difference, Kind, WrongColumn, difference_of, readable
from meter.window import Period, Window, parse_window, window_of

MAX_LOOKS = 5


@dataclass(slots=True, kw_only=True)
class Share:
    """One subject's share of a month's ledger: its sums, and the totals of its markers."""

    partition: str
    month: Window
    calls: int = 0
    counted: dict[SumKey, Sums] = field(default_factory=dict)
    sums: dict[str, Row] = field(default_factory=dict)
    unreadable: list[str] = field(default_factory=list)

    def add(self, row: Row) -> None:
        """Add one row of the partition."""
        try:
            if row.key.startswith(ADJUSTED_PREFIX):
                read_notes(row)
            elif row.key.startswith(CALL_PREFIX):
                self._add_marker(row)
            else:
                self._add_sum(row)
        except ValueError as exc:
            self.unreadable.append(str(exc))

    def _add_marker(self, row: Row) -> None:
        call = read_marker(row)
        if window_of(call.time, Period.MONTH) != self.month:
            raise ValueError(f"{row.key} is of {call.time.isoformat()}, which is another month")
        self.calls += not isinstance(call, CountedAdjustment)
        for key, sums in fold(readable(self.partition), [call]).items():
            known = self.counted.get(key)
            self.counted[key] = sums if known is None else known + sums

    def _add_sum(self, row: Row) -> None:
        place = parse_sum_key(self.partition, row.key)
        if not parse_window(place.window).name.startswith(self.month.name):
            raise ValueError(f"{row.key} is of another month")
        self.sums[row.key] = row


async def read_shares(
    store: RowStore, month: Window, *, first: str = FIRST_KEY, last: str = LAST_KEY
) -> AsyncIterator[Share]:
    """The shares of the subjects, one after the other. Raises StorageUnavailable."""
    share: Share | None = None
    rows = store.scan(ledger_table(month), first_partition=first, last_partition=last)
    async for partition, row in rows:
        if share is None or share.partition != partition:
            if share is not None:
                yield share
            share = Share(partition=partition, month=month)
        share.add(row)
    if share is not None:
        yield share


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A share as it was last read, its differences, and the row keys of sums that are still wrong."""

    share: Share
    differences: list[Difference]
    damaged: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Checks shares; with `repairs` it also repairs wrong sums."""

    store: RowStore
    month: Window
    repairs: bool

    async def check(self, share: Share) -> Audited:
        """Check one share, more than once if sums look wrong. Raises StorageUnavailable."""
        repaired: dict[str, tuple[WrongColumn, ...]] = {}
        wrong = _wrong_sums(share, share.sums)
        for look in range(MAX_LOOKS if wrong else 0):
            before, share = share, await self._read(share.partition)
            wrong = _wrong_sums(share, before.sums)
            if not wrong or not self.repairs or share.unreadable or look == MAX_LOOKS - 1:
                break
            for key in await self._repair(share, before.sums, wrong):
                repaired[key] = wrong[key]
        subject = readable(share.partition)
        differences = [
            Difference(kind=Kind.UNREADABLE, subject=subject, detail=text)
            for text in share.unreadable
        ]
        for sums, is_repaired in ((repaired, True), (wrong, False)):
            for key, columns in sums.items():
                place = parse_sum_key(share.partition, key)
                differences.append(
                    difference_of(Kind.WRONG_SUM, place, columns, is_repaired=is_repaired)
                )
        return Audited(share=share, differences=differences, damaged=frozenset(wrong))

    async def _read(self, partition: str) -> Share:
        shares = read_shares(self.store, self.month, first=partition, last=partition)
        found = [share async for share in shares]
        return found[0] if found else Share(partition=partition, month=self.month)

    async def _repair(
        self,
        share: Share,
        before: Mapping[str, Row],
        wrong: Mapping[str, tuple[WrongColumn, ...]],
    ) -> list[str]:
        subject = await self._subject_of(share.partition)
        if subject is None:
            return []
        right = {
            key.place.row_key: {
                **SumRow(key=key, sums=sums, revision=1).columns(),
                "Subject": subject,
            }
            for key, sums in share.counted.items()
        }
        # A sum that changed while its markers were read is checked again first.
        unchanged = [key for key in wrong if before.get(key) == share.sums.get(key)]
        repaired: list[str] = []
        for places in in_transactions(share.partition, unchanged):
            keys = [place.row_key for place in places]
            if await self._write(share, right, keys):
                repaired += keys
        return repaired

    async def _write(
        self, share: Share, right: Mapping[str, Mapping[str, object]], keys: Iterable[str]
    ) -> bool:
        insert, update, delete = [], [], []
        for key in keys:
            stored = share.sums.get(key)
            if key not in right:
                assert stored is not None, "a wrong sum is stored or counted"
                delete.append(stored)
            elif stored is None:
                insert.append(Row(key=key, columns=right[key]))
            else:
                columns = {**right[key], **cleared_adjustments(stored.columns, right[key])}
                columns["Revision"] = read_revision(stored.columns) + 1
                update.append(Row(key=key, columns=columns, etag=stored.etag))
        ledger = ledger_table(self.month)
        try:
            result = await self.store.write(
                ledger,
                share.partition,
                insert=insert,
                update=update,
                delete=delete,
                creates_table=False,
            )
        except TableMissing as exc:
            raise LedgerMissing(f"{ledger} was dropped just now") from exc
        return isinstance(result, Written)

    async def _subject_of(self, partition: str) -> str | None:
        subject = unescape(partition)
        if subject is None:  # the key holds only a hash
            rows = await self.store.read(SUBJECTS_TABLE, SUBJECTS_PARTITION, [partition])
            found = rows[partition].columns.get("Subject") if partition in rows else None
            subject = str(found) if found else None
        return subject


def in_transactions(partition: str, keys: Iterable[str]) -> Iterator[tuple[SumPlace, ...]]:
    """The places of one subject's sums, given window by window, a transaction's rows at most."""
    places = (parse_sum_key(partition, key) for key in keys)
    for _, group in groupby(places, key=attrgetter("window")):
        yield from batched(group, MAX_TRANSACTION_ROWS, strict=False)


def _wrong_sums(share: Share, before: Mapping[str, Row]) -> dict[str, tuple[WrongColumn, ...]]:
    """Sums that the markers cannot have added up to, by row key, with what is wrong.

    The markers were read after the sums were as in `before`, and before they were as they are.
    """
    right = {
        key.place.row_key: key_columns(key) | sums_columns(sums)
        for key, sums in share.counted.items()
    }
    is_hash = unescape(share.partition) is None
    wrong = {}
    for key in sorted(right.keys() | share.sums.keys()):
        columns = right.get(key, sums_columns(Sums()))
        if is_hash:
            columns.pop("Subject", None)
        found = _wrong_columns(columns, before.get(key), share.sums.get(key))
        if found:
            wrong[key] = found
    return wrong


def _wrong_columns(
    right: Mapping[str, object], before: Row | None, after: Row | None
) -> tuple[WrongColumn, ...]:
    wrong = []
    for name, value in right.items():
        is_count = isinstance(value, int)
        if not is_count and (before is None or after is None):
            continue  # an absent row has counts of 0 and no other columns to compare
        nothing = 0 if is_count else None
        earlier = nothing if before is None else before.columns.get(name, nothing)
        found = nothing if after is None else after.columns.get(name, nothing)
        if not _lies_between(value, earlier, found):
            wrong.append(WrongColumn(name, found, value))
    return tuple(wrong)


def _lies_between(value: object, one: object, other: object) -> bool:
    match value, one, other:
        case int(), int(), int():
            return min(one, other) <= value <= max(one, other)
        case datetime(), datetime(), datetime():
            return min(one, other) <= value <= max(one, other)
        case _:
            return value == one == other
