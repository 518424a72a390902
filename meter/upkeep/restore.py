"""Makes the views of a month equal to its ledger's sums, while calls are counted and shown.

A view row carries the revision of the sum it shows, and a sum is committed before it is shown. So a
view row whose revision is above that of its sum, when the sum is read after it, never came from the
ledger; nor did one with the same revision and other columns. Each row is written only if it is
unchanged (If-Match): a copy that the aggregator makes in between wins, and is checked again.

No revision is ever lowered, since an aggregator at work remembers what it saw and would take its next
copies for old ones: the sum of a view row that is ahead gets a revision above it first.

What differs is found by `comparison.py`.
"""

import asyncio
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from meter.errors import LedgerMissing, TableMissing
from meter.ledger.keys import SumPlace, ledger_table, parse_sum_key
from meter.ledger.optimistic import MAX_CONFLICTS
from meter.ledger.packing.packed import unpacked, with_revision
from meter.ledger.rows import SUM_COLUMNS, cleared_counts, read_revision, with_zeros
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore, Tables, Written
from meter.upkeep.differences import Difference, Kind, difference_of, differing
from meter.window import Period, Window

HIGHEST_REVISION = 2**62  # one that only a hand can have written; it is not outbid
_EQUAL_TYPES = frozenset({bool, float})
# Sums of tools' models alone have no calls.
_NEVER_LOWERED = ("Calls", "Adjustments", "TotalTokens")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Repair:
    """A wrong or missing view row, and the row to write there.

    `raised` gives the sum a revision above that of the view row; `lowers` says that the view row
    may show more than its sum.
    """

    place: SumPlace
    difference: Difference
    row: Row
    raised: Row | None
    lowers: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewRepair:
    """Repairs rows of one view partition at a time, at most a transaction of them.

    With `keeps`, no view row is removed, and none gets fewer calls than it shows.
    """

    store: RowStore
    tables: Tables
    month: Window
    is_dry_run: bool
    keeps: bool

    async def restore(
        self,
        partition: str,
        places: Sequence[SumPlace],
        sums: Mapping[SumPlace, Row],
        shown: Mapping[str, Row] | None = None,
    ) -> list[Difference]:
        """Show these sums of one window. Raises StorageUnavailable, LedgerMissing.

        `sums` and `shown` are as they were read just now; `shown` are view rows by row key.
        """
        period = Window(places[0].window).period
        wrong: list[_Repair] = []
        kept: list[_Repair] = []
        repaired: list[Difference] = []
        keys = [place.view_row_key for place in places]
        for _ in range(MAX_CONFLICTS):
            if shown is None:
                shown = await self.store.read(VIEW_TABLES[period], partition, keys)
            is_ahead = any(_is_ahead(*pair) for pair in _pairs(places, sums, shown))
            checked = [each for pair in _pairs(places, sums, shown) if (each := _checked(*pair))]
            kept = [each for each in checked if self.keeps and each.lowers]
            wrong = [each for each in checked if each not in kept]
            if not wrong or self.is_dry_run:
                break
            if await self._write(period, partition, wrong):
                repaired += [replace(each.difference, is_repaired=True) for each in wrong]
                wrong = []
                if not is_ahead:
                    break
            # While a view row seemed ahead, the aggregator may have skipped a newer copy.
            sums, shown = await self.read_sums(places), None
        stay = (replace(each.difference, is_kept=True) for each in kept)
        return [*repaired, *(each.difference for each in wrong), *stay]

    async def remove(
        self, period: Period, partition: str, rows: Mapping[str, tuple[Row, Sequence[SumPlace]]]
    ) -> list[Difference]:
        """Remove view rows that have no sum at any of their places, unless they changed meanwhile.

        Rows are given by row key. Raises StorageUnavailable, LedgerMissing.
        """
        surplus: list[Row] = []
        is_deleted = False
        left = {key: row for key, (row, _) in rows.items()}
        for _ in range(MAX_CONFLICTS):
            # Read after the rows, since a sum is written before it is shown.
            places = {place for key in left for place in rows[key][1]}
            sums = await self.read_sums(sorted(places))
            surplus = [row for key, row in left.items() if not sums.keys() & set(rows[key][1])]
            if not surplus or self.is_dry_run or self.keeps:
                break
            if not await self.tables.names(ledger_table(self.month)):
                raise LedgerMissing(f"{ledger_table(self.month)} was dropped just now")
            result = await self.store.write(VIEW_TABLES[period], partition, delete=surplus)
            is_deleted = isinstance(result, Written)
            if is_deleted:
                break
            keys = [row.key for row in surplus]
            left = dict(await self.store.read(VIEW_TABLES[period], partition, keys))
        found = (
            difference_of(Kind.SURPLUS, SumPlace("", partition, row.key), is_repaired=is_deleted)
            for row in surplus
        )
        return [replace(each, is_kept=self.keeps) for each in found]

    async def read_sums(self, places: Iterable[SumPlace]) -> dict[SumPlace, Row]:
        """The stored ones of these sums, by point reads. Raises StorageUnavailable."""
        wanted = set(places)
        # Of months first: what is open there, and closed meanwhile, is missed in no other order.
        months = {place._replace(window=self.month.name) for place in wanted}
        found = await self._read(months)
        found |= await self._read(wanted - found.keys())
        return {place: row for place, row in found.items() if place in wanted}

    async def _read(self, places: Collection[SumPlace]) -> dict[SumPlace, Row]:
        """The sums in the rows of these places."""
        keys: defaultdict[str, list[str]] = defaultdict(list)
        for place in places:
            keys[place.partition].append(place.row_key)
        ledger = ledger_table(self.month)
        reads = (self.store.read(ledger, at, some) for at, some in keys.items())
        found: dict[SumPlace, Row] = {}
        for at, rows in zip(keys, await asyncio.gather(*reads), strict=True):
            for row in rows.values():
                sums = unpacked(at, row).rows
                found |= {parse_sum_key(at, each.key): each for each in sums}
        return found

    async def _write(self, period: Period, partition: str, wrong: Sequence[_Repair]) -> bool:
        """Raise the sums' revisions where that must be, then write the view rows."""
        raised: defaultdict[str, list[Row]] = defaultdict(list)
        for each in wrong:
            if each.raised is not None:
                raised[each.place.partition].append(each.raised)
        ledger = ledger_table(self.month)
        for at, rows in raised.items():
            try:
                result = await self.store.write(ledger, at, update=rows, creates_table=False)
            except TableMissing as exc:
                raise LedgerMissing(f"{ledger} was dropped just now") from exc
            if not isinstance(result, Written):
                return False
        shown = [each.row for each in wrong]
        result = await self.store.write(
            VIEW_TABLES[period],
            partition,
            insert=[row for row in shown if row.etag is None],
            update=[row for row in shown if row.etag is not None],
        )
        return isinstance(result, Written)


