"""Known sums: few are read one by one, many by window, and what is damaged is told when it is wanted."""

from itertools import batched

import pytest

from meter.errors import LedgerDamaged
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey, ledger_partition
from meter.ledger.rows import SumRow
from meter.ledger.sums import ROWS_A_READ, SUMS_BY_RANGE, KnownSums
from meter.ports import MAX_TRANSACTION_ROWS, Row
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import dimensions

HOUR = Window("2026-11-23T07")
PLACE = ("Ledger202611", ledger_partition("alice"))


def key(number: int, window: Window = HOUR) -> SumKey:
    return SumKey(window, dimensions(deployment=f"d{number:02}"))


async def stored(count: int) -> MemoryRowStore:
    store = MemoryRowStore()
    rows = [SumRow(key=key(n), sums=Sums(calls=n + 1), revision=1) for n in range(count)]
    columns = [Row(key=row.key.row_key, columns=row.ledger_columns()) for row in rows]
    for some in batched(columns, MAX_TRANSACTION_ROWS, strict=False):
        await store.write(*PLACE, insert=some)
    store.calls.clear()
    return store


async def test_few_sums_are_read_one_by_one() -> None:
    """Others of the window stay unread."""
    store = await stored(20)
    sums = KnownSums(store)
    found = await sums.read(PLACE, [key(1), key(3), key(99)])

    assert {k.dimensions.deployment: v.packed.row.sums.calls for k, v in found.items()} == {
        "d01": 2,
        "d03": 4,
    }
    assert store.calls["scan"] == 0
    assert not sums.remembered([key(2)])


async def test_many_sums_are_read_with_their_window() -> None:
    """The others are wanted next, so they are remembered."""
    store = await stored(30)
    sums = KnownSums(store)
    some = [key(n) for n in range(SUMS_BY_RANGE)]
    found = await sums.read(PLACE, some)

    assert len(found) == SUMS_BY_RANGE
    assert len(sums.remembered(map(key, range(30)))) == 30
    assert (store.calls["scan"], store.calls["read"]) == (1, 0)


async def test_few_sums_of_a_window_that_was_large_are_read_one_by_one() -> None:
    """A query for them would read all of its rows again."""
    few = SUMS_BY_RANGE + 1
    store = await stored((few + 1) * ROWS_A_READ)
    sums = KnownSums(store)
    await sums.read(PLACE, [key(n) for n in range(few)])
    store.calls.clear()
    found = await sums.read(PLACE, [key(n) for n in range(few)])
    by_key = dict(store.calls)
    await sums.read(PLACE, [key(n) for n in range(few + 1)])

    assert len(found) == few
    assert by_key == {"read": 1}
    assert dict(store.calls) == {"read": 1, "scan": 1}


async def test_a_damaged_sum_is_told_when_it_is_wanted_only() -> None:
    """It must not keep the others of its window from being counted."""
    store = await stored(30)
    damaged = store.tables[PLACE[0]][PLACE[1], key(20).row_key]
    store.tables[PLACE[0]][PLACE[1], key(20).row_key] = Row(
        key=damaged.key, columns={**damaged.columns, "Calls": "many"}, etag=damaged.etag
    )
    sums = KnownSums(store)
    found = await sums.read(PLACE, [key(n) for n in range(SUMS_BY_RANGE)])
    assert len(found) == SUMS_BY_RANGE

    with pytest.raises(LedgerDamaged, match="many"):
        await sums.read(PLACE, [key(20)])


async def test_a_forgotten_sum_is_not_remembered() -> None:
    """After a conflict it may be another."""
    sums = KnownSums(await stored(3))
    await sums.read(PLACE, [key(1)])
    sums.forget([key(1)])

    assert not sums.remembered([key(1)])
