"""The sweep: repairs views after a crash, changes nothing else, and stays cheap."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.commit import Committer
from meter.ledger.views.subjects import SubjectWriter, record_behind
from meter.ports import Conflict, Row, Written
from meter.upkeep.sweep import Sweep
from meter.usage import UsageEvent
from meter.window import Period, Window, window_of
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, adjustment, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import DAY_SUM, LEDGER, Store

VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")
AGO = timedelta(minutes=10)


@pytest.fixture
def store() -> Store:
    return Store()


def sweep(store: MemoryRowStore, now: datetime = NOW) -> Sweep:
    store.time = now
    return Sweep(store=store, tables=store, clock=FakeClock(moment=now))


async def commit_only(store: MemoryRowStore, *events: UsageEvent) -> None:
    """What an aggregator leaves that dies right after its commit, at the time of its events."""
    await SubjectWriter(store).record(events)
    for event in events:
        store.time = event.time
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
    await commit_only(store, usage_event(1, time=NOW - AGO))
    sweeper = sweep(store)
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


@pytest.mark.parametrize("operation", ["scan", "write", "names", "service_time"])
async def test_an_outage_fails_the_sweep(store: MemoryRowStore, operation: str) -> None:
    """The next run comes in ten minutes, and then all is shown."""
    await commit_only(store, usage_event(1, time=NOW - AGO))
    store.plan(operation, Fault.UNAVAILABLE)

    with pytest.raises(StorageUnavailable):
        await sweep(store).run()
    await sweep(store).run()
    assert shown(store) == {"2026-11-23T07": 1, "2026-11-23": 1, "2026-11": 1}


class Throttled(Store):
    """Some partitions answer every write, or every scan, with 503; one row is refused."""

    def __init__(self) -> None:
        super().__init__()
        self.written: set[str] = set()
        self.scanned: set[str] = set()
        self.poison = ""

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        if partition in self.written:
            raise StorageUnavailable(f"{table}: ServerBusy 503")
        if any(row.key.startswith(self.poison) for row in rows.get("insert", ()) if self.poison):
            raise RowsRefused(f"{table}: InvalidInput 400")
        return await Store.write(self, table, partition, **rows)

    async def scan(self, table: str, **bounds: Any) -> AsyncIterator[tuple[str, Row]]:
        if bounds["first_partition"] in self.scanned:
            raise StorageUnavailable(f"{table}: ServerBusy 503")
        async for each in Store.scan(self, table, **bounds):
            yield each


@pytest.mark.parametrize("window", ["2026-11-23T07", "2026-11-23", "2026-11"])
async def test_a_throttled_view_partition_stops_no_other_and_is_not_forgotten(
    window: str, caplog: pytest.LogCaptureFixture
) -> None:
    """All other windows are shown; this one when it can be, days after its subject's last call."""
    store = Throttled()
    calls = [usage_event(n, subject=f"s{n}", time=NOW - AGO) for n in range(1, 20)]
    old = usage_event(20, subject="s20", time=NOW - timedelta(hours=3))
    await commit_only(store, old, *calls)
    store.written = {window}
    for hours in (0, 2, 4):
        with pytest.raises(StorageUnavailable, match=r"^1 partitions, first: UsageBy"):
            await sweep(store, NOW + timedelta(hours=hours)).run()
    others = {"2026-11-23T04", "2026-11-23T07", "2026-11-23", "2026-11"} - {window}
    assert shown(store).keys() == others
    assert f"views_behind partition={window} rows=" in caplog.text
    store.written = set()
    await sweep(store, NOW + timedelta(days=3)).run()

    assert shown(store).keys() == others | {window}
    shown_rows = [place for table in VIEWS for place in store.tables[table]]
    assert len(shown_rows) == 60


async def test_a_subject_that_cannot_be_read_stops_no_other() -> None:
    """It is looked at again, however long ago it called."""
    store = Throttled()
    await commit_only(store, *(usage_event(n, subject=f"s{n}", time=NOW - AGO) for n in range(20)))
    store.scanned = {"s3"}
    with pytest.raises(StorageUnavailable, match=r"^1 partitions, first: Ledger"):
        await sweep(store).run()
    assert len(store.rows("UsageByDay")) == 19
    store.scanned = set()
    assert await sweep(store, NOW + timedelta(days=1)).run() == 3


