"""Rebuilding while calls are counted: nothing is taken for damage, lost or taken back."""

import asyncio
from datetime import timedelta

import pytest

from meter.errors import LedgerMissing
from meter.ledger.keys import parse_sum_key
from meter.ledger.packing.packed import unpacked
from meter.upkeep.differences import Kind
from meter.upkeep.rebuild import Summary
from meter.upkeep.restore import ViewRepair
from meter.window import Period
from tests.support.events import NOW, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import (
    ALICE,
    DAY_SUM,
    LEDGER,
    MONTH,
    MONTH_SUM,
    NAMES,
    VIEW_ROW,
    Store,
    count,
    rebuild,
    state,
    store_with_three_calls,
)


@pytest.fixture
async def store() -> Store:
    return await store_with_three_calls()


async def keep_counting(store: Store, first: int, calls: int) -> None:
    """An aggregator at work: one call at a time, in other hours too."""
    aggregator = aggregator_on(store, NOW + timedelta(hours=9))
    for number in range(first, first + calls):
        time = NOW + timedelta(minutes=number % 7 * 60)
        await aggregator.count([usage_event(number, time=time)])


@pytest.mark.parametrize("page_rows", [1, 2, 5, 40])
async def test_a_rebuild_beside_a_working_aggregator_does_no_harm(
    store: Store, page_rows: int
) -> None:
    """Nothing is taken for damage, nothing goes back, and in the end all is equal."""
    store.page_rows = page_rows
    await keep_counting(store, 10, 30)
    store.history.clear()
    found, _ = await asyncio.gather(
        rebuild(store, repairs_ledger=True), keep_counting(store, 100, 60)
    )
    after = await rebuild(store)

    assert set(found.kinds) <= {Kind.MISSING, Kind.BEHIND}
    assert_no_view_went_back(store)
    assert after.summary == Summary(subjects=2, calls=93, sums=after.summary.sums)


def assert_no_view_went_back(store: Store) -> None:
    seen: dict[tuple[str, str, str], int] = {}
    for table, partition, row in store.history:
        if table.startswith("UsageBy"):
            place, revision = (table, partition, row.key), row.columns["Revision"]
            assert isinstance(revision, int)
            assert revision >= seen.get(place, 0), place
            seen[place] = revision


async def test_damage_is_found_beside_a_working_aggregator(store: Store) -> None:
    """A sum that moves must lie between two states of it; far from both it is wrong."""
    store.page_rows = 2
    await keep_counting(store, 10, 30)
    store.tamper(LEDGER, ALICE, MONTH_SUM, TotalTokens=10**6)
    found, _ = await asyncio.gather(rebuild(store), keep_counting(store, 100, 60))

    (wrong,) = [d for d in found.differences if d.kind is Kind.WRONG_SUM]
    assert [column.name for column in wrong.columns] == ["TotalTokens"]


@pytest.mark.parametrize("page_rows", [1, 2, 3, 7])
async def test_sums_that_are_made_while_a_share_is_read_are_no_damage(
    store: Store, page_rows: int
) -> None:
    """Nor are they where some of their markers came in behind the place that is read."""
    store.page_rows = page_rows
    aggregator = aggregator_on(store, NOW + timedelta(hours=9))

    async def keep_making_sums() -> None:
        for number in range(300, 200, -1):  # ids go back, times forward
            time = NOW + timedelta(seconds=300 - number)
            event = usage_event(number, time=time, deployment=f"d{number // 4}")
            await aggregator.count([event])

    found, _ = await asyncio.gather(rebuild(store, repairs_ledger=True), keep_making_sums())

    assert set(found.kinds) <= {Kind.MISSING, Kind.BEHIND}


@pytest.mark.parametrize("page_rows", [1, 2, 3, 7])
async def test_what_is_reported_as_repaired_is_right_whatever_was_counted_meanwhile(
    store: Store, page_rows: int
) -> None:
    """Markers written after the reading are not missing from the sum."""
    store.page_rows = page_rows
    await keep_counting(store, 10, 30)
    for key in (DAY_SUM, MONTH_SUM):
        store.tamper(LEDGER, ALICE, key, Calls=7)
    found, _ = await asyncio.gather(
        rebuild(store, repairs_ledger=True), keep_counting(store, 100, 25)
    )
    after = await rebuild(store)

    unrepaired = {d.window for d in found.differences if not d.is_repaired}
    assert {d.window for d in after.differences} == unrepaired


