"""Checking a ledger against its markers: what is damage, what is repaired, and when it is not."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter.ledger.keys import ledger_partition
from meter.upkeep.differences import Difference, Kind, WrongColumn
from meter.usage import ToolUsage
from tests.support.events import NOW, USAGE, adjustment, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import (
    ALICE,
    BOB,
    BOBS_ROW,
    DAY_SUM,
    LEDGER,
    VIEW_ROW,
    Store,
    count,
    neighbour_of,
    rebuild,
    state,
    store_with_three_calls,
    without_revisions,
)


@pytest.fixture
async def store() -> Store:
    return await store_with_three_calls()


async def test_a_wrong_sum_is_reported_and_not_changed_nor_is_its_view_row(store: Store) -> None:
    """The ledger is the truth and changes only on request. The view may be right."""
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls=7, TotalTokens=1)
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Calls=8)
    before = state(store)
    found = await rebuild(store)

    assert found.differences == [
        Difference(
            kind=Kind.WRONG_SUM,
            subject="alice",
            window="2026-11-23",
            names=("app", "gpt-4o", "gpt-4o-2024-11-20", "east", "standard", "short"),
            columns=(WrongColumn("Calls", 7, 2), WrongColumn("TotalTokens", 1, 30)),
        )
    ]
    assert not found.summary.is_sound
    assert state(store) == before


async def test_what_shows_a_sum_that_was_deleted_is_not_taken_for_surplus(store: Store) -> None:
    """Its markers are there, so the row may be the last that is right."""
    store.remove(LEDGER, ALICE, DAY_SUM)
    before = state(store)
    found = await rebuild(store)

    assert found.kinds == [Kind.WRONG_SUM, Kind.WRONG_SUM]
    day, month = found.differences
    assert [(c.name, c.found) for c in month.columns] == [("OpenDay", "unreadable")]
    assert [(c.name, c.found, c.right) for c in day.columns] == [
        ("Calls", 0, 2),
        ("PromptTokens", 0, 20),
        ("CompletionTokens", 0, 10),
        ("TotalTokens", 0, 30),
    ]
    assert state(store) == before


async def changed(store: Store, key: str = DAY_SUM) -> None:
    store.tamper(LEDGER, ALICE, key, Calls=7, TotalTokens=1, FirstCallAt=NOW - timedelta(days=9))


async def deleted(store: Store) -> None:
    store.remove(LEDGER, ALICE, DAY_SUM)


async def of_another_type(store: Store) -> None:
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls="two", Subject="bob", Model="x")


async def from_nowhere(store: Store) -> None:
    columns = store.rows(LEDGER, ALICE)[DAY_SUM]
    store.put(LEDGER, ALICE, f"s|2026-11-29|{VIEW_ROW}", **columns)


@pytest.mark.parametrize("damage", [changed, deleted, of_another_type, from_nowhere])
async def test_sums_are_repaired_from_the_markers_on_request(
    store: Store, damage: Callable[[Store], Awaitable[None]]
) -> None:
    """And then shown. The damage is still reported, also by the exit code; a second run is clean."""
    before = state(store)
    await damage(store)
    first = await rebuild(store, repairs_ledger=True)
    second = await rebuild(store)

    assert Kind.WRONG_SUM in first.kinds
    assert all(difference.is_repaired for difference in first.differences)
    assert not first.summary.is_sound
    assert second.differences == []
    assert without_revisions(state(store)) == without_revisions(before)


BOTH = ("gpt-4o", "other")


async def test_the_wrong_sums_of_a_window_are_repaired_in_one_transaction(store: Store) -> None:
    """No reader sees half of it."""
    await count(store, usage_event(4, deployment="other"))
    tomorrow = NOW + timedelta(days=1)
    later = [usage_event(n, deployment=name, time=tomorrow) for n, name in enumerate(BOTH, 5)]
    await aggregator_on(store, tomorrow).count(later)
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls=7)
    store.tamper(LEDGER, ALICE, DAY_SUM.replace("gpt-4o|", "other|", 1), Calls=7)
    store.transactions.clear()
    await rebuild(store, repairs_ledger=True)

    assert [t.rows for t in store.transactions if t.table == LEDGER] == [2]


async def test_a_repaired_sum_has_a_higher_revision(store: Store) -> None:
    """So it is shown, by the sweep too if the rebuild dies here."""
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls=7, Revision=4)
    await rebuild(store, repairs_ledger=True)

    assert store.rows(LEDGER, ALICE)[DAY_SUM]["Revision"] == 5
    assert store.view()["Revision"] == 5


LONG = "ß" * 200


async def test_a_subject_whose_keys_hold_its_hash_is_repaired_by_its_markers() -> None:
    """Row keys hold a hash of a long subject, its markers its whole text."""
    store = Store()
    await count(store, usage_event(1, subject=LONG), adjustment(1, subject=LONG))
    before = state(store)
    key = next(key for _, key in store.tables[LEDGER] if key.startswith("s|2026-11|"))
    store.remove(LEDGER, ledger_partition(LONG), key)
    found = await rebuild(store, repairs_ledger=True)

    assert (found.kinds[0], found.differences[0].is_repaired) == (Kind.WRONG_SUM, True)
    assert without_revisions(state(store)) == without_revisions(before)
    assert store.rows(LEDGER)[key]["Subject"] == LONG


@pytest.mark.parametrize("columns", [{"Subject": "ß"}, {"Subject": 7}])
async def test_a_marker_that_names_another_subject_than_its_key_is_reported(
    columns: dict[str, Any],
) -> None:
    """Nothing is invented, and the sums of its subject stay as they are."""
    store = Store()
    await count(store, usage_event(1, subject=LONG))
    marker = next(key for _, key in store.tables[LEDGER] if key.startswith("c|"))
    store.tamper(LEDGER, ledger_partition(LONG), marker, **columns)
    before = state(store)
    found = await rebuild(store, repairs_ledger=True)

    assert found.kinds == [Kind.UNREADABLE, *[Kind.WRONG_SUM] * 3]
    assert not any(difference.is_repaired for difference in found.differences)
    assert state(store) == before


@pytest.mark.parametrize(
    ("key", "columns", "text"),
    [
        ("c|x", {"At": NOW}, "c|x cannot be read"),
        ("c|x", {"At": "soon", "Call": "{}"}, "c|x cannot be read"),
        ("c|x", {"At": NOW, "Call": "{"}, "c|x cannot be read"),
        ("c|x", {"At": NOW, "Call": "[]"}, "c|x cannot be read"),
        ("c|x", {"At": NOW, "Call": '{"deployment":"d"}'}, "c|x cannot be read"),
        ("s|2026-11-23", {}, "s|2026-11-23 is neither a marker nor a sum"),
        (f"t|2026-11-23|{VIEW_ROW}", {}, "is neither a marker nor a sum"),
        (f"s|2026-10-23|{VIEW_ROW}", {}, "is of another month"),
        (f"s|2026-11-99|{VIEW_ROW}", {}, "a time is YYYY-MM"),
        ("c||alice", {"At": NOW}, "c||alice cannot be read"),
        ("c|x|", {"At": NOW}, "c|x| cannot be read: it names no subject"),
        ("c|x|=FF", {"At": NOW}, "codec can't decode"),
        ("c|x|a/b", {"At": NOW}, "c|x|a/b cannot be read: its subject is 'a/b'"),
        ("c|x|bob", {"At": NOW}, f"c|x|bob belongs in partition {ledger_partition('bob')}"),
        ("a|x|alice", {"Adjustments": "?"}, "a|x|alice cannot be read"),
        ("note", {}, "note is neither a marker nor a sum"),
    ],
)
async def test_a_row_of_the_ledger_that_the_app_did_not_write_is_reported(
    store: Store, key: str, columns: dict[str, Any], text: str
) -> None:
    """It stays where it is, and the rest is still checked."""
    store.put(LEDGER, ALICE, key, **columns)
    found = await rebuild(store, repairs_ledger=True)

    assert [(d.kind, d.is_repaired) for d in found.differences] == [(Kind.UNREADABLE, False)]
    assert text in found.differences[0].detail
    assert not found.summary.is_sound


async def test_a_marker_of_another_month_is_reported(store: Store) -> None:
    """Its time was changed: sums of this month cannot be made of it."""
    marker = next(key for _, key in store.tables[LEDGER] if key.startswith("c|"))
    store.tamper(LEDGER, ALICE, marker, At=datetime(2026, 12, 1, tzinfo=UTC))
    found = await rebuild(store, repairs_ledger=True)

    assert found.kinds[0] is Kind.UNREADABLE
    assert "2026-12-01T00:00:00+00:00, which is another month" in found.differences[0].detail


async def test_sums_whose_markers_cannot_be_read_are_not_repaired(store: Store) -> None:
    """What they should be is not known."""
    marker = next(key for _, key in store.tables[LEDGER] if key.startswith("c|"))
    store.tamper(LEDGER, ALICE, marker, Call="?")
    before = state(store)
    found = await rebuild(store, repairs_ledger=True)

    assert found.kinds == [Kind.UNREADABLE, *[Kind.WRONG_SUM] * 3]
    assert state(store) == before


async def test_a_marker_that_cannot_be_read_holds_up_its_own_subject_alone() -> None:
    """Other subjects' sums in the ledger partition are repaired."""
    store, bob = Store(), neighbour_of("alice")
    await count(store, usage_event(1), usage_event(2, subject=bob))
    marker = next(key for _, key in store.tables[LEDGER] if key.endswith(f"|{bob}"))
    store.tamper(LEDGER, ALICE, marker, Call="?")
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls=7)
    found = await rebuild(store, repairs_ledger=True)

    wrong = [d for d in found.differences if d.kind is Kind.WRONG_SUM]
    assert [(d.subject, d.is_repaired) for d in wrong] == [("alice", True), *[(bob, False)] * 3]


