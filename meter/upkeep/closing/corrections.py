"""What arrived for a closed month after it was closed: the ledger now, less what is closed.

A closed month's numbers stay. What arrives later is a correction, and belongs to the month in which it
arrives: until that is closed the difference is worked out anew; closing it stores the difference, and
what arrives from then on belongs to the next. So each correction is in one month only, and closed
numbers and corrections of all months together are always what the ledger has.

The ledger's own sums are read, not the views, which follow it; once it was dropped, the views.
"""

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from copy import replace
from dataclasses import dataclass

from meter.ledger.fold import Sums
from meter.ledger.keys import (
    LAST_KEY,
    LEDGER_PARTITIONS,
    Dimensions,
    SumKey,
    ledger_partition,
    ledger_table,
    sums_of_window,
    view_range,
)
from meter.ledger.packing.packed import OPEN_COLUMNS, sums_in
from meter.ledger.packing.scanning import rows_between
from meter.ledger.rows import Place, read_sums
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.upkeep.closing.leaf import CALL_COUNTS
from meter.upkeep.closing.snapshot import (
    CORRECTIONS,
    ClosedMonth,
    ClosedMonths,
    read_closed,
    sums_partition,
)
from meter.usage import COUNT_NAMES, TokenUsage
from meter.window import Period, Window, window_of

READS_AT_ONCE = 16
_NUMBERS = (*CALL_COUNTS, "adjustments")

type Totals = Mapping[Dimensions, Sums]


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What was added to a day of a closed month, or taken from it, under some dimensions."""

    day: Window
    dimensions: Dimensions
    sums: Sums

    @property
    def key(self) -> SumKey:
        """The sum that it corrects."""
        return SumKey(self.day, self.dimensions)


async def closed_total(store: RowStore, month: Window) -> Totals | None:
    """The month's totals as they were closed; None while it is open. Raises StorageUnavailable."""
    table = (await read_closed(store)).table_of(month)
    return None if table is None else await _closed_sums(store, table, month)


async def corrections(
    store: RowStore, month: Window, *, closed: ClosedMonths | None = None
) -> AsyncIterator[Correction]:
    """The corrections that belong to a month, by the month and day that they correct.

    Raises StorageUnavailable, LedgerDamaged.
    """
    closed = closed or await read_closed(store)
    own = closed.by_month.get(month)
    if own is not None:
        async for correction in stored_corrections(store, own):
            yield correction
        return
    for each in list(closed.by_month.values()):
        if closed.arrival_month(each.month) == month:
            async for correction in arrived(store, closed, each):
                yield correction


async def stored_corrections(
    store: RowStore, closed: ClosedMonth, of: Window | None = None
) -> AsyncIterator[Correction]:
    """The corrections that were stored when a month was closed: all, or those of a day or month."""
    first, last = ("", LAST_KEY) if of is None else (of.name, f"{of.name}{LAST_KEY}")
    rows = closed_rows(store, closed.table, CORRECTIONS, first, last)
    async for key, sums in rows:
        yield Correction(day=key.window, dimensions=key.dimensions, sums=sums)


async def arrived(
    store: RowStore, closed: ClosedMonths, month: ClosedMonth
) -> AsyncIterator[Correction]:
    """What arrived for a closed month and is not stored as a correction, in order of days."""
    later = [each for each in closed.by_month.values() if month.month in each.header.corrected]
    ledger = await _ledger_sums(store, month.month)
    is_dropped = not ledger
    sums = ledger.get(month.month) or await _view_sums(store, month.month)
    differing = await _less_known(store, month, later, sums, month.month)
    # Days are read of those subjects alone that have a difference in the month.
    partitions = sorted({ledger_partition(each.subject) for each in differing})
    day = window_of(month.month.start, Period.DAY)
    while partitions and day.month == month.month:
        if is_dropped:
            sums = await _view_sums(store, day)
        else:
            closed_days = await _ledger_sums(store, day, partitions)
            # Read later than the months: a day that was open then may have its own row now.
            sums = {**ledger.get(day, {}), **closed_days.get(day, {})}
        found = await _less_known(store, month, later, sums, day)
        for dimensions in sorted(found.keys() & differing.keys()):
            yield Correction(day=day, dimensions=dimensions, sums=found[dimensions])
        day = window_of(day.end, Period.DAY)


