"""Shards: a window's rows are in as many partitions as were set before it began, for ever."""

from datetime import timedelta

import pytest

from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.ledger.views.shards import READ_AGAIN_SECONDS, ROWS_A_SHARD, SHARDS_TABLE, Shards
from meter.ledger.views.view import ViewWriter
from meter.ports import Row
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import dimensions

HOUR, NEXT, AFTER = Window("2026-11-23T07"), Window("2026-11-23T08"), Window("2026-11-23T09")


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock(moment=NOW.replace(minute=10))


@pytest.fixture
def shards(store: MemoryRowStore, clock: FakeClock) -> Shards:
    return Shards(store, clock)


async def test_a_window_is_one_partition_unless_it_was_split(shards: Shards) -> None:
    """As most deployments stay for ever."""
    await shards.read()

    assert shards.partitions_of(HOUR) == ["2026-11-23T07"]


async def test_a_window_with_too_many_rows_splits_later_ones(
    shards: Shards, store: MemoryRowStore
) -> None:
    """Never itself: its rows would be in two places."""
    await shards.read()
    await shards.note_rows(HOUR, ROWS_A_SHARD)
    assert SHARDS_TABLE not in store.tables
    await shards.note_rows(HOUR, ROWS_A_SHARD + 1)
    await shards.read()

    assert shards.count(HOUR) == 1
    assert shards.partitions_of(NEXT) == ["2026-11-23T08~00", "2026-11-23T08~01"]
    assert shards.count(Window("2026-11-24")) == 1


async def test_a_window_that_begins_within_the_notice_is_not_split_any_more(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """Others may write it before they read that it is split."""
    clock.moment = NOW.replace(minute=40)
    shards = Shards(store, clock)
    await shards.read()
    await shards.note_rows(HOUR, ROWS_A_SHARD + 1)
    await shards.read()

    assert (shards.count(NEXT), shards.count(AFTER)) == (1, 2)


async def test_a_split_doubles_with_each_window_that_needs_it(
    shards: Shards, clock: FakeClock
) -> None:
    """Up to the number of buckets."""
    window, counts = HOUR, []
    for _ in range(8):
        await shards.read()
        await shards.note_rows(window, ROWS_A_SHARD * 64)
        await shards.read()
        clock.moment += timedelta(hours=1)
        window = Window(clock.moment.strftime("%Y-%m-%dT%H"))
        counts.append(shards.count(window))

    assert counts == [2, 4, 8, 16, 32, 64, 64, 64]


async def test_what_another_process_set_is_read_in_time(
    store: MemoryRowStore, clock: FakeClock, shards: Shards
) -> None:
    """Sooner than any window that it is about begins."""
    await shards.read()
    other = Shards(store, clock)
    await other.read()
    await other.note_rows(HOUR, ROWS_A_SHARD + 1)
    await shards.read()
    assert shards.count(NEXT) == 1
    clock.advance(READ_AGAIN_SECONDS)
    await shards.read()

    assert shards.count(NEXT) == 2


async def test_two_that_split_a_window_at_once_agree(
    store: MemoryRowStore, clock: FakeClock
) -> None:
    """The row is only ever inserted."""
    one, other = Shards(store, clock), Shards(store, clock)
    await one.read()
    await other.read()
    await one.note_rows(HOUR, ROWS_A_SHARD + 1)
    await other.note_rows(HOUR, ROWS_A_SHARD * 64)
    await one.read()
    await other.read()

    assert one.count(NEXT) == other.count(NEXT) == 2


@pytest.mark.parametrize("count", [None, 0, 1, 65, "2", 2.0])
async def test_a_damaged_count_splits_nothing(
    store: MemoryRowStore, shards: Shards, count: object
) -> None:
    """What is not as the app writes it is not believed."""
    row = {"Count": count} if count is not None else {}

    await store.write(SHARDS_TABLE, "hour", insert=[Row(key=HOUR.name, columns=row)])
    await shards.read()

    assert shards.count(HOUR) == 1


async def test_view_rows_go_to_the_shard_of_their_subject(
    store: MemoryRowStore, shards: Shards
) -> None:
    """All of a subject to one, each row to one partition only."""

    await store.write(SHARDS_TABLE, "hour", insert=[Row(key=HOUR.name, columns={"Count": 4})])
    rows = [
        SumRow(
            key=SumKey(HOUR, dimensions(subject=f"s{n}", deployment=f"d{n % 2}")),
            sums=Sums(calls=1),
            revision=1,
        )
        for n in range(200)
    ]
    await ViewWriter(store, shards).write(rows)

    partitions = {partition for partition, _ in store.tables["UsageByHour"]}
    assert partitions == {f"2026-11-23T07~0{n}" for n in range(4)}
    assert len(store.rows("UsageByHour")) == 200
