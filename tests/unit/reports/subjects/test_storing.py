"""Writing changes of subjects beside the aggregator."""

from collections.abc import Mapping
from copy import replace
from datetime import timedelta
from functools import partial

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.views.subjects import SubjectWriter, seen_in
from meter.reports.subjects.changes import Change
from meter.reports.subjects.storing import write_changes
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, PRINCIPAL, usage_event


def change(subject: str = "alice", **texts: str) -> Change:
    return Change(subject=subject, texts={name: ("", text) for name, text in texts.items()})


def rows(store: MemoryRowStore) -> dict[str, Mapping[str, object]]:
    return store.rows("Subjects", "subject")


async def test_neither_writer_loses_the_others_columns() -> None:
    """Each merges its own into the row that the other changed a moment before."""
    store = MemoryRowStore()
    aggregator = SubjectWriter(store)
    call = usage_event(principal=replace(PRINCIPAL, name="Alice"))
    later = replace(call, time=NOW + timedelta(hours=1))
    store.intrude(partial(aggregator.record, [seen_in(call)]))
    await write_changes(store, [change(team="Research")])
    await aggregator.record([seen_in(later)])

    (row,) = rows(store).values()
    assert (row["Subject"], row["Team"], row["Name"]) == ("alice", "Research", "Alice")
    assert row["FirstSeen"] != row["LastSeen"]


async def test_a_subject_that_has_not_called_is_prepared() -> None:
    """Its first call completes the row."""
    store = MemoryRowStore()
    await write_changes(store, [change("bob%/", cost_centre="4711")])
    await SubjectWriter(store).record([seen_in(usage_event(subject="bob%/"))])

    (row,) = rows(store).values()
    assert (row["Subject"], row["CostCentre"]) == ("bob%/", "4711")
    assert "FirstSeen" in row


async def test_a_hundred_rows_are_one_transaction() -> None:
    """Ten thousand take a hundred round trips, beside those that read what is there."""
    store = MemoryRowStore()
    told: list[int] = []
    changes = [change(f"s{number}", team="Sales") for number in range(250)]
    await write_changes(store, changes, wrote=told.append)

    assert [each.rows for each in store.transactions] == [100, 100, 50]
    assert told == [100, 200, 250]


async def test_a_repeat_writes_what_an_interruption_left() -> None:
    """And nothing else."""
    store = MemoryRowStore()
    changes = [change(f"s{number}", team="Sales") for number in range(250)]
    store.plan("write", Fault.NOTHING, Fault.UNAVAILABLE)
    with pytest.raises(StorageUnavailable):
        await write_changes(store, changes)
    await write_changes(store, changes)
    await write_changes(store, changes)

    assert [each.rows for each in store.transactions] == [100, 100, 50]
    assert {row["Team"] for row in rows(store).values()} == {"Sales"}


async def test_what_is_cleared_becomes_empty() -> None:
    """As merging takes no column out, and reports read an empty text as none."""
    store = MemoryRowStore()
    await write_changes(store, [change(team="Sales", cost_centre="1")])
    await write_changes(store, [change(team="")])

    (row,) = rows(store).values()
    assert (row["Team"], row["CostCentre"]) == ("", "1")