async def has_ledger(store: RowStore, month: Window) -> bool:
    """Whether the month's ledger has any sum of it."""
    return bool(await _ledger_sums(store, month))


async def _less_known(
    store: RowStore,
    month: ClosedMonth,
    later: Sequence[ClosedMonth],
    sums: Totals,
    window: Window,
) -> Totals:
    """Sums of the month, or a day of it, less what is closed and corrected; none that is 0."""
    found = dict(sums)
    known = [*(await _closed_sums(store, month.table, window)).items()]
    for each in later:
        stored = stored_corrections(store, each, window)
        known += [(correction.dimensions, correction.sums) async for correction in stored]
    for dimensions, each_sums in known:
        found[dimensions] = less(found.get(dimensions, Sums()), each_sums)
    return {dimensions: each for dimensions, each in found.items() if counts_anything(each)}


async def _ledger_sums(
    store: RowStore, window: Window, partitions: Sequence[str] = LEDGER_PARTITIONS
) -> Mapping[Window, Totals]:
    """The sums in the rows of a window, by window: those of a month have open days, too."""
    limit = asyncio.Semaphore(READS_AT_ONCE)
    found: defaultdict[Window, dict[Dimensions, Sums]] = defaultdict(dict)

    async def read(partition: str) -> None:
        place = ledger_table(window.month), partition
        async with limit:
            async for row in rows_between(store, place, *sums_of_window(window)):
                sums, damages = sums_in(partition, row)
                for damage in damages:
                    if damage.column != OPEN_COLUMNS[Period.HOUR]:
                        raise damage
                for each in sums:
                    found[each.key.window][each.key.dimensions] = each.sums

    await asyncio.gather(*map(read, partitions))
    return found


async def _view_sums(store: RowStore, window: Window) -> Totals:
    table = VIEW_TABLES[window.period]
    first, last = view_range(window, window)
    found: dict[Dimensions, Sums] = {}
    async for partition, row in store.scan(table, first_partition=first, last_partition=last):
        key, sums = _read(table, partition, row, window)
        found[key.dimensions] = sums
    return found


async def _closed_sums(store: RowStore, table: str, window: Window) -> Totals:
    rows = closed_rows(store, table, sums_partition(window.period, window.name))
    return {key.dimensions: sums async for key, sums in rows}


async def closed_rows(
    store: RowStore,
    table: str,
    partition: str,
    first: str | None = None,
    last: str | None = None,
) -> AsyncIterator[tuple[SumKey, Sums]]:
    """The sums in a partition of a snapshot. Raises StorageUnavailable, LedgerDamaged."""
    scan = store.scan(
        table, first_partition=partition, last_partition=partition, first_key=first, last_key=last
    )
    async for _, row in scan:
        day, _, _ = row.key.partition("|")
        name = day if partition == CORRECTIONS else partition.partition("|")[2]
        yield _read(table, partition, row, Window(name))


def _read(table: str, partition: str, row: Row, window: Window) -> tuple[SumKey, Sums]:
    texts = (str(row.columns.get(name, "")) for name in _DIMENSION_COLUMNS)
    sums = read_sums(row.columns, Place(table, partition, row.key))
    return SumKey(window, Dimensions(*texts)), sums


_DIMENSION_COLUMNS = tuple(
    "".join(part.capitalize() for part in name.split("_")) for name in Dimensions._fields
)


def less(one: Sums, other: Sums) -> Sums:
    """The difference of two sums; no call is the first or the last of it."""
    numbers = {name: getattr(one, name) - getattr(other, name) for name in _NUMBERS}
    return replace(
        one,
        **numbers,
        tokens=_less(one.tokens, other.tokens),
        adjusted=_less(one.adjusted, other.adjusted),
        first_call_at=None,
        last_call_at=None,
    )


def counts_anything(sums: Sums) -> bool:
    """Whether any of its numbers is not 0."""
    return bool(
        any(getattr(sums, name) for name in _NUMBERS)
        or sums.tokens.nonzero()
        or sums.adjusted.nonzero()
    )


def _less(one: TokenUsage, other: TokenUsage) -> TokenUsage:
    return TokenUsage(**{name: getattr(one, name) - getattr(other, name) for name in COUNT_NAMES})