async def test_a_refused_row_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is named; storage would not take it next time either."""
    store = Throttled()
    await commit_only(store, *(usage_event(n, subject=f"s{n}", time=NOW - AGO) for n in range(5)))
    store.poison = "s3|"

    assert await sweep(store).run() == 12
    assert caplog.text.count("row_refused partition=2026-11-23 row=s3|") == 1


async def test_what_a_row_says_is_behind_is_shown_and_believed_three_hours_later(
    store: Store,
) -> None:
    """An aggregator that said so need not say it again with each batch."""
    await commit_only(store, usage_event(1, time=NOW - timedelta(days=9)))
    await record_behind(store, {"alice": Window("2026-11-14T07")}, NOW)
    repaired = [await sweep(store, NOW + timedelta(hours=h)).run() for h in (0, 2.9)]
    assert (repaired, store.rows("Subjects")["alice"]["ViewsBehindFrom"]) == (
        [3, 0],
        "2026-11-14T07",
    )
    await commit_only(store, usage_event(2, time=NOW - timedelta(days=9)))
    await sweep(store, NOW + timedelta(hours=3)).run()

    assert shown(store) == {"2026-11-14T07": 2, "2026-11-14": 2, "2026-11": 2}
    assert store.rows("Subjects")["alice"]["ViewsBehindFrom"] == ""
    store.calls.clear()
    await sweep(store, NOW + timedelta(hours=4)).run()
    assert store.calls["scan"] == 1


async def test_what_is_said_while_the_sweep_reads_is_not_forgotten(store: Store) -> None:
    """Only a row that nobody has changed since is believed."""
    behind = {name: Window("2026-11-23T07") for name in ("alice", "bob")}
    await commit_only(store, usage_event(1), usage_event(2, subject="bob"))
    await record_behind(store, behind, NOW)
    later = NOW + timedelta(hours=4)

    async def say() -> None:
        await record_behind(store, {"alice": Window("2026-11-23T09")}, later)

    store.intrude(say)
    await sweep(store, later).run()

    said = {key: row["ViewsBehindFrom"] for key, row in store.rows("Subjects").items()}
    assert said == {"alice": "2026-11-23T07", "bob": ""}


@pytest.mark.parametrize("value", ["soon", 7, "2026-11"])
async def test_a_subject_whose_hour_is_damaged_is_looked_at_whole(
    store: Store, value: object
) -> None:
    """In every ledger that stands."""
    october = datetime(2026, 10, 5, tzinfo=UTC)
    await commit_only(store, usage_event(1, time=october), usage_event(2))
    store.tamper("Subjects", "subject", "alice", ViewsBehindFrom=value)

    await record_behind(store, {"alice": Window("2026-11-23T07")}, NOW)

    assert store.rows("Subjects")["alice"]["ViewsBehindFrom"] == value
    assert await sweep(store, NOW + timedelta(days=2)).run() == 6
    assert store.rows("Subjects")["alice"]["ViewsBehindFrom"] == ""


async def test_a_damaged_sum_keeps_its_subject_looked_at(store: Store) -> None:
    """Once it is repaired it is shown without a rebuild."""
    await commit_only(store, usage_event(1))
    await record_behind(store, {"alice": Window("2026-11-23T07")}, NOW)
    store.tamper(LEDGER, "alice", DAY_SUM, Calls="one")
    later = NOW + timedelta(hours=4)
    assert await sweep(store, later).run() == 2
    store.tamper(LEDGER, "alice", DAY_SUM, Calls=1)

    assert await sweep(store, later).run() == 1


@pytest.mark.parametrize("hours_since_the_call", [0, 2, 5, 24 * 12])
async def test_an_adjustment_that_was_never_shown_is_repaired(
    store: MemoryRowStore, hours_since_the_call: int
) -> None:
    """Hour, day and month, though its hour has no call and its subject may not have called for days."""
    await aggregator_on(store).count([usage_event(1)])
    now = NOW + timedelta(hours=hours_since_the_call)
    await adjust_only(store, now, time=now)
    repaired = await sweep(store, now + AGO).run()

    assert repaired == 3
    assert {row["AdjustedTotalTokens"] for row in store.rows("UsageByMonth").values()} == {-5}
    assert await sweep(store, now + AGO).run() == 0


async def test_an_adjustment_in_an_old_window_is_repaired(store: MemoryRowStore) -> None:
    """It counts where --time says, also in an earlier month whose ledger stands."""
    october = datetime(2026, 10, 5, tzinfo=UTC)
    await aggregator_on(store).count([usage_event(1, time=october), usage_event(2)])
    await adjust_only(store, NOW + AGO, time=october)

    assert await sweep(store, NOW + AGO + AGO).run() == 3


async def adjust_only(store: MemoryRowStore, now: datetime, *, time: datetime) -> None:
    """What the command leaves that dies right after its commit."""
    store.time = now
    await record_behind(store, {"alice": window_of(time, Period.HOUR)}, now)
    month = window_of(time, Period.MONTH)
    await Committer(store).commit("alice", month, [adjustment(1, time=time)])


@pytest.mark.parametrize(
    ("column", "value"), [("TotalTokens", "15"), ("Calls", 1.5), ("Subject", 7), ("LastCallAt", 3)]
)
async def test_a_damaged_row_is_reported_and_the_others_are_repaired(
    store: Store, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    """Those of its subject, and of the subjects behind it."""
    calls = [usage_event(n, subject=f"s{n}", time=NOW - AGO) for n in range(40)]
    await commit_only(store, *calls)
    store.tamper(LEDGER, "s3", DAY_SUM, **{column: value})
    repaired = await sweep(store).run()

    assert repaired == 119
    (line,) = [each for each in caplog.messages if each.startswith("sum_damaged")]
    assert line.startswith(
        f"sum_damaged table={LEDGER} reason={LEDGER}, partition s3, row {DAY_SUM}, column {column}: "
    )


async def test_at_most_16_subjects_are_read_at_once(store: MemoryRowStore) -> None:
    """A sweep of many takes its time, not all of the storage's."""
    calls = [usage_event(n, subject=f"s{n}", time=NOW - AGO) for n in range(50)]
    await commit_only(store, *calls)
    watched = Watched(tables=store.tables)
    await sweep(watched).run()

    assert watched.most == 16


