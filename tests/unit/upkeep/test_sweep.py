"""The sweep: shows what a crash left out, changes nothing else, and stays cheap."""

import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import Any

import pytest

from meter.adjustment import Countable
from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.commit import Committer
from meter.ledger.keys import ledger_partition
from meter.ledger.marks import Marks
from meter.ledger.rows import SumRow
from meter.ports import Conflict, Row, Written
from meter.upkeep.sweep import PLACES_AT_ONCE, Sweep
from meter.window import Period, Window, window_of
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, adjustment, usage_event
from tests.support.ledger import aggregator_on
from tests.support.rebuilding import ALICE, BOB, DAY_SUM, LEDGER, Store

VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")
AGO = timedelta(minutes=10)
_writers = count()


@pytest.fixture
def store() -> Store:
    return Store()


def sweep(store: MemoryRowStore, now: datetime = NOW + AGO) -> Sweep:
    store.time = now
    return Sweep(store=store, tables=store, clock=FakeClock(moment=now))


async def commit_only(store: MemoryRowStore, *events: Countable, at: datetime = NOW) -> None:
    """What an aggregator leaves that dies right after its commits."""
    store.time = at
    marks = Marks(store, FakeClock(moment=at), f"writer{next(_writers)}")

    def keep(sums: Sequence[SumRow]) -> None:
        for row in sums:
            marks.add([row.key])

    committer = Committer(store, marks, keep)
    for event in events:
        month = window_of(event.time, Period.MONTH)
        await committer.commit(ledger_partition(event.subject), month, [event])


def shown(store: MemoryRowStore) -> dict[str, object]:
    """Calls by window."""
    return {
        partition: row.columns["Calls"]
        for table in VIEWS
        for (partition, _), row in store.tables.get(table, {}).items()
    }


def marks(store: MemoryRowStore) -> list[str]:
    """The ledger partitions with marks."""
    return [
        partition
        for table in store.tables
        if table.startswith("Ledger")
        for partition, key in store.tables[table]
        if key.startswith("v|")
    ]