def is_shown(place: SumPlace, total: Row, shown: Row | None) -> bool:
    """Whether the view row shows just that sum."""
    return shown is not None and (_is_copy(total, shown) or _checked(place, total, shown) is None)


def _is_copy(total: Row, shown: Row) -> bool:
    """Whether it is as the app writes it, as nearly all are: 1.0 and True are equal to 1."""
    types = map(type, shown.columns.values())
    return shown.columns == with_zeros(total.columns) and _EQUAL_TYPES.isdisjoint(types)


def _pairs(
    places: Iterable[SumPlace], sums: Mapping[SumPlace, Row], shown: Mapping[str, Row]
) -> Iterator[tuple[SumPlace, Row, Row | None]]:
    """Each stored sum with its view row."""
    for place in places:
        if place in sums:
            yield place, sums[place], shown.get(place.view_row_key)


def _checked(place: SumPlace, total: Row, shown: Row | None) -> _Repair | None:
    right = {n: v for n, v in with_zeros(total.columns).items() if n in SUM_COLUMNS}
    found = {} if shown is None else shown.columns
    right |= cleared_counts(found, right)
    columns = differing(found, right)
    if not columns:
        return None
    kind, etag, raised = Kind.MISSING, None, None
    if shown is not None:
        is_older = read_revision(found) < read_revision(right)
        kind, etag = Kind.BEHIND if is_older else Kind.DIFFERENT, shown.etag
        if read_revision(right) <= read_revision(found) < HIGHEST_REVISION:
            right["Revision"] = read_revision(found) + 1
            raised = with_revision(total, read_revision(right))
    return _Repair(
        place=place,
        difference=difference_of(kind, place, columns, is_repaired=False),
        row=Row(key=place.view_row_key, columns=right, etag=etag),
        raised=raised,
        lowers=any(_lowers(found, total.columns, name) for name in _NEVER_LOWERED),
    )


def _lowers(found: Mapping[str, object], right: Mapping[str, object], name: str) -> bool:
    """Whether the row would show less; one that cannot be read may show more unless it is older."""
    shown, counted = found.get(name, 0), right.get(name, 0)
    if type(shown) is int and type(counted) is int:
        return shown > counted
    return not 0 < read_revision(found) <= read_revision(right)


def _is_ahead(_place: SumPlace, total: Row, shown: Row | None) -> bool:
    return shown is not None and read_revision(shown.columns) > read_revision(total.columns)
