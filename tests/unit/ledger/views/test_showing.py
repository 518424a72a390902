"""Showing: sums reach the views after the commit, whatever throttles, and soon after it ends."""

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from datetime import timedelta
from typing import Any

import pytest

from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.marks import Marks
from meter.ledger.rows import SumRow
from meter.ledger.views.showing import (
    CADENCE_SECONDS,
    LONGEST_WAIT_SECONDS,
    MANY_ROWS,
    MAX_WAITING_ROWS,
    Showing,
)
from meter.ports import Conflict, Row, Written
from meter.usage import UsageEvent
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.support.events import NOW, usage_event
from tests.support.ledger import dimensions

HOUR, DAY = Window("2026-11-23T07"), Window("2026-11-23")


class Store(MemoryRowStore):
    """Some tables are throttled, and one never answers."""

    def __init__(self) -> None:
        super().__init__()
        self.throttled: set[str] = set()
        self.hanging: set[str] = set()
        self.poison: set[str] = set()
        self.asked: list[str] = []

    async def write(
        self, table: str, partition: str, *, insert: Sequence[Row] = (), **rows: Any
    ) -> Written | Conflict:
        self.asked.append(table)
        if table in self.hanging:
            await asyncio.Event().wait()
        if table in self.throttled:
            raise StorageUnavailable(f"{table}: ServerBusy 503")
        if any(row.key in self.poison for row in insert):
            raise RowsRefused(f"{table}: InvalidInput 400")
        return await super().write(table, partition, insert=insert, **rows)


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def showing(store: Store, clock: FakeClock) -> Showing:
    return showing_on(store, clock)


def showing_on(store: Store, clock: FakeClock, most_waiting: int = MAX_WAITING_ROWS) -> Showing:
    marks = Marks(store, clock, "w")
    return Showing(store=store, clock=clock, marks=marks, most_waiting=most_waiting)


async def show(showing: Showing, sums: Iterable[SumRow], events: Iterable[UsageEvent] = ()) -> None:
    """What a batch does once its sums are committed."""
    showing.add(sums)
    showing.note(events)
    await showing.keep_up()


def total(revision: int, window: Window = DAY, subject: str = "alice") -> SumRow:
    names = dimensions(subject=subject, deployment="d", model="m", tier="standard")
    return SumRow(key=SumKey(window, names), sums=Sums(calls=revision), revision=revision)


def shown(store: Store, table: str = "UsageByDay") -> list[object]:
    return [row["Calls"] for row in store.rows(table).values()]


async def test_what_storage_takes_is_shown_when_it_returns(store: Store, showing: Showing) -> None:
    """All windows and the subject."""
    await show(showing, [total(1), total(1, HOUR)], [usage_event(1)])

    assert (shown(store), shown(store, "UsageByHour")) == ([1], [1])
    assert list(store.rows("Subjects")) == ["alice"]
    assert showing.waiting_rows == 0


async def test_a_throttled_partition_waits_alone(
    store: Store, showing: Showing, caplog: pytest.LogCaptureFixture
) -> None:
    """The other windows and the subjects are written; the log says how much is behind."""
    store.throttled = {"UsageByDay"}
    await show(showing, [total(1), total(1, HOUR)], [usage_event(1)])

    assert (shown(store), shown(store, "UsageByHour")) == ([], [1])
    assert showing.waiting_rows == 1
    assert caplog.messages == [
        "views_behind partition=2026-11-23 rows=1 seconds=1 reason=UsageByDay: ServerBusy 503"
    ]


