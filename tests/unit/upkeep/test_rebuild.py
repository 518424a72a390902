"""Rebuilding views from a ledger: what is found, what is repaired, and what stays."""

from datetime import timedelta
from typing import Any

import pytest

from meter.errors import LedgerMissing, StorageUnavailable
from meter.ledger.aggregator import Aggregator
from meter.upkeep.differences import Kind, WrongColumn
from meter.upkeep.rebuild import Summary
from meter.window import Window
from tests.fakes.rows import Fault
from tests.support.events import NOW, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import (
    ALICE,
    BOBS_ROW,
    DAY_SUM,
    HOUR_SUM,
    LEDGER,
    NAMES,
    VIEW_ROW,
    Store,
    rebuild,
    state,
    store_with_three_calls,
    without_revisions,
)

LATER = NOW + timedelta(hours=1)


@pytest.fixture
async def store() -> Store:
    return await store_with_three_calls()


async def test_a_sound_month_stays_as_it_is(store: Store) -> None:
    """Nothing is written; the summary says what was checked."""
    before = state(store)
    found = await rebuild(store)

    assert found.differences == []
    assert found.summary == Summary(subjects=2, calls=3, sums=6)
    assert found.summary.is_sound
    assert state(store) == before


async def test_a_month_without_a_ledger_cannot_be_rebuilt(store: Store) -> None:
    """Its views are not taken for surplus: the ledger may be past its retention."""
    store.put("UsageByMonth", "2026-10", VIEW_ROW, Calls=1)
    before = state(store)

    with pytest.raises(LedgerMissing, match="there is no table Ledger202610"):
        await rebuild(store, Window("2026-10"))
    assert state(store) == before


@pytest.mark.parametrize(
    ("table", "partition"),
    [("UsageByHour", "2026-11-23T07"), ("UsageByDay", "2026-11-23"), ("UsageByMonth", "2026-11")],
)
async def test_a_view_row_that_is_missing_is_written_again(
    store: Store, table: str, partition: str
) -> None:
    """Just as it was, revision and all."""
    before = store.view(table, partition)
    store.remove(table, partition, VIEW_ROW)
    found = await rebuild(store)

    assert [(d.kind, d.window, d.is_repaired) for d in found.differences] == [
        (Kind.MISSING, partition, True)
    ]
    assert store.view(table, partition) == before
    assert found.summary.is_sound


async def test_a_whole_view_table_that_was_deleted_is_written_again(store: Store) -> None:
    """Tables are made as they are needed."""
    before = state(store)
    del store.tables["UsageByHour"]
    found = await rebuild(store)

    assert found.kinds == [Kind.MISSING] * 2
    assert store.rows("UsageByHour") == {
        key: row.columns for (_, key), row in before["UsageByHour"].items()
    }


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"TotalTokens": 99}, Kind.DIFFERENT),
        ({"TotalTokens": 99, "Revision": 7}, Kind.DIFFERENT),
        ({"TotalTokens": 99, "Revision": 0}, Kind.BEHIND),
        ({"TotalTokens": "thirty"}, Kind.DIFFERENT),
        ({"TotalTokens": 30.0}, Kind.DIFFERENT),
        ({"Revision": 10**9}, Kind.DIFFERENT),
        ({"Revision": "new"}, Kind.BEHIND),
        ({"Subject": "bob"}, Kind.DIFFERENT),
        ({"LastCallAt": NOW + timedelta(days=1)}, Kind.DIFFERENT),
        ({"WindowStart": "2026-11-23"}, Kind.DIFFERENT),
    ],
    ids=str,
)
async def test_a_view_row_that_was_tampered_with_is_overwritten(
    store: Store, changes: dict[str, Any], kind: Kind
) -> None:
    """Whatever was changed, and whatever revision it claims; each wrong column is reported."""
    before = store.view()
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, **changes)
    found = await rebuild(store)

    assert found.kinds == [kind]
    assert {(c.name, c.found) for c in found.differences[0].columns} == set(changes.items())
    assert store.view() | {"Revision": 1} == before
    assert found.summary.is_sound
    assert (await rebuild(store)).differences == []


@pytest.mark.parametrize(
    ("revision", "expected"), [(0, 1), (1, 2), (2, 3), (10**9, 10**9 + 1), (2**63 - 1, 1)]
)
async def test_a_repair_never_lowers_a_revision(store: Store, revision: int, expected: int) -> None:
    """An aggregator at work may remember the higher one: the sum is raised above it as well."""
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, TotalTokens=99, Revision=revision)
    await rebuild(store)

    assert store.view()["Revision"] == expected
    assert store.rows(LEDGER, ALICE)[DAY_SUM]["Revision"] == expected


