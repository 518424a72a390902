"""Checks a ledger against itself: each sum must be what the markers of its calls add up to.

A marker and the sums it adds to are written in one transaction, so a difference is damage: rows
that were changed or deleted by hand, or a defect. Markers are the truth, since each stands for one
call; sums can be repaired from them.

Calls are counted while the check reads (`share.py`): the markers of a sum must add up to a value between
its two states; if the sum did not change, to the sum itself. Where a sum moved and that is no proof,
or a repair lost a race, its subject's markers and sums are read again.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey, parse_sum_key, subject_key
from meter.ledger.rows import (
    ADJUSTMENT_COLUMNS,
    PLACE_COLUMNS,
    SumRow,
    key_columns,
    sums_columns,
)
from meter.ports import Row, RowStore
from meter.upkeep.differences import Difference, Kind, WrongColumn, difference_of
from meter.upkeep.share import Share, read_share
from meter.upkeep.sum_repair import SumRepair
from meter.window import Window

MAX_LOOKS = 5

type Wrong = dict[str, tuple[WrongColumn, ...]]
"""Wrong sums by row key, with what is wrong of them."""

# They may lie outside of two states of a sum that moved: adjustments may be negative.
_UNSURE = ADJUSTMENT_COLUMNS | set(PLACE_COLUMNS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audited:
    """A share as it was last read, its differences, and the row keys of sums that are still wrong."""

    share: Share
    differences: list[Difference]
    damaged: frozenset[str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """Checks ledger partitions, or `only` some subjects; with `repairs` it also repairs wrong sums."""

    store: RowStore
    month: Window
    repairs: bool
    only: Collection[str] | None = None

    async def check(
        self, partition: str, progress: Callable[[int], None] = lambda _: None
    ) -> Audited:
        """Check one partition. Raises StorageUnavailable, LedgerMissing if it is dropped meanwhile."""
        share = await read_share(
            self.store, self.month, partition, only=self.only, progress=progress
        )
        part, found = share, wrong_sums(share)
        wrong = dict(found)
        repaired: Wrong = {}
        for look in range(MAX_LOOKS):
            if self.repairs:
                for key in await self._repair(share, part, found):
                    repaired[key] = wrong.pop(key)
            unsure = {subject_key(key) for key in wrong if self._is_unsure(share, part, key, wrong)}
            if not unsure or look == MAX_LOOKS - 1:
                break
            part = await read_share(
                self.store, self.month, partition, only=unsure, before=share.sums
            )
            share.replace(part)
            found = wrong_sums(part)
            wrong = {k: v for k, v in wrong.items() if subject_key(k) not in unsure} | found
        return Audited(
            share=share,
            differences=differences_of(share, repaired, wrong),
            damaged=frozenset(wrong),
        )

    def _is_unsure(self, share: Share, part: Share, key: str, wrong: Wrong) -> bool:
        if self.repairs:
            return not share.is_hidden(key)
        is_moved = part.before.get(key) != part.sums.get(key)
        return is_moved and all(column.name in _UNSURE for column in wrong[key])

    async def _repair(self, share: Share, part: Share, wrong: Wrong) -> list[str]:
        if not wrong:
            return []
        # A sum that changed while its markers were read is checked again first.
        unchanged = [
            key
            for key in sorted(wrong)
            if part.before.get(key) == part.sums.get(key)
            and not share.is_hidden(key)
            and not part.is_hidden(key)
        ]
        right = {key.place.row_key: (key, sums) for key, sums in part.counted().items()}
        return await SumRepair(store=self.store, share=share, right=right).run(unchanged)


def differences_of(share: Share, repaired: Wrong, wrong: Wrong) -> list[Difference]:
    """The wrong sums and the unreadable rows of a share, as differences."""
    differences = [
        Difference(kind=Kind.UNREADABLE, subject=share.partition, detail=text)
        for text in share.unreadable
    ]
    for sums, is_repaired in ((repaired, True), (wrong, False)):
        for key, columns in sums.items():
            place = parse_sum_key(share.partition, key)
            differences.append(
                difference_of(Kind.WRONG_SUM, place, columns, is_repaired=is_repaired)
            )
    return differences


def wrong_sums(share: Share) -> Wrong:
    """Sums that the markers cannot have added up to."""
    wrong: Wrong = {}
    left = set(share.sums)
    for key, sums in share.counted().items():
        row_key = key.row_key
        left.discard(row_key)
        before, after = share.before.get(row_key), share.sums.get(row_key)
        if after is not None and _is_just(after, key, sums):
            continue
        right = key_columns(key) | sums_columns(sums)
        if found := _wrong_columns(right, before, after):
            wrong[row_key] = found
    for row_key, damage in share.damages.items():
        cell = WrongColumn(damage.column, "unreadable", None)
        wrong[row_key] = *wrong.get(row_key, ()), cell
    for row_key in left:
        before, after = share.before.get(row_key), share.sums[row_key]
        if found := _wrong_columns(_NOTHING, before, after):
            wrong[row_key] = *wrong.get(row_key, ()), *found
    return dict(sorted(wrong.items()))


def _is_just(row: Row, key: SumKey, sums: Sums) -> bool:
    """Whether the row is as the app writes that sum, as nearly all are."""
    columns = SumRow(key=key, sums=sums, revision=0).ledger_columns()
    columns["Revision"] = row.columns.get("Revision")
    return columns == row.columns


_NOTHING = {name: n for name, n in sums_columns(Sums()).items() if isinstance(n, int)}


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
        if value != found and not _lies_between(value, earlier, found):
            wrong.append(WrongColumn(name, found, value))
    return tuple(wrong)


def _lies_between(value: object, one: object, other: object) -> bool:
    match value, one, other:
        case int(), int(), int():
            return min(one, other) <= value <= max(one, other)
        case datetime(), datetime(), datetime():
            return min(one, other) <= value <= max(one, other)
        case _:
            return value == one