async def test_a_throttled_partition_is_asked_less_and_less_often(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """Batches come ten times a second; it is asked at the cadence, then after 8 s ... and each minute."""
    store.throttled = {"UsageByDay"}
    for revision in range(1, 3000):
        await show(showing, [total(revision)])
        clock.advance(0.1)

    assert 8 <= store.asked.count("UsageByDay") <= 12
    store.throttled = set()
    clock.advance(LONGEST_WAIT_SECONDS)
    await show(showing, [])
    assert shown(store) == [2999]


async def test_the_highest_revision_is_what_waits(store: Store, showing: Showing) -> None:
    """Two batches of one process may end in another order than they were committed."""
    store.throttled = {"UsageByDay"}
    await show(showing, [total(2)])
    await show(showing, [total(1)])
    store.throttled = set()
    await showing.settle()

    assert shown(store) == [2]


async def test_subjects_alone_hold_up_nothing(store: Store, showing: Showing) -> None:
    """The sums are shown; the subject's row is written later."""
    store.throttled = {"Subjects"}

    await show(showing, [total(1)], [usage_event(1)])
    assert shown(store) == [1]
    store.throttled = set()
    await showing.settle()
    assert list(store.rows("Subjects")) == ["alice"]


async def test_a_subject_is_recorded_once_in_ten_minutes(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """Its row is one of all subjects in one partition; an older call than known is news."""
    for minutes in (0, 1, 9.9, -3, 10, 15, 20):
        moment = NOW + timedelta(minutes=minutes)
        await show(showing, [], [usage_event(1, time=moment)])
        clock.advance(CADENCE_SECONDS)

    assert store.asked.count("Subjects") == 4
    (row,) = store.rows("Subjects").values()
    assert row["FirstSeen"] == NOW - timedelta(minutes=3)
    assert row["LastSeen"] == NOW + timedelta(minutes=20)


async def test_rows_of_one_batch_share_a_transaction(store: Store, showing: Showing) -> None:
    """A hundred at a time."""
    subjects = [f"s{n}" for n in range(250)]
    events: list[UsageEvent] = [usage_event(1, subject=name) for name in subjects]
    await show(showing, [total(1, DAY, name) for name in subjects], events)

    assert store.asked.count("UsageByDay") == 3
    assert store.asked.count("Subjects") == 3


async def test_a_refused_row_does_not_hold_up_its_neighbours(
    store: Store, showing: Showing, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log, and left to the sweep."""
    store.poison = {"b|app|d|m|east|standard|short"}
    await show(showing, [total(1, DAY, name) for name in "abc"])

    assert len(shown(store)) == 2
    assert showing.waiting_rows == 0
    assert "row_refused partition=2026-11-23 row=b|app|d|m|east|standard|short" in caplog.text


def in_virtual_time[T](steps: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(steps)


def test_a_partition_that_does_not_answer_delays_a_batch_by_two_seconds_once() -> None:
    """The next batches do not wait for it; what answers is shown."""

    async def run() -> tuple[float, float, list[object]]:
        store = Store()
        store.hanging = {"UsageByDay"}
        clock = FakeClock()
        showing = showing_on(store, clock)
        loop = asyncio.get_running_loop()
        start = loop.time()
        await show(showing, [total(1), total(1, HOUR)])
        first = loop.time()
        clock.advance(CADENCE_SECONDS)
        await show(showing, [total(2), total(2, HOUR)])
        return first - start, loop.time() - first, shown(store, "UsageByHour")

    assert in_virtual_time(run()) == (2.0, 0.0, [2])


def test_what_waits_is_shown_without_a_further_batch() -> None:
    """On a cadence of seconds, when storage takes it again."""

    async def run() -> list[object]:
        store, clock = Store(), FakeClock()
        showing = showing_on(store, clock)
        store.throttled = {"UsageByDay"}
        await show(showing, [total(1)])
        store.throttled = set()
        clock.advance(60)
        await asyncio.sleep(6)
        return shown(store)

    assert in_virtual_time(run()) == [1]


async def test_too_much_is_left_to_the_sweep_oldest_window_first(
    store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory is bounded; the ledger has everything, and the sweep is told from which hour on."""
    showing = showing_on(store, clock, most_waiting=1000)
    store.throttled = {"UsageByDay"}
    older, newer = Window("2026-11-22"), DAY
    await show(showing, (total(1, older, f"s{n}") for n in range(100)))
    await show(showing, (total(1, newer, f"s{n}") for n in range(950)))

    assert showing.waiting_rows == 1000
    assert "views_left_to_sweep partition=2026-11-22 rows=50" in caplog.messages


async def test_sums_that_change_often_are_copied_once_in_a_few_seconds(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """Where they are many: the first batch after a pause at once, then all that came together."""
    for revision in range(1, 11):
        await show(showing, (total(revision, DAY, f"s{n}") for n in range(MANY_ROWS)))
        clock.advance(CADENCE_SECONDS / 5)

    assert {row.columns["Revision"] for _, _, row in store.history} == {1, 6}
    await showing.settle()
    assert set(shown(store)) == {10}


async def test_few_sums_are_copied_with_each_batch(store: Store, showing: Showing) -> None:
    """To wait would save little, and a crash would show them later."""
    for revision in range(1, 4):
        await show(showing, [total(revision)])

    assert [row.columns["Revision"] for _, _, row in store.history] == [1, 2, 3]


async def test_much_that_waits_is_copied_before_its_time(store: Store, clock: FakeClock) -> None:
    """Half of what may wait."""
    showing = showing_on(store, clock, most_waiting=3_000)
    await show(showing, (total(1, DAY, f"s{n}") for n in range(MANY_ROWS)))
    await show(showing, (total(2, DAY, f"s{n}") for n in range(1_499)))
    assert showing.waiting_rows == 1_499
    await show(showing, [total(3, DAY, "s2000")])

    assert showing.waiting_rows == 0


async def test_closing_waits_for_what_is_being_written(store: Store, showing: Showing) -> None:
    """Then writes what came meanwhile."""
    store.pauses.extend([50])
    showing.add([total(1)])
    begun = asyncio.create_task(showing.keep_up())
    await asyncio.sleep(0)
    showing.add([total(2)])
    await showing.settle()
    await begun

    assert shown(store) == [2]
    assert showing.waiting_rows == 0
