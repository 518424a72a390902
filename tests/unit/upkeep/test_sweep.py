"""The sweep: repairs views after a crash, changes nothing else, and stays cheap."""

import logging
from datetime import UTC, datetime, timedelta

import pytest

from meter.errors import StorageUnavailable
from meter.ledger.commit import Committer
from meter.ledger.subjects import SubjectWriter
from meter.upkeep.sweep import Sweep
from meter.usage import UsageEvent
from meter.window import Period, window_of
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, usage_event
from tests.support.ledger import aggregator_on

VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")
AGO = timedelta(minutes=10)


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def sweep(store: MemoryRowStore, now: datetime = NOW) -> Sweep:
    return Sweep(store=store, clock=FakeClock(moment=now))


async def commit_only(store: MemoryRowStore, *events: UsageEvent) -> None:
    """What an aggregator leaves that dies right after its commit."""
    await SubjectWriter(store).record(events)
    for event in events:
        month = window_of(event.time, Period.MONTH)
        await Committer(store).commit(event.subject, month, [event])


def shown(store: MemoryRowStore) -> dict[str, object]:
    """Calls by window."""
    return {
        partition: row.columns["Calls"]
        for table in VIEWS
        for (partition, _), row in store.tables.get(table, {}).items()
    }


async def test_sums_that_were_never_shown_are_repaired(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Hour, day and month of each subject; the log says how many rows."""
    caplog.set_level(logging.WARNING)
    await commit_only(store, usage_event(1, time=NOW - AGO), usage_event(2, subject="b|ö"))
    repaired = await sweep(store, NOW + AGO).run()

    assert repaired == 6
    assert shown(store) == {"2026-11-23T07": 1, "2026-11-23": 1, "2026-11": 1}
    assert len(store.tables["UsageByMonth"]) == 2
    assert caplog.messages == ["views_repaired rows=6"]


async def test_sums_that_were_shown_before_they_grew_are_repaired(store: MemoryRowStore) -> None:
    """A view row that is behind is brought up to the ledger."""
    await commit_only(store, usage_event(1, time=NOW - AGO))
    await sweep(store).run()
    await commit_only(store, usage_event(2, time=NOW - AGO))
    repaired = await sweep(store).run()

    assert repaired == 3
    assert shown(store) == {"2026-11-23T07": 2, "2026-11-23": 2, "2026-11": 2}


async def test_a_view_row_that_was_deleted_comes_back(store: MemoryRowStore) -> None:
    """The sweep remembers nothing of its earlier runs."""
    sweeper = sweep(store)
    await commit_only(store, usage_event(1, time=NOW - AGO))
    await sweeper.run()
    del store.tables["UsageByDay"]
    repaired = await sweeper.run()

    assert repaired == 1
    assert shown(store)["2026-11-23"] == 1


async def test_what_is_shown_stays_as_it_is(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A sweep that finds nothing writes nothing and logs nothing."""
    await commit_only(store, usage_event(1, time=NOW - AGO))
    await sweep(store).run()
    caplog.clear()
    writes = len(store.transactions)
    repaired = await sweep(store).run()

    assert repaired == 0
    assert len(store.transactions) == writes
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("quiet_for", "repaired"), [(timedelta(seconds=119), 0), (timedelta(minutes=2), 3)]
)
async def test_a_sum_to_which_calls_are_still_added_is_skipped(
    store: MemoryRowStore, quiet_for: timedelta, repaired: int
) -> None:
    """It may be between its commit and its view just now; its next call shows it anyway."""
    await commit_only(store, usage_event(1))

    assert await sweep(store, NOW + quiet_for).run() == repaired


@pytest.mark.parametrize(("hours", "repaired"), [(3, 3), (3.01, 0)])
async def test_only_subjects_that_called_in_the_last_three_hours_are_looked_at(
    store: MemoryRowStore, hours: float, repaired: int
) -> None:
    """A sweep costs what the recent callers cost, however many there have ever been."""
    await commit_only(store, usage_event(1))

    assert await sweep(store, NOW + timedelta(hours=hours)).run() == repaired


async def test_only_recent_windows_are_read(store: MemoryRowStore) -> None:
    """An hour of last week is repaired by a rebuild, not by the sweep."""
    old = usage_event(1, time=NOW - timedelta(days=7))
    await commit_only(store, old, usage_event(2, time=NOW - AGO))
    await sweep(store).run()

    assert shown(store) == {"2026-11-23T07": 1, "2026-11-23": 1, "2026-11": 2}


async def test_at_the_turn_of_a_month_both_months_are_swept(store: MemoryRowStore) -> None:
    """The last hours lie in two ledgers then."""
    turn = datetime(2026, 12, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    await commit_only(store, usage_event(1, time=turn - tick), usage_event(2, time=turn))
    await sweep(store, turn + timedelta(minutes=30)).run()

    assert shown(store) == {
        "2026-11-30T23": 1,
        "2026-11-30": 1,
        "2026-11": 1,
        "2026-12-01T00": 1,
        "2026-12-01": 1,
        "2026-12": 1,
    }


async def test_across_midnight_the_day_before_is_swept(store: MemoryRowStore) -> None:
    """Its row sorts after its hours and before the next day's."""
    midnight = datetime(2026, 11, 23, tzinfo=UTC)
    await commit_only(store, usage_event(1, time=midnight - AGO))
    await sweep(store, midnight + AGO).run()

    assert shown(store) == {"2026-11-22T23": 1, "2026-11-22": 1, "2026-11": 1}


async def test_a_subject_costs_one_query_a_month(store: MemoryRowStore) -> None:
    """Its recent hours, days and month are one range of row keys."""
    hours = [usage_event(n, time=NOW - AGO - timedelta(hours=n)) for n in range(50)]
    await commit_only(store, *hours)
    store.calls.clear()
    await sweep(store).run()

    assert store.calls["scan"] == 2
    assert store.calls["keys_between"] == 0


async def test_a_subject_whose_first_batch_died_at_its_commit_is_found(
    store: MemoryRowStore,
) -> None:
    """Subjects are recorded before they are counted."""
    aggregator = aggregator_on(store)
    store.plan("write", Fault.NOTHING, Fault.ANSWER_LOST)
    with pytest.raises(StorageUnavailable):
        await aggregator.count([usage_event(1)])
    repaired = await sweep(store, NOW + AGO).run()

    assert repaired == 3


async def test_an_outage_fails_the_sweep(store: MemoryRowStore) -> None:
    """The next run comes in ten minutes."""
    await commit_only(store, usage_event(1, time=NOW - AGO))
    store.plan("write", Fault.UNAVAILABLE)

    with pytest.raises(StorageUnavailable):
        await sweep(store).run()
    assert await sweep(store).run() == 3
