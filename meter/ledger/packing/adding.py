"""What events change in the rows of the ledger, by what is known of these rows."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from meter.ledger.fold import Entry, Sums, compacted, total_sums
from meter.ledger.keys import SumKey
from meter.ledger.packing.packed import Known, Packed
from meter.ledger.rows import SumRow, next_revision
from meter.ports import INT64, Row
from meter.window import Window

_NOTHING = Sums()


@dataclass(slots=True, kw_only=True)
class Change:
    """What some events change.

    `sums` are what changes, afterwards; `months` the rows of months with what was known of them;
    `closed` the sums that get a row of their own now, and `late` what is added to older such rows.
    """

    sums: dict[SumKey, SumRow] = field(default_factory=dict)
    months: list[tuple[Packed, Known | None]] = field(default_factory=list)
    closed: list[SumRow] = field(default_factory=list)
    late: dict[SumKey, Sums] = field(default_factory=dict)
    _latest: tuple[Sums, Sums, Sums] = (_NOTHING, _NOTHING, _NOTHING)

    def keys(self) -> list[SumKey]:
        """The keys of all rows that change."""
        months = (packed.row.key for packed, _ in self.months)
        return [*months, *(row.key for row in self.closed), *self.late]

    def added(self, before: SumRow | None, key: SumKey, sums: Sums) -> SumRow:
        """The sum with these added. While an hour, its day and its month are the same, they share it."""
        if before is None:
            return SumRow(key=key, sums=sums, revision=1)
        if self._latest[0] is not before.sums or self._latest[1] is not sums:
            self._latest = before.sums, sums, before.sums + sums
        # Under the key that is remembered: with its texts another takes half a kilobyte.
        return SumRow(key=before.key, sums=self._latest[2], revision=next_revision(before))

    def written(self, known: Mapping[SumKey, Known]) -> list[tuple[Packed, Row]]:
        """The rows to write, and what is in them then. `known` has the rows of what is late.

        Raises LedgerDamaged for an overflow.
        """
        rows = self.months[:]
        for key, added in self.late.items():
            before = known.get(key)
            row = self.added(None if before is None else before.packed.row, key, added)
            self.sums[key] = row
            rows.append((Packed(row), before))
        checked: Sums | None = None
        for row in self.sums.values():
            # An hour, its day and its month often share a sum, but not its revision.
            if row.sums is not checked or row.revision not in INT64:
                row.check_range()
                checked = row.sums
        found = [(Packed(row), Packed(row).new_row()) for row in self.closed]
        for packed, before in rows:
            row_of = (
                packed.new_row()
                if before is None
                else packed.changed_row(before.packed, before.etag)
            )
            found.append((packed, row_of))
        return found


def changed(entries: Iterable[Entry], known: Mapping[SumKey, Known]) -> Change:
    """What these events change; `known` has their months, and a month that is not there is new."""
    months: defaultdict[SumKey, list[Entry]] = defaultdict(list)
    for entry in compacted(entries):
        months[entry[0][2]].append(entry)
    change = Change()
    for key, parts in months.items():
        _add(change, key, parts, known.get(key))
    return change


def _add(change: Change, key: SumKey, parts: list[Entry], before: Known | None) -> None:
    days: Sequence[tuple[SumKey, Sums]]
    if len(parts) == 1:
        ((hour_key, day_key, _), total) = parts[0]
        hours, days = [(hour_key, total)], [(day_key, total)]
    else:
        parts.sort(key=_hour_of)
        hours = [(keys[0], sums) for keys, sums in parts]
        by_day: defaultdict[SumKey, list[Sums]] = defaultdict(list)
        for keys, sums in parts:
            by_day[keys[1]].append(sums)
        days = [(day, total_sums(of)) for day, of in by_day.items()]
        total = total_sums([sums for _, sums in parts])
    packed = None if before is None else before.packed
    month = change.added(None if packed is None else packed.row, key, total)
    change.sums[month.key] = month
    day = _advanced(change, None if packed is None else packed.day, days)
    hour = _advanced(change, None if packed is None else packed.hour, hours)
    change.months.append((Packed(month, day, hour), before))


def _advanced(
    change: Change, opened: SumRow | None, parts: Iterable[tuple[SumKey, Sums]]
) -> SumRow | None:
    """The open sum after these are added, in the order of windows."""
    for key, sums in parts:
        if opened is None or key.window > opened.key.window:
            if opened is not None:
                key = SumKey(key.window, opened.key.dimensions)
                if opened.revision:
                    change.closed.append(opened)
            opened = SumRow(key=key, sums=sums, revision=1)
        elif key.window == opened.key.window and opened.revision:
            opened = change.added(opened, key, sums)
        else:
            change.late[key] = sums
            continue
        change.sums[key] = opened
    return opened


def _hour_of(entry: Entry) -> str:
    return entry[0][0].window.name


class Opened:
    """Which rows events change, as far as it is remembered: a month that is not is taken for new."""

    def __init__(self, recall: Callable[[SumKey], Known | None]) -> None:
        self._recall = recall
        self._windows: dict[SumKey, tuple[Window | None, Window | None]] = {}

    def rows_of(self, entries: Iterable[Entry]) -> set[SumKey]:
        """A key for each row; for one that is closed, that of the sum which opens."""
        found: set[SumKey] = set()
        for (hour, day, month), _ in entries:
            found.add(month)
            windows = self._windows.get(month)
            if windows is None:
                known = self._recall(month)
                windows = hour.window, day.window
                if known is not None:
                    windows = _window(known.packed.hour), _window(known.packed.day)
                self._windows[month] = windows
            if hour.window != windows[0]:
                found.add(hour)
            if day.window != windows[1]:
                found.add(day)
        return found


def _window(row: SumRow | None) -> Window | None:
    return row.key.window if row is not None and row.revision else None
