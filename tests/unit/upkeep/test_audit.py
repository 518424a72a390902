"""Checking a ledger against its markers: what is damage, what is repaired, and when it is not."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter.upkeep.differences import Difference, Kind, WrongColumn
from tests.support.events import NOW, usage_event
from tests.support.rebuilding import (
    DAY_SUM,
    LEDGER,
    NAMES,
    VIEW_ROW,
    Store,
    count,
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
    store.tamper(LEDGER, "alice", DAY_SUM, Calls=7, TotalTokens=1)
    store.tamper("UsageByDay", "2026-11-23", VIEW_ROW, Calls=8)
    before = state(store)
    found = await rebuild(store)

    assert found.differences == [
        Difference(
            kind=Kind.WRONG_SUM,
            subject="alice",
            window="2026-11-23",
            names=("gpt-4o", "gpt-4o-2024-11-20", "standard"),
            columns=(WrongColumn("Calls", 7, 2), WrongColumn("TotalTokens", 1, 30)),
        )
    ]
    assert not found.summary.is_sound
    assert state(store) == before


async def test_what_shows_a_sum_that_was_deleted_is_not_taken_for_surplus(store: Store) -> None:
    """Its markers are there, so the row may be the last that is right."""
    store.remove(LEDGER, "alice", DAY_SUM)
    before = state(store)
    found = await rebuild(store)

    assert found.kinds == [Kind.WRONG_SUM]
    assert [(c.name, c.found, c.right) for c in found.differences[0].columns] == [
        ("Calls", 0, 2),
        ("PromptTokens", 0, 20),
        ("CompletionTokens", 0, 10),
        ("TotalTokens", 0, 30),
    ]
    assert state(store) == before


async def changed(store: Store, key: str = DAY_SUM) -> None:
    store.tamper(LEDGER, "alice", key, Calls=7, TotalTokens=1, FirstCallAt=NOW - timedelta(days=9))


async def deleted(store: Store) -> None:
    store.remove(LEDGER, "alice", DAY_SUM)


async def of_another_type(store: Store) -> None:
    store.tamper(LEDGER, "alice", DAY_SUM, Calls="two", Subject="bob", Model="x")


async def from_nowhere(store: Store) -> None:
    columns = store.tables[LEDGER]["alice", DAY_SUM].columns
    store.put(LEDGER, "alice", f"s|2026-11-29|{NAMES}", **columns)


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


async def test_the_wrong_sums_of_a_window_are_repaired_in_one_transaction(store: Store) -> None:
    """No reader sees half of it."""
    await count(store, usage_event(4, deployment="other"))
    store.tamper(LEDGER, "alice", DAY_SUM, Calls=7)
    store.tamper(LEDGER, "alice", DAY_SUM.replace("gpt-4o|", "other|", 1), Calls=7)
    store.transactions.clear()
    await rebuild(store, repairs_ledger=True)

    assert [t.rows for t in store.transactions if t.table == LEDGER] == [2]


async def test_a_repaired_sum_has_a_higher_revision(store: Store) -> None:
    """So it is shown, by the sweep too if the rebuild dies here."""
    store.tamper(LEDGER, "alice", DAY_SUM, Calls=7, Revision=4)
    await rebuild(store, repairs_ledger=True)

    assert store.rows(LEDGER, "alice")[DAY_SUM]["Revision"] == 5
    assert store.view()["Revision"] == 5


async def test_a_subject_known_by_its_hash_is_repaired_by_its_row_in_subjects() -> None:
    """The ledger's partition holds a hash of a long subject, the sum's row its whole text."""
    store, subject = Store(), "ß" * 200
    await count(store, usage_event(1, subject=subject))
    (partition, key), _ = next(
        item for item in store.tables[LEDGER].items() if item[0][1].startswith("s|2026-11|")
    )
    before = dict(store.tables[LEDGER][partition, key].columns)
    store.remove(LEDGER, partition, key)
    found = await rebuild(store, repairs_ledger=True)

    assert [d.is_repaired for d in found.differences] == [True]
    assert store.tables[LEDGER][partition, key].columns == before
    assert before["Subject"] == subject


async def test_an_unknown_subject_is_reported_and_not_changed() -> None:
    """Nothing is invented."""
    store = Store()
    await count(store, usage_event(1, subject="ß" * 200))
    for partition, key in [place for place in store.tables[LEDGER] if place[1][0] == "s"]:
        store.remove(LEDGER, partition, key)
    del store.tables["Subjects"]
    found = await rebuild(store, repairs_ledger=True)

    assert found.kinds == [Kind.WRONG_SUM] * 3
    assert not any(difference.is_repaired for difference in found.differences)


@pytest.mark.parametrize(
    ("key", "columns", "text"),
    [
        ("c|x", {"At": NOW}, "c|x cannot be read"),
        ("c|x", {"At": "soon", "Call": "{}"}, "c|x cannot be read"),
        ("c|x", {"At": NOW, "Call": "{"}, "c|x cannot be read"),
        ("c|x", {"At": NOW, "Call": "[]"}, "c|x cannot be read"),
        ("c|x", {"At": NOW, "Call": '{"deployment":"d"}'}, "c|x cannot be read"),
        ("s|2026-11-23", {}, "s|2026-11-23 is neither a marker nor a sum"),
        ("t|2026-11-23|a|b|standard", {}, "is neither a marker nor a sum"),
        ("s|2026-10-23|a|b|standard", {}, "is of another month"),
        ("s|2026-11-99|a|b|standard", {}, "a time is YYYY-MM"),
        ("note", {}, "note is neither a marker nor a sum"),
    ],
)
async def test_a_row_of_the_ledger_that_the_app_did_not_write_is_reported(
    store: Store, key: str, columns: dict[str, Any], text: str
) -> None:
    """It stays where it is, and the rest is still checked."""
    store.put(LEDGER, "alice", key, **columns)
    found = await rebuild(store, repairs_ledger=True)

    assert [(d.kind, d.is_repaired) for d in found.differences] == [(Kind.UNREADABLE, False)]
    assert text in found.differences[0].detail
    assert not found.summary.is_sound


async def test_a_marker_of_another_month_is_reported(store: Store) -> None:
    """Its time was changed: sums of this month cannot be made of it."""
    marker = next(key for _, key in store.tables[LEDGER] if key.startswith("c|"))
    store.tamper(LEDGER, "alice", marker, At=datetime(2026, 12, 1, tzinfo=UTC))
    found = await rebuild(store, repairs_ledger=True)

    assert found.kinds[0] is Kind.UNREADABLE
    assert "2026-12-01T00:00:00+00:00, which is another month" in found.differences[0].detail


async def test_sums_whose_markers_cannot_be_read_are_not_repaired(store: Store) -> None:
    """What they should be is not known."""
    marker = next(key for _, key in store.tables[LEDGER] if key.startswith("c|"))
    store.tamper(LEDGER, "alice", marker, Call="?")
    before = state(store)
    found = await rebuild(store, repairs_ledger=True)

    assert found.kinds == [Kind.UNREADABLE, *[Kind.WRONG_SUM] * 3]
    assert state(store) == before