async def test_sums_that_were_never_shown_are_shown(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Hour, day and month of each subject; the log says how many rows, and the marks are gone."""
    caplog.set_level(logging.WARNING)
    await commit_only(store, usage_event(1), usage_event(2, subject="b|ö"))
    repaired = await sweep(store).run()

    assert repaired == 6
    assert shown(store) == {"2026-11-23T07": 1, "2026-11-23": 1, "2026-11": 1}
    assert len(store.tables["UsageByMonth"]) == 2
    assert caplog.messages == ["views_repaired rows=6"]
    assert marks(store) == []


async def test_sums_that_were_shown_before_they_grew_are_shown_again(store: MemoryRowStore) -> None:
    """A view row that is behind is brought up to the ledger."""
    await commit_only(store, usage_event(1))
    await sweep(store).run()
    await commit_only(store, usage_event(2))
    repaired = await sweep(store).run()

    assert repaired == 3
    assert shown(store) == {"2026-11-23T07": 2, "2026-11-23": 2, "2026-11": 2}


async def test_what_is_shown_stays_as_it_is(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """A process that died between showing and removing its mark costs a look, and no view is written."""
    await aggregator_on(store).count([usage_event(1)])
    store.put(LEDGER, ALICE, "v|dead.0", From="2026-11-23T07")
    store.transactions.clear()
    repaired = await sweep(store, NOW + timedelta(hours=1)).run()

    assert repaired == 0
    assert {t.table for t in store.transactions} == {LEDGER}
    assert caplog.messages == []
    assert marks(store) == []


@pytest.mark.parametrize(
    ("quiet_for", "repaired"), [(timedelta(seconds=119), 0), (timedelta(minutes=2), 3)]
)
async def test_a_mark_that_was_written_just_now_is_left_to_its_process(
    store: MemoryRowStore, quiet_for: timedelta, repaired: int
) -> None:
    """It shows its sums itself every few seconds, and writes its mark with each transaction."""
    await commit_only(store, usage_event(1))

    assert await sweep(store, NOW + quiet_for).run() == repaired
    assert marks(store) == ([] if repaired else [ALICE])


@pytest.mark.parametrize("days", [0, 1, 40])
async def test_a_mark_is_taken_up_however_old_it_is(store: MemoryRowStore, days: int) -> None:
    """Nothing is behind for good, whenever the subject called last."""
    await commit_only(store, usage_event(1))

    assert await sweep(store, NOW + AGO + timedelta(days=days)).run() == 3


async def test_only_windows_from_the_marks_on_are_read(store: Store) -> None:
    """What was shown before the process died is not looked at again."""
    await commit_only(store, usage_event(1, time=NOW - timedelta(days=7)))
    store.remove(LEDGER, ALICE, next(key for _, key in store.tables[LEDGER] if key[0] == "v"))
    await commit_only(store, usage_event(2))
    await sweep(store).run()

    assert shown(store) == {"2026-11-23T07": 1, "2026-11-23": 1, "2026-11": 2}


async def test_an_old_backlog_is_shown_as_far_back_as_it_reaches(store: MemoryRowStore) -> None:
    """A mark names the earliest window that its process had not shown."""
    old = usage_event(1, time=NOW - timedelta(days=7))
    await commit_only(store, old, usage_event(2))
    await sweep(store).run()

    assert shown(store) == {
        "2026-11-16T07": 1,
        "2026-11-16": 1,
        "2026-11-23T07": 1,
        "2026-11-23": 1,
        "2026-11": 2,
    }


@pytest.mark.parametrize("value", ["soon", 7, None])
async def test_a_damaged_mark_means_all_of_its_month(store: Store, value: object) -> None:
    """Nobody knows then from where on the views may be behind."""
    await commit_only(store, usage_event(1, time=NOW.replace(day=1)), usage_event(2))
    for key in [key for _, key in store.tables[LEDGER] if key[0] == "v"]:
        store.put(LEDGER, ALICE, key, From=value)

    assert await sweep(store).run() == 5


async def test_at_the_turn_of_a_month_both_months_are_swept(store: MemoryRowStore) -> None:
    """Each has marks of its own."""
    turn = datetime(2026, 12, 1, tzinfo=UTC)
    tick = timedelta(microseconds=1)
    calls = usage_event(1, time=turn - tick), usage_event(2, time=turn)
    await commit_only(store, *calls, at=turn)
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
    await commit_only(store, usage_event(1, time=midnight - AGO), at=midnight)
    await sweep(store, midnight + AGO).run()

    assert shown(store) == {"2026-11-22T23": 1, "2026-11-22": 1, "2026-11": 1}


async def test_a_sweep_without_work_costs_a_query_for_each_partition(store: MemoryRowStore) -> None:
    """However many subjects there are."""
    await aggregator_on(store).count([usage_event(n, subject=f"s{n}") for n in range(300)])
    store.calls.clear()
    await sweep(store).run()

    assert dict(store.calls) == {"service_time": 1, "names": 1, "scan": 64}


async def test_a_partition_costs_two_queries_of_its_sums(store: MemoryRowStore) -> None:
    """The months of all of its subjects are one range of row keys, the recent hours and days another."""
    hours = [usage_event(n, time=NOW - timedelta(hours=n)) for n in range(50)]
    await commit_only(store, *hours)
    store.calls.clear()
    await sweep(store).run()

    # The marks, the sums of months and the others, and how windows are split.
    assert store.calls["scan"] == 64 + 2 + 1
    assert store.calls["keys_between"] == 0


async def test_a_subject_that_was_never_recorded_is_added(store: MemoryRowStore) -> None:
    """Subjects are recorded after they are counted, so a crash may leave them out."""
    await commit_only(store, usage_event(1))
    await sweep(store).run()

    (row,) = store.rows("Subjects").values()
    assert (row["Subject"], row["FirstSeen"], row["LastSeen"]) == ("alice", NOW, NOW)


async def test_a_batch_that_died_without_an_answer_is_shown(store: MemoryRowStore) -> None:
    """The mark is written together with the sums, or not at all."""
    store.time = NOW
    aggregator = aggregator_on(store)
    store.plan("write", Fault.ANSWER_LOST)
    with pytest.raises(StorageUnavailable):
        await aggregator.count([usage_event(1)])
    repaired = await sweep(store).run()

    assert repaired == 3
    assert marks(store) == []


@pytest.mark.parametrize("operation", ["scan", "write", "names", "service_time"])
async def test_an_outage_fails_the_sweep(store: MemoryRowStore, operation: str) -> None:
    """The next run comes in ten minutes, and then all is shown."""
    await commit_only(store, usage_event(1))
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
    calls = [usage_event(n, subject=f"s{n}") for n in range(1, 20)]
    old = usage_event(20, subject="s20", time=NOW - timedelta(hours=3))
    await commit_only(store, old, *calls)
    store.written = {window}
    for hours in (1, 2, 4):
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
    assert marks(store) == []


async def test_a_partition_that_cannot_be_read_stops_no_other() -> None:
    """Its mark stays, and it is looked at in the next run."""
    store = Throttled()
    await commit_only(store, usage_event(1), usage_event(2, subject="b|ö"))
    store.scanned = {BOB}
    with pytest.raises(StorageUnavailable, match=r"^1 partitions, first: Ledger"):
        await sweep(store).run()
    assert len(store.rows("UsageByDay")) == 1
    assert marks(store) == [BOB]
    store.scanned = set()

    assert await sweep(store, NOW + timedelta(days=1)).run() == 3


async def test_a_refused_row_stops_no_other(caplog: pytest.LogCaptureFixture) -> None:
    """It is named in each run, and its mark stays: a later program may know how to write it."""
    store = Throttled()
    await commit_only(store, *(usage_event(n, subject=f"s{n}") for n in range(5)))
    store.poison = "s3|"

    assert await sweep(store).run() == 12
    assert caplog.text.count("row_refused partition=2026-11-23 row=s3|") == 1
    assert marks(store) == [ledger_partition("s3")]


async def test_a_mark_that_is_written_while_the_sweep_reads_stays(store: Store) -> None:
    """Its process is alive: it shows the sums that it adds now."""
    await commit_only(store, usage_event(1), usage_event(2, subject="b|ö"))
    key = next(key for (at, key) in store.tables[LEDGER] if at == ALICE and key[0] == "v")

    async def write() -> None:
        store.put(LEDGER, ALICE, key, From="2026-11-23T09")

    store.intrude(write)
    await sweep(store).run()

    assert marks(store) == [ALICE]


async def test_a_damaged_sum_stops_no_other(store: Store, caplog: pytest.LogCaptureFixture) -> None:
    """It is named; a rebuild repairs and shows it."""
    calls = [usage_event(n, subject=f"s{n}") for n in range(40)]
    await commit_only(store, *calls)
    at, key = next((p, k) for p, k in store.tables[LEDGER] if k.startswith("s|2026-11|s3|"))
    store.tamper(LEDGER, at, key, TotalTokens="15")
    repaired = await sweep(store).run()

    assert repaired == 119
    (line,) = [each for each in caplog.messages if each.startswith("sum_damaged")]
    assert line.startswith(
        f"sum_damaged table={LEDGER} reason={LEDGER}, partition {at}, row {key}, "
        "column TotalTokens: "
    )


@pytest.mark.parametrize(
    ("column", "value"), [("Calls", 1.5), ("Subject", 7), ("LastCallAt", 3), ("Tier", "batch")]
)
async def test_a_sum_is_damaged_whatever_its_cell(
    store: Store, caplog: pytest.LogCaptureFixture, column: str, value: object
) -> None:
    """Also where it only names another tier than its key."""
    await commit_only(store, usage_event(1))
    await commit_only(store, usage_event(2, time=NOW + timedelta(days=1)))  # the day is closed
    store.tamper(LEDGER, ALICE, DAY_SUM, **{column: value})

    assert await sweep(store).run() == 4
    assert f"column {column}" in caplog.text


@pytest.mark.parametrize("hours_since_the_call", [0, 2, 5, 24 * 12])
async def test_an_adjustment_that_was_never_shown_is_shown(
    store: MemoryRowStore, hours_since_the_call: int
) -> None:
    """Hour, day and month, though its hour has no call and its subject may not have called for days."""
    await aggregator_on(store).count([usage_event(1)])
    now = NOW + timedelta(hours=hours_since_the_call)
    await commit_only(store, adjustment(1, time=now), at=now)
    repaired = await sweep(store, now + AGO).run()

    assert repaired == 3
    assert {row["AdjustedTotalTokens"] for row in store.rows("UsageByMonth").values()} == {-5}
    assert await sweep(store, now + AGO).run() == 0


async def test_an_adjustment_in_an_old_window_is_shown(store: MemoryRowStore) -> None:
    """It counts where --time says, also in an earlier month whose ledger stands."""
    october = datetime(2026, 10, 5, tzinfo=UTC)
    await aggregator_on(store).count([usage_event(1, time=october), usage_event(2)])
    await commit_only(store, adjustment(1, time=october))

    assert await sweep(store).run() == 3


async def test_rows_of_a_split_window_are_shown_in_their_shards(store: Store) -> None:
    """Where reports look for them."""
    store.put("ViewShards", "hour", "2026-11-23T07", Count=4)
    await commit_only(store, *(usage_event(n, subject=f"s{n}") for n in range(40)))
    await sweep(store).run()

    at = {(partition, key.split("|")[0]) for partition, key in store.tables["UsageByHour"]}
    assert at == {
        (f"2026-11-23T07~{int(ledger_partition(f's{n}')) % 4:02}", f"s{n}") for n in range(40)
    }


async def test_a_long_subject_is_shown_under_its_hash(store: MemoryRowStore) -> None:
    """The row's columns have the whole of it."""
    await commit_only(store, usage_event(1, subject="ß" * 200))
    await sweep(store).run()

    assert [row["Subject"] for row in store.rows("UsageByMonth").values()] == ["ß" * 200]


async def test_marks_are_read_a_few_at_a_time(store: MemoryRowStore) -> None:
    """A sweep takes its time, not all of the storage's."""
    await commit_only(store, *(usage_event(n, subject=f"s{n}") for n in range(50)))
    watched = Watched(tables=store.tables)
    await sweep(watched).run()

    assert watched.most == PLACES_AT_ONCE


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


@pytest.mark.parametrize(("column", "value"), [("Subject", "bob"), ("Deployment", "o3")])
async def test_a_sum_that_names_another_is_not_shown_as_that_one(
    store: Store, caplog: pytest.LogCaptureFixture, column: str, value: str
) -> None:
    """Its higher revision would replace the other's right view row."""
    before = [usage_event(1, subject="bob"), usage_event(2, deployment="o3")]
    await aggregator_on(store).count(before)
    for number in range(3, 9):
        await aggregator_on(store).count([usage_event(number)])
    tomorrow = NOW + timedelta(days=1)
    await aggregator_on(store, tomorrow).count([usage_event(9, time=tomorrow)])
    right = shown_rows(store)
    store.tamper(LEDGER, ALICE, DAY_SUM, **{column: value})
    store.put(LEDGER, ALICE, "v|dead.0", From=Window("2026-11-23T07").name)

    assert await sweep(store).run() == 0
    assert shown_rows(store) == right
    assert f"column {column}" in caplog.text


def shown_rows(store: MemoryRowStore) -> dict[tuple[str, str], object]:
    """Calls by table and row key."""
    return {(table, key): row["Calls"] for table in VIEWS for key, row in store.rows(table).items()}