async def test_a_marker_that_names_no_subject_holds_up_all_of_its_partition(store: Store) -> None:
    """It may be of any of them."""
    store.put(LEDGER, ALICE, "c|x", At=NOW)
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls=7)
    store.tamper(LEDGER, BOB, DAY_SUM.replace(VIEW_ROW, BOBS_ROW), Calls=7)
    found = await rebuild(store, repairs_ledger=True)

    wrong = [d for d in found.differences if d.kind is Kind.WRONG_SUM]
    assert {(d.subject, d.is_repaired) for d in wrong} == {
        ("alice", False),
        ("b|ö", True),
    }


@pytest.mark.parametrize("column", ["Region", "DeploymentType"])
async def test_where_a_sum_was_served_is_checked_too(column: str) -> None:
    """It is that of the latest call."""
    store = Store()
    calls = [usage_event(n, region=f"r{n}", deployment_type=f"t{n}") for n in (1, 2)]
    later = usage_event(3, region="r3", deployment_type="t3", time=NOW + timedelta(minutes=1))
    await count(store, later, *calls)
    assert (await rebuild(store)).differences == []
    store.tamper(LEDGER, ALICE, DAY_SUM, **{column: "elsewhere"})
    found = await rebuild(store, repairs_ledger=True)

    assert [(c.found, c.name) for c in found.differences[0].columns] == [("elsewhere", column)]
    assert str(store.view()[column])[1:] == "3"


