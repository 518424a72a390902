"""Marks: committed sums that are not shown always have one, and none stays that nobody needs."""

import pytest

from meter.ledger.aggregator import Aggregator
from meter.ledger.keys import ledger_partition
from meter.ledger.marks import ABANDONED_AFTER, IDLE_SECONDS, window_of_mark
from meter.ports import Row
from meter.upkeep.sweep import Sweep
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, RETENTION, message, usage_event

LEDGER = "Ledger202611"


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(moment=NOW)


def owner(store: MemoryRowStore, clock: FakeClock, writer: str = "w") -> Aggregator:
    return Aggregator(store=store, clock=clock, retention=RETENTION, writer=writer)


def marks(store: MemoryRowStore) -> dict[str, object]:
    rows = store.rows(LEDGER)
    return {key: row["From"] for key, row in rows.items() if key.startswith("v|")}


async def test_a_mark_is_written_with_the_sums_and_removed_once_it_is_idle(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """A busy partition keeps its mark: it would be written again at once."""
    aggregator = owner(store, clock)
    await aggregator.handle([message(usage_event(1))])
    assert marks(store) == {"v|w.0": "2026-11-23T07"}

    await aggregator.showing.marks.clear()
    assert marks(store) == {"v|w.0": "2026-11-23T07"}
    clock.advance(IDLE_SECONDS)
    await aggregator.showing.marks.clear()
    assert marks(store) == {}


async def test_a_mark_names_the_first_window_that_is_not_shown(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """Not what was shown before, or a long-lived process would have a month swept."""
    aggregator = owner(store, clock)
    await aggregator.handle([message(usage_event(1, time=NOW.replace(hour=3)))])
    await aggregator.handle([message(usage_event(2), sequence_number=2)])
    assert marks(store) == {"v|w.0": "2026-11-23T07"}

    await aggregator.handle([message(usage_event(3, time=NOW.replace(day=22)), sequence_number=3)])
    assert marks(store) == {"v|w.0": "2026-11-22T07"}


async def test_a_lost_answer_leaves_the_mark_to_the_sweep(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """Its state is not known; the process goes on with another one."""
    aggregator = owner(store, clock)
    store.plan("write", Fault.ANSWER_LOST)
    place = ledger_partition("alice"), Window("2026-11")
    await aggregator.committer.commit(*place, [usage_event(1)])
    await aggregator.committer.commit(*place, [usage_event(1), usage_event(2)])

    assert sorted(marks(store)) == ["v|w.0", "v|w.1"]


async def test_a_mark_that_the_sweep_removed_is_written_again(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """One that was held up is alive after all, and learns of it by a conflict."""
    aggregator = owner(store, clock)
    await aggregator.handle([message(usage_event(1))])
    store.time += ABANDONED_AFTER
    await Sweep(store=store, tables=store, clock=clock).run()
    assert marks(store) == {}

    report = await aggregator.handle([message(usage_event(2), sequence_number=2)])
    assert report.new_calls == 1
    assert list(marks(store)) == ["v|w.0"]


async def test_a_fresh_mark_is_not_swept(store: MemoryRowStore, clock: FakeClock) -> None:
    """Its process is about to show the sums itself."""
    await owner(store, clock).handle([message(usage_event(1))])
    store.time += ABANDONED_AFTER / 2
    await Sweep(store=store, tables=store, clock=clock).run()

    assert list(marks(store)) == ["v|w.0"]


async def test_two_processes_in_one_partition_have_marks_of_their_own(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """Who has shown its sums removes its own mark only."""
    one, other = owner(store, clock, "one"), owner(store, clock, "other")
    await one.handle([message(usage_event(1))])
    await other.handle([message(usage_event(2), sequence_number=2)])
    await one.showing.settle()

    assert list(marks(store)) == ["v|other.0"]


async def test_a_mark_that_cannot_be_removed_costs_a_sweep_only(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """Whether it was removed is not known: another one is begun."""
    aggregator = owner(store, clock)
    await aggregator.handle([message(usage_event(1))])
    store.plan("write", Fault.UNAVAILABLE)
    await aggregator.showing.settle()
    await aggregator.handle([message(usage_event(2), sequence_number=2)])

    assert sorted(marks(store)) == ["v|w.0", "v|w.1"]


@pytest.mark.parametrize("value", [None, "", "yesterday", 7])
def test_a_mark_that_cannot_be_read_means_the_whole_month(value: object) -> None:
    """Too much is shown again rather than too little."""
    assert window_of_mark(Row(key="v|w.0", columns={"From": value}), Window("2026-11")) == Window(
        "2026-11-01T00"
    )


async def test_who_takes_a_partition_over_shows_what_its_owner_left(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """At its first batch there; the sweep need not come first."""
    dead = owner(store, clock, "dead")
    place = ledger_partition("alice"), Window("2026-11")
    await dead.committer.commit(*place, [usage_event(1), usage_event(2, deployment="other")])
    await owner(store, clock, "next").handle([message(usage_event(3))])

    rows = store.rows("UsageByMonth").values()
    assert sorted((str(row["Deployment"]), row["Calls"]) for row in rows) == [
        ("gpt-4o", 2),
        ("other", 1),
    ]


async def test_a_partition_whose_marks_cannot_be_read_is_counted_all_the_same(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """The sweep shows what was left there."""
    aggregator = owner(store, clock)
    store.plan("scan", Fault.UNAVAILABLE)
    report = await aggregator.handle([message(usage_event(1))])

    assert report.new_calls == 1