async def test_an_aggregator_at_work_shows_its_calls_after_a_repaired_ledger(store: Store) -> None:
    """Its sum was deleted and made again; the aggregator remembers the view's old revision."""
    aggregator = await after(store, 20)
    store.remove(LEDGER, ALICE, DAY_SUM)
    await rebuild(store, repairs_ledger=True)
    for number in range(50, 55):
        await aggregator.count([usage_event(number)])

    assert store.view()["Calls"] == 27
    assert (await rebuild(store)).differences == []


async def test_an_aggregator_at_work_shows_its_calls_after_a_tampered_view(store: Store) -> None:
    """It met the row's invented revision before the repair, and remembers it."""
    aggregator = await after(store, 1)
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Revision=99)
    await aggregator_on(store, LATER).count([usage_event(40)])
    await aggregator.count([usage_event(41)])
    await rebuild(store)
    for number in range(50, 55):
        await aggregator.count([usage_event(number)])

    assert store.view()["Calls"] == 10
    assert (await rebuild(store)).differences == []


async def test_an_aggregator_at_work_shows_its_calls_after_an_older_ledger_came_back(
    store: Store,
) -> None:
    """After a failover: the hub is read again, the month is rebuilt, and counting goes on."""
    await after(store, 10)
    older = dict(store.tables[LEDGER])
    await after(store, 20, first=20)
    store.tables[LEDGER] = older
    aggregator = aggregator_on(store, LATER)
    await aggregator.count([usage_event(number) for number in range(20, 40)])
    await rebuild(store, prunes=False)
    for number in range(50, 55):
        await aggregator.count([usage_event(number)])

    assert store.view()["Calls"] == 27
    assert (await rebuild(store)).differences == []


async def after(store: Store, calls: int, *, first: int = 20) -> Aggregator:
    """An aggregator that has counted some calls of alice, one by one."""
    aggregator = aggregator_on(store, LATER)
    for number in range(first, first + calls):
        await aggregator.count([usage_event(number)])
    return aggregator


@pytest.fixture
async def anew(store: Store) -> Store:
    """A month whose ledger was dropped, and which got a new one by one late call."""
    await after(store, 47)
    await store.drop(LEDGER)
    await aggregator_on(store, LATER).count([usage_event(99)])
    return store


async def test_a_ledger_with_fewer_calls_than_its_views_takes_nothing_from_them(
    anew: Store,
) -> None:
    """The views are all that is left of the other calls."""
    before = state(anew)
    found = await rebuild(anew, prunes=False)

    assert state(anew) == before
    assert found.summary.kept == 6
    assert set(found.kinds) == {Kind.DIFFERENT, Kind.SURPLUS}
    assert not found.summary.is_sound


async def test_such_a_month_is_made_equal_to_its_ledger_on_request(anew: Store) -> None:
    """Where the operator knows that the ledger is right."""
    found = await rebuild(anew, prunes=True)

    assert found.summary.is_sound
    assert (anew.view()["Calls"], len(anew.rows("UsageByMonth"))) == (1, 1)


@pytest.mark.parametrize(
    ("table", "partition"),
    [("UsageByHour", "2026-11-23T07"), ("UsageByDay", "2026-11-23"), ("UsageByMonth", "2026-11")],
)
async def test_any_view_row_with_more_calls_than_the_ledger_stays(
    store: Store, table: str, partition: str
) -> None:
    """Whatever the other views show; what is missing is still written."""
    store.put(table, partition, f"mallory|{NAMES}", Calls=1)
    store.tamper(table, partition, VIEW_ROW, Calls=9)
    store.remove(table, partition, BOBS_ROW)
    found = await rebuild(store, prunes=False)

    assert {(d.kind, d.is_repaired, d.is_kept) for d in found.differences} == {
        (Kind.MISSING, True, False),
        (Kind.DIFFERENT, False, True),
        (Kind.SURPLUS, False, True),
    }
    assert [row["Calls"] for row in store.rows(table).values()] == [9, 1, 1]
    assert (found.summary.kept, found.summary.is_sound) == (2, False)
    assert (await rebuild(store, prunes=True)).summary.is_sound
    assert store.rows(table)[VIEW_ROW]["Calls"] == 2


@pytest.mark.parametrize("calls", ["49", 49.0, None, True])
@pytest.mark.parametrize("revision", [50, "fifty"])
async def test_a_view_row_whose_calls_are_damaged_may_show_more_than_an_older_ledger(
    anew: Store, calls: object, revision: object
) -> None:
    """Unless its revision says that the ledger's sum is as new."""
    anew.tamper("UsageByMonth", "2026-11", VIEW_ROW, Calls=calls, Revision=revision)
    anew.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Calls=calls, Revision=revision)
    before = state(anew)
    found = await rebuild(anew, prunes=False)

    assert state(anew) == before
    assert found.summary.kept == 6


