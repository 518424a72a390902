"""Reads a ledger partition's share of a month: its sums, and the totals of its markers.

Calls are counted meanwhile. So the sums are read first, then the markers, then the sums again: what
the markers add up to lies between the two, since a sum is written together with its markers. Sums that
are open in a month's row are as if they had rows of their own (`packing/packed.py`).

Only totals are kept of the markers, since a partition has 156,000 of them at 10 million calls.
"""

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from meter.adjustment import CountedAdjustment
from meter.errors import LedgerDamaged
from meter.ledger.adjusting.notes import read_notes
from meter.ledger.fold import Entry, Sums, add_up, compacted, entries_of
from meter.ledger.keys import (
    CALL_PREFIX,
    LAST_KEY,
    SUM_PREFIX,
    SumKey,
    escape,
    ledger_partition,
    ledger_table,
    parse_sum_key,
    subject_key,
    sums_of_window,
)
from meter.ledger.markers import read_marker, subject_of
from meter.ledger.packing.packed import OpenSum, Unpacked, two_places, unpacked
from meter.ledger.packing.scanning import rows_between
from meter.ports import Row, RowStore
from meter.usage import CountedCall
from meter.window import Window, parse_window

# Enough to add up many calls of a sum at once.
MOST_ENTRIES = 10_000
REPORT_EVERY = 1_000


@dataclass(slots=True, kw_only=True)
class Share:
    """A ledger partition's share of a month, or that of some of its subjects (as in row keys)."""

    partition: str
    month: Window
    only: Collection[str] | None = None
    calls: int = 0
    subjects: set[str] = field(default_factory=set)
    before: dict[str, Row] = field(default_factory=dict)
    """The sums as they were before the markers were read, by row key."""
    sums: dict[str, Row] = field(default_factory=dict)
    """The sums as they were afterwards."""
    damages: dict[str, LedgerDamaged] = field(default_factory=dict)
    """What cannot be read of open sums, by the key of their month's row."""
    unreadable: list[str] = field(default_factory=list)
    """What is said of rows that are not as the app writes them."""
    each: Callable[[Row, str, CountedCall | CountedAdjustment], None] | None = None
    """Gets each marker with its subject before it is counted; a ValueError says it is unreadable."""
    _hidden: set[str | None] = field(default_factory=set)
    _entries: list[Entry] = field(default_factory=list)
    _compacted: int = 0
    _names: dict[str, str] = field(default_factory=dict)
    _latest: dict[tuple[str, int], tuple[Window, Row]] = field(default_factory=dict)
    """What months' rows say of the latest hour and day, by dimensions and length of name."""
    _misplaced: dict[str, str | None] = field(default_factory=dict)
    """Rows that their month says cannot be, as they were read first, with the month's etag."""
    _windows: set[str] = field(default_factory=set)

    def counted(self) -> dict[SumKey, Sums]:
        """What the markers add up to."""
        return add_up(self._entries)

    def has(self, row: Row) -> bool:
        """Whether the row is of one of the subjects."""
        return self.only is None or _subject_key(row.key) in self.only

    def add(self, row: Row) -> None:
        """Add one row of the partition. Markers come before sums."""
        try:
            match row.key[:2]:
                case "c|":
                    self._add_marker(row)
                case "s|":
                    self._add_sums(row)
                case "a|":
                    read_notes(row)
                case "v|":
                    pass  # says what is shown, not what is counted
                case _:
                    parse_sum_key(self.partition, row.key)
        except ValueError as exc:
            self.unreadable.append(str(exc))
            if row.key.startswith(CALL_PREFIX):
                self._hidden.add(_subject_key(row.key))

    def is_quiet(self) -> bool:
        """Whether nothing was counted while the markers were read."""
        etags = {key: row.etag for key, row in self.sums.items()}
        return etags == {key: row.etag for key, row in self.before.items()}

    def is_hidden(self, row_key: str) -> bool:
        """Whether it is unknown what that sum should be: a marker cannot be read.

        One that names no subject may be of any.
        """
        return None in self._hidden or subject_key(row_key) in self._hidden

    def replace(self, part: "Share") -> None:
        """Take the sums of some subjects as they were read later."""
        for key in [key for key, row in self.sums.items() if part.has(row)]:
            del self.sums[key]
        self.sums |= part.sums
        for key in [
            key for key in self.damages if part.only is None or subject_key(key) in part.only
        ]:
            del self.damages[key]
        self.damages |= part.damages

    def _add_marker(self, row: Row) -> None:
        subject = self._subject(row)
        call = read_marker(row)
        entries = entries_of(subject, call)
        if entries[0][0][-1].window != self.month:
            raise ValueError(f"{row.key} is of {call.time.isoformat()}, which is another month")
        if self.each is not None:
            self.each(row, subject, call)
        self.calls += not isinstance(call, CountedAdjustment)
        self._entries += entries
        if len(self._entries) > MOST_ENTRIES + 2 * self._compacted:
            self._entries = compacted(self._entries)
            self._compacted = len(self._entries)

    def _subject(self, row: Row) -> str:
        """The subject of a marker. Raises ValueError if that belongs elsewhere."""
        key = _subject_key(row.key)
        if key is None:
            raise ValueError(f"{row.key} cannot be read: it names no subject")
        subject = self._names.get(key)
        if subject is None:
            subject = subject_of(row)
            if escape(subject) != key:
                raise ValueError(f"{row.key} cannot be read: its subject is {subject!r:.60}")
            if ledger_partition(subject) != self.partition:
                raise ValueError(f"{row.key} belongs in partition {ledger_partition(subject)}")
            self._names[key] = subject
            self.subjects.add(key)
        return subject

    def add_earlier(self, row: Row) -> None:
        """Add a row of sums that was read before the markers."""
        with suppress(ValueError):  # told when it is read again
            found = unpacked(self.partition, row)
            self._note_latest(row, found)
            for each in found.rows:
                if (month := self._misplaced_in(each, self.before)) is not None:
                    self._misplaced[each.key] = month.etag
                self.before[each.key] = each

    def _add_sums(self, row: Row) -> None:
        found = unpacked(self.partition, row)
        for each in found.rows:
            self._add_sum(each)
        for damage in found.damages:
            self.damages[row.key] = damage
        self._note_latest(row, found)

    def _note_latest(self, row: Row, found: Unpacked) -> None:
        for window in found.latest.values():
            self._latest[row.key.split("|", 2)[2], len(window.name)] = window, row

    def _misplaced_in(self, row: Row, sums: Mapping[str, Row]) -> Row | None:
        """The month's row that says that this row of an hour or a day cannot be, if it does."""
        _, text, name = row.key.split("|", 2)
        latest, month = self._latest.get((name, len(text)), (None, None))
        if latest is None or isinstance(row, OpenSum) or text < latest.name:
            return None
        is_free = text == latest.name and not isinstance(sums.get(row.key), OpenSum)
        return None if is_free else month

    def _add_sum(self, row: Row) -> None:
        place = parse_sum_key(self.partition, row.key)
        if place.window not in self._windows:
            if not parse_window(place.window).name.startswith(self.month.name):
                raise ValueError(f"{row.key} is of another month")
            self._windows.add(place.window)
        self.subjects.add(place.names[0])
        before = self.before.get(row.key)
        month = self._misplaced_in(row, self.sums)
        if month is not None and self._misplaced.get(row.key) == month.etag:
            # Else it was closed while the rows were read.
            self.damages[month.key] = two_places(self.partition, month.key, Window(place.window))
        # The same object for both, since there are many.
        is_same = before is not None and (before.etag, type(before)) == (row.etag, type(row))
        self.sums[row.key] = before if before is not None and is_same else row