async def test_tokens_of_a_tools_model_are_sums_of_their_own() -> None:
    """They have no call; without their markers they would look like sums from nowhere."""
    store = Store()
    tool = ToolUsage(deployment="image", model="gpt-image-1", usage=USAGE)
    await count(store, usage_event(1, tool_usage=(tool,)))
    sound = await rebuild(store)
    key = next(
        key for _, key in store.tables[LEDGER] if key.startswith("s|2026-11|alice|app|image|")
    )
    store.tamper(LEDGER, ALICE, key, TotalTokens=1, CompletionTokens=9, Seconds=4)
    found = await rebuild(store, repairs_ledger=True)

    assert (sound.differences, sound.summary.sums) == ([], 6)
    assert {(c.name, c.found, c.right) for c in found.differences[0].columns} == {
        ("TotalTokens", 1, 15),
        ("CompletionTokens", 9, 5),
        ("Seconds", 4, 0),
    }
    assert store.rows(LEDGER)[key]["TotalTokens"] == 15
    assert (await rebuild(store)).differences == []


async def test_a_wrong_sum_of_a_quiet_month_costs_no_second_reading(store: Store) -> None:
    """Sums, markers and sums again: one pass says which sums are wrong, and repairs them."""
    store.calls.clear()
    await rebuild(store)
    scans = store.calls["scan"]
    store.calls.clear()
    store.tamper(LEDGER, ALICE, DAY_SUM, Calls=7)
    await rebuild(store, is_dry_run=True)
    assert store.calls["scan"] == scans
    store.calls.clear()
    await rebuild(store, repairs_ledger=True)

    assert store.calls["scan"] == scans
