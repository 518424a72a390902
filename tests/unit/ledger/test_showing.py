"""Showing: sums reach the views after the commit, whatever throttles, and soon after it ends."""

import asyncio
from collections.abc import Coroutine, Sequence
from datetime import timedelta
from typing import Any

import pytest

from meter.errors import RowsRefused, StorageUnavailable
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.ledger.showing import LONGEST_WAIT_SECONDS, Showing
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
    return Showing(store=store, clock=clock)


def total(revision: int, window: Window = DAY, subject: str = "alice") -> SumRow:
    names = dimensions(subject=subject, deployment="d", model="m", tier="standard")
    return SumRow(key=SumKey(window, names), sums=Sums(calls=revision), revision=revision)


def shown(store: Store, table: str = "UsageByDay") -> list[object]:
    return [row["Calls"] for row in store.rows(table).values()]


async def test_what_storage_takes_is_shown_when_it_returns(store: Store, showing: Showing) -> None:
    """All windows and the subject."""
    is_safe = await showing.show([total(1), total(1, HOUR)], [usage_event(1)])

    assert is_safe
    assert (shown(store), shown(store, "UsageByHour")) == ([1], [1])
    assert list(store.rows("Subjects")) == ["alice"]
    assert showing.waiting_rows == 0


async def test_a_throttled_partition_waits_alone(
    store: Store, showing: Showing, caplog: pytest.LogCaptureFixture
) -> None:
    """The other windows and the subjects are written; the log says how much is behind."""
    store.throttled = {"UsageByDay"}
    is_safe = await showing.show([total(1), total(1, HOUR)], [usage_event(1)])

    assert is_safe
    assert (shown(store), shown(store, "UsageByHour")) == ([], [1])
    assert showing.waiting_rows == 1
    assert caplog.messages == [
        "views_behind partition=2026-11-23 rows=1 seconds=1 reason=UsageByDay: ServerBusy 503"
    ]