async def test_damage_of_a_sum_that_moves_is_repaired_without_losing_a_call(store: Store) -> None:
    """The sum is written as it was read: after a call in between it is checked again."""
    store.tamper(LEDGER, ALICE, MONTH_SUM, Calls=7)
    rival = aggregator_on(store, NOW + timedelta(hours=1))
    store.intrude(lambda: rival.count([usage_event(50)]))
    found = await rebuild(store, repairs_ledger=True)
    after = await rebuild(store)

    assert found.kinds[0] is Kind.WRONG_SUM
    assert store.rows(LEDGER, ALICE)[MONTH_SUM]["Calls"] == 3
    assert after.differences == []


async def test_a_view_that_the_aggregator_writes_meanwhile_is_checked_again(store: Store) -> None:
    """Its copy is newer than what was read; nothing is overwritten."""
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Calls=9)
    rival = aggregator_on(store, NOW + timedelta(hours=1))
    store.intrude(lambda: rival.count([usage_event(50)]))
    await rebuild(store)

    assert store.view()["Calls"] == 3
    assert (await rebuild(store)).differences == []


async def test_a_copy_that_a_tampered_row_kept_back_is_shown_once_the_row_is_repaired(
    store: Store,
) -> None:
    """The row claims a revision that the aggregator takes for newer than its own."""
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Revision=99)
    rival = aggregator_on(store, NOW + timedelta(hours=1))
    store.intrude(lambda: rival.count([usage_event(50)]))
    await rebuild(store)

    assert store.view()["Calls"] == 3
    assert (await rebuild(store)).differences == []


async def test_a_view_that_is_ahead_of_what_was_read_is_not_taken_back(store: Store) -> None:
    """The ledger moved since: it is read again before the view is checked."""
    place = parse_sum_key(ALICE, DAY_SUM)
    row = unpacked(ALICE, store.tables[LEDGER][ALICE, MONTH_SUM]).rows[1]
    assert row.key == DAY_SUM
    sums = {place: row}
    await count(store, usage_event(50))
    views = state(store)
    found = await repair_on(store).restore("2026-11-23", [place], sums)

    assert found == []
    assert state(store) == views


async def test_a_surplus_row_that_becomes_right_meanwhile_is_kept(store: Store) -> None:
    """It is deleted as it was read: a first call in between changes it."""
    bob = usage_event(50, subject="bob")
    store.put("UsageByDay", "2026-11-23", f"bob|{NAMES}", Calls=99)
    store.intrude(lambda: count(store, bob))
    await rebuild(store)

    assert store.rows("UsageByDay")[f"bob|{NAMES}"]["Calls"] == 1
    assert (await rebuild(store)).differences == []


async def test_a_ledger_that_is_dropped_meanwhile_is_not_made_again(store: Store) -> None:
    """Neither by the repair of a sum nor by raising a revision."""
    store.tamper(LEDGER, ALICE, MONTH_SUM, Calls=7)
    store.remove(LEDGER, ALICE, DAY_SUM)
    store.intrude(lambda: store.drop(LEDGER))
    with pytest.raises(LedgerMissing, match="Ledger202611 was dropped just now"):
        await rebuild(store, repairs_ledger=True)

    assert LEDGER not in store.tables


async def test_a_ledger_that_is_dropped_meanwhile_costs_no_view(store: Store) -> None:
    """Without it every view row would look surplus."""
    views = state(store)
    del views[LEDGER]
    await store.drop(LEDGER)
    row = store.tables["UsageByDay"]["2026-11-23", VIEW_ROW]
    rows = {VIEW_ROW: (row, [parse_sum_key(ALICE, DAY_SUM)])}

    with pytest.raises(LedgerMissing, match="Ledger202611 was dropped just now"):
        await repair_on(store).remove(Period.DAY, "2026-11-23", rows)
    assert state(store) == views


def repair_on(store: Store) -> ViewRepair:
    return ViewRepair(store=store, tables=store, month=MONTH, is_dry_run=False, keeps=False)
