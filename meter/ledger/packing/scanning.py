"""Reads sums by range: rows of months first, so that a sum that is closed meanwhile is not missed."""

import logging
from collections.abc import AsyncIterator

from meter.errors import LedgerDamaged
from meter.ledger.keys import earlier, sums_of_window, sums_since
from meter.ledger.packing.packed import sums_in
from meter.ledger.rows import SumRow
from meter.ports import Row, RowStore
from meter.window import Window

type Place = tuple[str, str]
"""A ledger's table and its partition."""

log = logging.getLogger(__name__)


async def rows_since(
    store: RowStore, place: Place, first: Window, month: Window
) -> AsyncIterator[Row]:
    """The rows that have sums of the month from a window on. Raises StorageUnavailable."""
    of_month = sums_of_window(month)
    async for row in rows_between(store, place, *of_month):
        yield row
    start, _ = sums_since(first, month)
    if start < of_month[0]:
        async for row in rows_between(store, place, start, of_month[0]):
            yield row


def sums_since_in(place: Place, row: Row, first: Window) -> list[SumRow]:
    """The row's sums from a window on; what cannot be read is logged."""
    table, partition = place
    damages: list[LedgerDamaged] | list[ValueError]
    try:
        sums, damages = sums_in(partition, row)
    except ValueError as exc:
        sums, damages = [], [exc]
    for damage in damages:
        log.error("sum_damaged table=%s reason=%s", table, damage)
    return [each for each in sums if earlier(each.key.window, first) == first]


async def rows_between(
    store: RowStore, place: Place, first_key: str | None, last_key: str | None
) -> AsyncIterator[Row]:
    """The rows of a range of row keys. Raises StorageUnavailable."""
    table, partition = place
    rows = store.scan(
        table,
        first_partition=partition,
        last_partition=partition,
        first_key=first_key,
        last_key=last_key,
    )
    async for _, row in rows:
        yield row
