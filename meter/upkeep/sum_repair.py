"""Repairs wrong sums of a ledger from its markers.

An hour or day that has a row of its own is repaired there. Where another sum is wrong, its month's row may
not say any more what is open. Then all that is open there gets a row of its own, the month's row says
that nothing is open up to the latest window (`packing/packed.py`), and only then missing rows are added.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import batched, groupby

from meter.errors import LedgerMissing, TableMissing
from meter.ledger.fold import Sums
from meter.ledger.keys import SUM_PREFIX, SumKey, ledger_table
from meter.ledger.optimistic import MAX_TRANSACTION_ROWS
from meter.ledger.packing.packed import OPEN_COLUMNS, OpenSum, nothing_open, open_column
from meter.ledger.rows import SumRow, cleared_counts, read_revision
from meter.ports import Row, RowStore, Written
from meter.upkeep.share import Share
from meter.window import Period, Window

_CLOSING_ROWS = 3  # of a month, and what was open in it


@dataclass(slots=True)
class _Writes:
    """The rows of a transaction, and the keys of the sums that it repairs."""

    insert: list[Row] = field(default_factory=list)
    update: list[Row] = field(default_factory=list)
    delete: list[Row] = field(default_factory=list)
    keys: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class SumRepair:
    """Writes to a share of a month's ledger, and to what was read of it."""

    store: RowStore
    share: Share
    right: Mapping[str, tuple[SumKey, Sums]]
    """What the markers add up to, by row key."""
    _opened: dict[str, list[OpenSum]] = field(default_factory=lambda: defaultdict(list))
    """By the key of their month's row."""

    def __post_init__(self) -> None:
        for row in self.share.sums.values():
            if isinstance(row, OpenSum):
                self._opened[row.home].append(row)

    async def run(self, keys: Sequence[str]) -> list[str]:
        """Repair these wrong sums; gives those that were not changed meanwhile, so that are right now.

        Raises StorageUnavailable, LedgerMissing.
        """
        wrong: defaultdict[str, list[str]] = defaultdict(list)
        for key in keys:
            wrong[_name_in(key)].append(key)
        unsound = {_name_in(key) for key in keys if self._is_unsound(key)}
        latest = self._latest(unsound)
        done: list[str] = []
        for names in batched(sorted(unsound), MAX_TRANSACTION_ROWS // _CLOSING_ROWS, strict=False):
            writes = _Writes()
            for name in names:
                self._close(writes, name, wrong[name], latest[name])
            if await self._write(writes):
                done += writes.keys
                unsound.difference_update(names)
        left = set(keys).difference(done)
        for some in in_transactions(key for key in keys if key in left):
            sound = [key for key in some if _name_in(key) not in unsound]
            writes = _Writes(keys=sound)
            for key in sound:
                self._repair(writes, key)
            if sound and await self._write(writes):
                done += sound
        return done

    def _is_unsound(self, key: str) -> bool:
        is_own = type(self.share.sums.get(key)) is Row
        return not is_own or key.startswith(f"{SUM_PREFIX}{self.share.month.name}|")

    def _latest(self, names: set[str]) -> Mapping[str, Mapping[Period, Window]]:
        """The latest hour and day of these dimensions."""
        found: defaultdict[str, dict[Period, Window]] = defaultdict(dict)
        for key in (*self.right, *self.share.sums):
            _, text, name = key.split("|", 2)
            window = Window(text)
            if name in names and (period := window.period) in OPEN_COLUMNS:
                found[name][period] = max(window, found[name].get(period, window))
        return found

    def _close(
        self, writes: _Writes, name: str, wrong: Sequence[str], latest: Mapping[Period, Window]
    ) -> None:
        month_key = f"{SUM_PREFIX}{self.share.month.name}|{name}"
        stored, opened = self.share.sums.get(month_key), self._opened[month_key]
        here = {month_key, *(row.key for row in opened)}
        writes.keys += [key for key in wrong if key in here]
        if month_key not in self.right:
            assert stored is not None, "a wrong sum is stored or counted"
            writes.delete.append(stored)
            return
        key, _ = self.right[month_key]
        columns = self._right_columns(month_key, stored) if month_key in wrong else {}
        for window in latest.values():
            columns |= open_column(nothing_open(SumKey(window, key.dimensions)))
        if stored is None:
            writes.insert.append(Row(key=month_key, columns=columns))
        else:
            writes.update.append(Row(key=month_key, columns=columns, etag=stored.etag))
        for row in opened:
            if row.key not in wrong:
                writes.insert.append(Row(key=row.key, columns=row.columns))
            elif row.key in self.right:
                new = self._right_columns(row.key, row)
                writes.insert.append(Row(key=row.key, columns=new))

    def _repair(self, writes: _Writes, key: str) -> None:
        stored = self.share.sums.get(key)
        if key not in self.right:
            assert stored is not None, "a wrong sum is stored or counted"
            writes.delete.append(stored)
        elif stored is None:
            writes.insert.append(Row(key=key, columns=self._right_columns(key, None)))
        else:
            columns = self._right_columns(key, stored)
            writes.update.append(Row(key=key, columns=columns, etag=stored.etag))

    def _right_columns(self, row_key: str, stored: Row | None) -> dict[str, object]:
        key, sums = self.right[row_key]
        columns = SumRow(key=key, sums=sums, revision=1).ledger_columns()
        if stored is not None:
            columns["Revision"] = read_revision(stored.columns) + 1
            if not isinstance(stored, OpenSum):
                columns |= cleared_counts(stored.columns, columns)
        return columns

    async def _write(self, writes: _Writes) -> bool:
        ledger = ledger_table(self.share.month)
        try:
            result = await self.store.write(
                ledger,
                self.share.partition,
                insert=writes.insert,
                update=writes.update,
                delete=writes.delete,
                creates_table=False,
            )
        except TableMissing as exc:
            raise LedgerMissing(f"{ledger} was dropped just now") from exc
        if not isinstance(result, Written):
            return False
        for row in writes.delete:
            self._forget(row.key)
        for row in (*writes.update, *writes.insert):  # of months first
            before = self.share.sums.get(row.key)
            self._forget(row.key)
            columns = {**(before.columns if before else {}), **row.columns}
            for name in OPEN_COLUMNS.values():
                columns.pop(name, None)
            self.share.sums[row.key] = Row(key=row.key, columns=columns, etag=result.etags[row.key])
        return True

    def _forget(self, key: str) -> None:
        """A row was written: nothing is known of what is open in it, unless it is closed just now."""
        self.share.sums.pop(key, None)
        for row in self._opened.pop(key, ()):
            self.share.sums.pop(row.key, None)


def in_transactions(keys: Iterable[str]) -> Iterable[tuple[str, ...]]:
    """Sorted row keys of sums, window by window, a transaction's rows at most."""
    for _, group in groupby(keys, key=lambda key: key.split("|", 2)[1]):
        yield from batched(group, MAX_TRANSACTION_ROWS, strict=False)


def _name_in(row_key: str) -> str:
    """The dimensions in the key of a sum's row."""
    return row_key.split("|", 2)[2]