async def read_share(
    store: RowStore,
    month: Window,
    partition: str,
    *,
    only: Collection[str] | None = None,
    before: Mapping[str, Row] | None = None,
    each: Callable[[Row, str, CountedCall | CountedAdjustment], None] | None = None,
    progress: Callable[[int], None] = lambda _: None,
) -> Share:
    """Read a partition, or the rows of some subjects; `progress` gets how many calls more were read.

    `before` are the sums as they were already read before. Raises StorageUnavailable.
    """
    share = Share(partition=partition, month=month, only=only, each=each)
    if before is not None:
        share.before |= {key: row for key, row in before.items() if share.has(row)}
    else:
        async for row in _sums(store, share):
            share.add_earlier(row)
    reported = 0
    async for row in _rows(store, share):
        share.add(row)
        if share.calls >= reported + REPORT_EVERY:
            progress(share.calls - reported)
            reported = share.calls
    progress(share.calls - reported)
    return share


async def _rows(store: RowStore, share: Share) -> AsyncIterator[Row]:
    """All rows, markers first and marks last."""
    async for row in _between(store, share, None, SUM_PREFIX):
        yield row
    async for row in _sums(store, share):
        yield row
    async for row in _between(store, share, SUM_PREFIX + LAST_KEY, None):
        yield row


async def _sums(store: RowStore, share: Share) -> AsyncIterator[Row]:
    """The rows of sums, months first, as nothing moves into these."""
    first, last = sums_of_window(share.month)
    for each in ((first, last), (SUM_PREFIX, first), (last, SUM_PREFIX + LAST_KEY)):
        async for row in _between(store, share, *each):
            yield row


async def _between(
    store: RowStore, share: Share, first: str | None, last: str | None
) -> AsyncIterator[Row]:
    place = ledger_table(share.month), share.partition
    async for row in rows_between(store, place, first, last):
        if share.has(row):
            yield row


def _subject_key(row_key: str) -> str | None:
    """The subject in the key of a row that may be no row of ours."""
    try:
        return subject_key(row_key) or None
    except IndexError:
        return None