async def test_a_throttled_partition_is_asked_less_and_less_often(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """Batches come ten times a second; it is asked after 1 s, 2 s, 4 s ... and each minute."""
    store.throttled = {"UsageByDay"}
    for revision in range(1, 3000):
        await showing.show([total(revision)], [])
        clock.advance(0.1)

    assert 9 <= store.asked.count("UsageByDay") <= 12
    store.throttled = set()
    clock.advance(LONGEST_WAIT_SECONDS)
    await showing.show([], [])
    assert shown(store) == [2999]


async def test_the_highest_revision_is_what_waits(store: Store, showing: Showing) -> None:
    """Two batches of one process may end in another order than they were committed."""
    store.throttled = {"UsageByDay"}
    await showing.show([total(2)], [])
    await showing.show([total(1)], [])
    store.throttled = set()
    await showing.settle()

    assert shown(store) == [2]


async def test_what_nobody_would_find_again_is_not_safe(store: Store, showing: Showing) -> None:
    """Neither shown nor in Subjects, by which the sweep finds it."""
    store.throttled = {"UsageByDay", "Subjects"}

    assert not await showing.show([total(1)], [usage_event(1)])
    store.throttled = {"UsageByDay"}
    await showing.settle()
    assert await showing.show([total(2)], [usage_event(2)])


async def test_subjects_alone_hold_up_nothing(store: Store, showing: Showing) -> None:
    """The sums are shown; the subject's row is written later."""
    store.throttled = {"Subjects"}

    assert await showing.show([total(1)], [usage_event(1)])
    store.throttled = set()
    await showing.settle()
    assert list(store.rows("Subjects")) == ["alice"]


async def test_a_subject_is_recorded_once_in_ten_minutes(store: Store, showing: Showing) -> None:
    """Its row is one of all subjects in one partition; an older call than known is news."""
    for minutes in (0, 1, 9.9, -3, 10, 15, 20):
        moment = NOW + timedelta(minutes=minutes)
        await showing.show([], [usage_event(1, time=moment)])

    assert store.asked.count("Subjects") == 4
    (row,) = store.rows("Subjects").values()
    assert row["FirstSeen"] == NOW - timedelta(minutes=3)
    assert row["LastSeen"] == NOW + timedelta(minutes=20)


async def test_rows_of_one_batch_share_a_transaction(store: Store, showing: Showing) -> None:
    """A hundred at a time."""
    subjects = [f"s{n}" for n in range(250)]
    events: list[UsageEvent] = [usage_event(1, subject=name) for name in subjects]
    await showing.show([total(1, DAY, name) for name in subjects], events)

    assert store.asked.count("UsageByDay") == 3
    assert store.asked.count("Subjects") == 3


async def test_a_refused_row_does_not_hold_up_its_neighbours(
    store: Store, showing: Showing, caplog: pytest.LogCaptureFixture
) -> None:
    """It is named in the log and left out."""
    store.poison = {"b|d|m|standard"}
    await showing.show([total(1, DAY, name) for name in "abc"], [])

    assert len(shown(store)) == 2
    assert showing.waiting_rows == 0
    assert "row_refused partition=2026-11-23 row=b|d|m|standard" in caplog.text


def in_virtual_time[T](steps: Coroutine[Any, Any, T]) -> T:
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        return runner.run(steps)


def test_a_partition_that_does_not_answer_delays_a_batch_by_two_seconds_once() -> None:
    """The next batches do not wait for it; what answers is shown."""

    async def run() -> tuple[float, float, list[object]]:
        store = Store()
        store.hanging = {"UsageByDay"}
        showing = Showing(store=store, clock=FakeClock())
        loop = asyncio.get_running_loop()
        start = loop.time()
        await showing.show([total(1), total(1, HOUR)], [])
        first = loop.time()
        await showing.show([total(2), total(2, HOUR)], [])
        return first - start, loop.time() - first, shown(store, "UsageByHour")

    assert in_virtual_time(run()) == (2.0, 0.0, [2])


def test_what_waits_is_shown_without_a_further_batch() -> None:
    """On a cadence of seconds, when storage takes it again."""

    async def run() -> list[object]:
        store, clock = Store(), FakeClock()
        showing = Showing(store=store, clock=clock)
        store.throttled = {"UsageByDay"}
        await showing.show([total(1)], [])
        store.throttled = set()
        clock.advance(60)
        await asyncio.sleep(6)
        return shown(store)

    assert in_virtual_time(run()) == [1]


async def test_too_much_is_left_to_the_sweep_oldest_window_first(
    store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Memory is bounded; the ledger has everything, and the sweep is told from which hour on."""
    showing = Showing(store=store, clock=clock, most_waiting=1000)
    store.throttled = {"UsageByDay"}
    older, newer = Window("2026-11-22"), DAY
    await showing.show([total(1, older, f"s{n}") for n in range(100)], [])
    await showing.show([total(1, newer, f"s{n}") for n in range(950)], [])

    assert showing.waiting_rows == 950
    assert said(store)["s0"] == "2026-11-22T00"
    assert "views_left_to_sweep partition=2026-11-22 rows=100" in caplog.messages


LATE = NOW - timedelta(days=5)  # far beyond the sweep's look back
LATE_DAY = Window("2026-11-18")


def said(store: Store) -> dict[str, object]:
    """From which hour on the subjects' rows say that views are behind."""
    return {key: row.get("ViewsBehindFrom") for key, row in store.rows("Subjects").items()}


async def test_what_waits_is_named_by_its_hour_before_a_batch_is_finished(
    store: Store, showing: Showing
) -> None:
    """The earliest hour of the calls; nothing is said of subjects that are shown."""
    store.throttled = {"UsageByDay"}
    events = [usage_event(1, time=LATE), usage_event(2), usage_event(3, subject="bob")]
    hour = total(1, HOUR, "bob")

    assert await showing.show([total(1), total(1, LATE_DAY), hour], events)
    assert said(store) == {"alice": "2026-11-18T07", "bob": None}


async def test_what_waits_is_said_once_in_ten_minutes(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """And at once of an earlier hour."""
    store.throttled = {"UsageByDay"}
    await showing.show([total(1)], [usage_event(1)])
    before = store.asked.count("Subjects")
    for number in range(2, 12):
        clock.advance(50)
        await showing.show([total(number)], [usage_event(number)])
    assert store.asked.count("Subjects") == before
    await showing.show([total(12, LATE_DAY)], [usage_event(12, time=LATE)])
    clock.advance(600)
    await showing.show([total(13)], [usage_event(13, time=NOW)])

    assert said(store) == {"alice": "2026-11-18T07"}
    assert store.rows("Subjects")["alice"]["ViewsBehindAt"] == clock.now()


async def test_a_batch_that_could_not_be_finished_is_not_finished_by_its_repeat(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """A process gives its sums but once: what matters is what waits, not what the repeat brings."""
    store.throttled = {"UsageByDay", "Subjects"}
    first = await showing.show([total(1)], [usage_event(1)])
    again = await showing.show([], [usage_event(1)])
    other = await showing.show([], [usage_event(2, subject="bob")])
    store.throttled = {"UsageByDay"}
    clock.advance(60)
    last = await showing.show([], [usage_event(1)])

    assert (first, again, other, last) == (False, False, True, True)
    assert said(store)["alice"] == "2026-11-23T07"


async def test_what_is_shown_meanwhile_need_not_be_said(
    store: Store, showing: Showing, clock: FakeClock
) -> None:
    """Subjects alone hold up nothing."""
    store.throttled = {"UsageByDay", "Subjects"}
    assert not await showing.show([total(1)], [usage_event(1)])
    store.throttled = {"Subjects"}
    clock.advance(60)

    assert await showing.show([], [usage_event(1)])
    assert shown(store) == [1]


async def test_nothing_is_dropped_that_no_row_says(
    store: Store, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Its batch is not finished, so no further one adds to what waits."""
    showing = Showing(store=store, clock=clock, most_waiting=1000)
    store.throttled = {"UsageByDay", "Subjects"}
    sums = [total(1, DAY, f"s{n}") for n in range(1009)]

    assert not await showing.show(sums, [])
    assert showing.waiting_rows == 1009
    assert "views_left_to_sweep" not in caplog.text


def test_batches_at_once_wait_for_what_is_being_said() -> None:
    """None fails because another has begun to say it."""

    async def run() -> list[bool]:
        store = Store()
        store.throttled = {"UsageByDay"}
        showing = Showing(store=store, clock=FakeClock())
        names = [f"s{n}" for n in range(5)]
        batches = (showing.show([total(1, DAY, s)], [usage_event(1, subject=s)]) for s in names)
        return await asyncio.gather(*batches)

    assert in_virtual_time(run()) == [True] * 5
