"""Repairs of a ledger whose months' rows do not say any more what is open."""

from datetime import timedelta

import pytest

from meter.ledger.packing.packed import OpenSum, unpacked
from meter.upkeep.differences import Kind
from tests.support.events import NOW, usage_event
from tests.support.ledger import aggregator_on, sums_in_ledger
from tests.support.rebuilding import (
    ALICE,
    DAY_SUM,
    HOUR_SUM,
    LEDGER,
    MONTH_SUM,
    Store,
    count,
    rebuild,
    state,
    store_with_three_calls,
    without_revisions,
)

TOMORROW = NOW + timedelta(days=1)


@pytest.fixture
async def store() -> Store:
    return await store_with_three_calls()


async def repaired(store: Store) -> None:
    """Repair, and look again: all is found sound, and where it belongs."""
    before = await rebuild(store, repairs_ledger=True)
    assert Kind.WRONG_SUM in before.kinds
    assert all(difference.is_repaired for difference in before.differences)
    assert (await rebuild(store)).differences == []
    sums_in_ledger(store, LEDGER)


async def test_a_sum_in_two_places_is_repaired(store: Store) -> None:
    """Also where its own row is right: the next hour could not be closed."""
    sound = without_revisions(state(store))
    store.put(LEDGER, ALICE, DAY_SUM, **store.rows(LEDGER, ALICE)[DAY_SUM])
    await repaired(store)

    assert without_revisions(state(store)) == sound


async def test_what_would_close_a_sum_in_two_places_is_parked_until_the_repair(
    store: Store, caplog: pytest.LogCaptureFixture
) -> None:
    """Its month's row and the column are named; the process counts on after the repair."""
    aggregator = aggregator_on(store, TOMORROW)
    store.put(LEDGER, ALICE, HOUR_SUM, **store.rows(LEDGER, ALICE)[HOUR_SUM])
    later = [usage_event(7, time=TOMORROW), usage_event(8, subject="bob", time=TOMORROW)]
    report = await aggregator.count(later)
    assert (report.new_calls, len(report.refused)) == (1, 1)
    (refusal,) = report.refused.values()
    assert refusal.detail.endswith(
        f"row {MONTH_SUM}, column OpenHour: 2026-11-23T07 has a row of its own"
    )

    await repaired(store)
    assert (await aggregator.count(later)).new_calls == 1
    await rebuild(store)
    assert store.rows(LEDGER, ALICE)[MONTH_SUM]["Calls"] == 3


@pytest.mark.parametrize("column", ["OpenDay", "OpenHour"])
@pytest.mark.parametrize("text", ["", "{}", '{"window":"2026-11-01"}', None])
async def test_a_damaged_text_is_repaired(store: Store, column: str, text: str | None) -> None:
    """Nothing is open then, so each sum has a row of its own."""
    sound = without_revisions(state(store))
    store.tamper(LEDGER, ALICE, MONTH_SUM, **{column: text})
    await repaired(store)

    assert without_revisions(state(store)) == sound
    row = store.tables[LEDGER][ALICE, MONTH_SUM]
    assert not any(isinstance(each, OpenSum) for each in unpacked(ALICE, row).rows)


async def test_a_text_that_is_behind_its_rows_is_repaired(store: Store) -> None:
    """Each sum is right, but the next late call would open its hour again."""
    store.tamper(LEDGER, ALICE, HOUR_SUM, Calls=7)
    await repaired(store)
    store.tamper(LEDGER, ALICE, MONTH_SUM, OpenHour='{"window":"2026-11-01T00"}')
    await repaired(store)


async def test_a_month_that_was_deleted_and_begun_anew_is_repaired(store: Store) -> None:
    """What is open then has a row of its own already, or is earlier than such a row."""
    await count(store, usage_event(5, time=NOW + timedelta(hours=1)))
    store.remove(LEDGER, ALICE, MONTH_SUM)
    await count(store, usage_event(6))
    await repaired(store)
    await count(store, usage_event(7), usage_event(8, time=NOW + timedelta(minutes=40)))

    sums = {
        key.split("|")[1]: row
        for (_, key), row in sums_in_ledger(store, LEDGER).items()
        if "|alice|" in key
    }
    assert {window: row.columns["Calls"] for window, row in sums.items()} == {
        "2026-11": 6,
        "2026-11-23": 6,
        "2026-11-23T07": 4,
        "2026-11-23T08": 2,
    }


async def test_the_next_hour_opens_after_a_repair(store: Store) -> None:
    """And the hour before stays where it is."""
    store.tamper(LEDGER, ALICE, HOUR_SUM, Calls=7)
    await repaired(store)
    await aggregator_on(store, TOMORROW).count([usage_event(9, time=TOMORROW)])

    row = store.tables[LEDGER][ALICE, MONTH_SUM]
    assert [each.key.split("|")[1] for each in unpacked(ALICE, row).rows] == [
        "2026-11",
        "2026-11-24",
        "2026-11-24T07",
    ]
    assert (await rebuild(store)).differences == []