@dataclass(slots=True)
class Watched(MemoryRowStore):
    """Notes how many scans of the ledger run at once."""

    running: int = 0
    most: int = 0

    async def scan(self, table: str, **bounds: Any) -> AsyncIterator[tuple[str, Row]]:
        is_ledger = table.startswith("Ledger")
        self.running += is_ledger
        self.most = max(self.most, self.running)
        async for each in MemoryRowStore.scan(self, table, **bounds):
            yield each
        self.running -= is_ledger


@pytest.mark.parametrize(
    ("column", "value"), [("Subject", "bob"), ("Deployment", "o3"), ("Tier", "batch")]
)
async def test_a_sum_that_names_another_is_not_shown_as_that_one(
    store: Store, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """Its higher revision would replace the other's right view row."""
    before = [usage_event(1, subject="bob"), usage_event(2, deployment="o3")]
    await aggregator_on(store).count(before)
    for number in range(3, 9):
        await aggregator_on(store).count([usage_event(number)])
    right = shown_rows(store)
    store.tamper(LEDGER, "alice", DAY_SUM, **{column: value})
    assert await sweep(store, NOW + AGO).run() == 0
    assert shown_rows(store) == right
    assert f"column {column}" in caplog.text


async def test_a_damaged_last_seen_keeps_no_subject_out(store: Store) -> None:
    """Nobody knows then when the subject called."""
    await commit_only(store, usage_event())
    store.tamper("Subjects", "subject", "alice", LastSeen="yesterday")
    assert await sweep(store, NOW + AGO).run() == 3


def shown_rows(store: MemoryRowStore) -> dict[tuple[str, str], object]:
    """Calls by table and row key."""
    return {(table, key): row["Calls"] for table in VIEWS for key, row in store.rows(table).items()}