async def test_a_view_row_whose_calls_are_damaged_is_overwritten_by_a_sum_as_new(
    store: Store,
) -> None:
    """It can show nothing that the sum does not have."""
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Calls="two")
    found = await rebuild(store, prunes=False)

    assert found.summary.is_sound
    assert store.view()["Calls"] == 2


async def test_what_operators_added_to_a_view_row_is_kept(store: Store) -> None:
    """Columns that are not the app's are neither checked nor removed."""
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Note="checked", Calls=9)
    found = await rebuild(store)

    assert found.differences[0].columns == (WrongColumn("Calls", 9, 2),)
    assert store.view()["Note"] == "checked"


@pytest.mark.parametrize(
    ("table", "partition", "key"),
    [
        ("UsageByDay", "2026-11-23", f"mallory|{NAMES}"),
        ("UsageByDay", "2026-11-23", f"alice|other|{NAMES}"),
        ("UsageByDay", "2026-11-23", "no key of ours"),
        ("UsageByDay", "2026-11-29", VIEW_ROW),
        ("UsageByDay", "2026-11-23T07", VIEW_ROW),
        ("UsageByDay", "2026-11", VIEW_ROW),
        ("UsageByHour", "2026-11-31T25", VIEW_ROW),
        ("UsageByMonth", "2026-11", f"mallory|{NAMES}"),
    ],
)
async def test_a_view_row_without_a_sum_is_removed(
    store: Store, table: str, partition: str, key: str
) -> None:
    """A row in the wrong table, too; rows of other months are not looked at."""
    before = state(store)
    store.put(table, partition, key, Calls=1)
    store.put("UsageByDay", "2026-10-31", key, Calls=1)
    store.put("UsageByDay", "2026-12-01", key, Calls=1)
    found = await rebuild(store)

    assert [(d.kind, d.window, d.is_repaired) for d in found.differences] == [
        (Kind.SURPLUS, partition, True)
    ]
    store.remove("UsageByDay", "2026-10-31", key)
    store.remove("UsageByDay", "2026-12-01", key)
    assert state(store) == before


async def test_a_surplus_row_does_not_hide_behind_one_that_is_missing(store: Store) -> None:
    """Not in a dry run either, where as many rows as sums are there."""
    store.remove("UsageByDay", "2026-11-23", VIEW_ROW)
    store.put("UsageByDay", "2026-11-23", f"mallory|{NAMES}", Calls=1)
    dry = await rebuild(store, is_dry_run=True)
    wet = await rebuild(store)

    assert dry.kinds == wet.kinds == [Kind.MISSING, Kind.SURPLUS]


async def test_a_dry_run_reports_everything_and_writes_nothing(store: Store) -> None:
    """Also of the ledger, also with the option to repair it."""
    store.remove("UsageByMonth", "2026-11", VIEW_ROW)
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Calls=9)
    store.put("UsageByHour", "2026-11-01T00", VIEW_ROW, Calls=1)
    store.tamper(LEDGER, ALICE, HOUR_SUM, Calls=7)
    before = state(store)
    found = await rebuild(store, is_dry_run=True, repairs_ledger=True)

    assert sorted(found.kinds) == [Kind.DIFFERENT, Kind.MISSING, Kind.SURPLUS, Kind.WRONG_SUM]
    assert not any(difference.is_repaired for difference in found.differences)
    assert not found.summary.is_sound
    assert state(store) == before


async def test_contention_without_end_is_reported_as_not_repaired(store: Store) -> None:
    """Ten conflicts in a row; the next run may succeed."""
    store.remove("UsageByDay", "2026-11-23", VIEW_ROW)
    store.plan("write", *[Fault.CONFLICT] * 10)
    found = await rebuild(store)

    assert [(d.kind, d.is_repaired) for d in found.differences] == [(Kind.MISSING, False)]
    assert not found.summary.is_sound


@pytest.mark.parametrize("operation", ["names", "scan", "read", "write"])
async def test_an_outage_ends_the_rebuild_and_the_next_one_goes_on(
    store: Store, operation: str
) -> None:
    """What was repaired stays repaired."""
    before = state(store)
    store.remove("UsageByDay", "2026-11-23", VIEW_ROW)
    store.put("UsageByDay", "2026-11-23", f"mallory|{NAMES}", Calls=1)
    store.plan(operation, Fault.UNAVAILABLE)
    with pytest.raises(StorageUnavailable):
        await rebuild(store)
    await rebuild(store)

    assert without_revisions(state(store)) == without_revisions(before)
