"""Hub positions: what the hub dropped is reported, exactly and once; nothing else is."""

from copy import replace
from datetime import timedelta

import pytest

from meter.ledger.decode import Message
from meter.ledger.keys import escape
from meter.ledger.positions import HubPositions
from meter.ports import Row
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import Fault, MemoryRowStore
from tests.support.events import NOW, raw_message

HUB = "ns.servicebus.windows.net/usage"


def received(*numbers: int, partition: str = "3", hub: str = HUB) -> list[Message]:
    """Messages of those numbers; the hub took each a second after the one before."""
    return [
        replace(
            raw_message(b"{}", sequence_number=number),
            hub=hub,
            hub_partition=partition,
            enqueued_at=NOW + timedelta(seconds=number),
        )
        for number in numbers
    ]


def at_the_hub(store: MemoryRowStore) -> HubPositions:
    """Positions in a new process, two hours after the first message."""
    return HubPositions(store, FakeClock(moment=NOW + timedelta(hours=2)))


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


async def handled(positions: HubPositions, messages: list[Message]) -> bool:
    may_be_repeats = await positions.receive(messages)
    await positions.save()
    return may_be_repeats


@pytest.mark.parametrize("hub", [HUB, ""])
async def test_a_gap_is_reported_once(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture, hub: str
) -> None:
    """With its first and last number and how many are missing; at level critical."""
    positions = at_the_hub(store)
    await handled(positions, received(40, 41, hub=hub))
    await handled(positions, received(1_000_041, 1_000_042, hub=hub))
    await handled(positions, received(1_000_041, 1_000_042, 1_000_043, hub=hub))

    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("CRITICAL", "hub_events_missing partition=3 first=42 last=1000040 count=999999")
    ]


async def test_a_gap_is_seen_across_a_restart(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """The row says where the last process stood."""
    await handled(at_the_hub(store), received(41))
    await handled(at_the_hub(store), received(50))

    assert caplog.messages == ["hub_events_missing partition=3 first=42 last=49 count=8"]


async def test_messages_without_a_time_are_followed_by_their_numbers(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Not every host says when the hub took a message; lower numbers are a redelivery then."""
    for numbers in ([1, 2], [1, 2, 3], [4], [9]):
        untimed = [replace(each, enqueued_at=None) for each in received(*numbers)]
        await handled(at_the_hub(store), untimed)

    assert caplog.messages == ["hub_events_missing partition=3 first=5 last=8 count=4"]


async def test_a_gap_inside_a_batch_is_seen(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Wherever it is."""
    await handled(at_the_hub(store), received(1, 2, 5))

    assert caplog.messages == ["hub_events_missing partition=3 first=3 last=4 count=2"]


async def test_the_first_start_reports_nothing(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Numbers before it were another consumer's, or had been dropped before there was a meter."""
    await handled(at_the_hub(store), received(500_000))

    assert caplog.messages == []


async def test_a_redelivery_reports_nothing_and_is_known_as_one(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """In the process that has seen it, and in the next one."""
    positions = at_the_hub(store)
    first = await handled(positions, received(1, 2, 3))
    following = await handled(positions, received(4, 5))
    repeats = [await handled(one, received(2, 3, 4, 5)) for one in (positions, at_the_hub(store))]

    assert (first, following, repeats) == (True, False, [True, True])
    assert caplog.messages == []


async def test_a_partition_that_went_to_another_aggregator_and_back_reports_nothing(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Storage is asked before anything is reported; then it is not asked again."""
    ours, theirs = at_the_hub(store), at_the_hub(store)
    await handled(ours, received(1, 2))
    await handled(theirs, received(3, 4, 5))
    await handled(ours, received(6))
    await handled(theirs, received(7, 8))
    await handled(ours, received(9))

    assert caplog.messages == []


async def test_a_partition_taken_over_with_a_gap_reports_it(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Counted from where the other aggregator stood."""
    ours, theirs = at_the_hub(store), at_the_hub(store)
    await handled(ours, received(1, 2))
    await handled(theirs, received(3, 4, 5))
    await handled(ours, received(9))

    assert caplog.messages == ["hub_events_missing partition=3 first=6 last=8 count=3"]


async def test_a_hub_made_anew_is_said_once_and_its_gaps_are_seen(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Lower numbers that the hub took later are no redelivery."""
    positions = at_the_hub(store)
    await handled(positions, received(1000))
    anew = [replace(m, enqueued_at=NOW + timedelta(hours=1)) for m in received(0, 1, 2, 7)]
    await handled(positions, anew[:2])
    await handled(positions, anew[2:3])
    await handled(at_the_hub(store), anew[3:])

    assert caplog.messages == [
        "hub_restarted partition=3 last=1000 first=0",
        "hub_events_missing partition=3 first=3 last=6 count=4",
    ]


async def test_partitions_and_hubs_have_positions_of_their_own(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """Each numbers its messages from 0."""
    positions = at_the_hub(store)
    for hub in (HUB, "other"):
        for partition in ("0", "1"):
            await handled(positions, received(7, hub=hub, partition=partition))
            await handled(positions, received(8, hub=hub, partition=partition))

    assert caplog.messages == []
    assert len(store.rows("HubPositions")) == 4


async def test_a_steady_stream_costs_one_write_per_batch(store: MemoryRowStore) -> None:
    """And no read."""
    positions = at_the_hub(store)
    await handled(positions, received(1))
    store.calls.clear()
    for number in range(2, 12):
        await handled(positions, received(number))

    assert dict(store.calls) == {"write": 10}


async def test_without_the_hubs_name_nothing_is_stored(store: MemoryRowStore) -> None:
    """There is no key for it; within the process gaps are seen all the same."""
    await handled(at_the_hub(store), received(1, hub=""))

    assert store.tables == {}


@pytest.mark.parametrize("operation", ["read", "write"])
async def test_an_outage_reports_no_gap_and_fails_nothing(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture, operation: str
) -> None:
    """A position is a help to operators; no call depends on it."""
    await handled(at_the_hub(store), received(1))
    store.plan(operation, Fault.UNAVAILABLE)
    positions = at_the_hub(store)
    await handled(positions, received(2))
    await handled(positions, received(3))

    assert "hub_events_missing" not in caplog.text
    assert store.rows("HubPositions")["ns.servicebus.windows.net=2Fusage|3"]["SequenceNumber"] == 3


ROW = f"{escape(HUB)}|3"


@pytest.mark.parametrize("ahead", [timedelta(minutes=6), timedelta(days=400 * 365)])
@pytest.mark.parametrize("number", [3, 10**12])
async def test_a_stored_moment_in_the_future_counts_as_no_row_and_is_replaced(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture, ahead: timedelta, number: int
) -> None:
    """Nothing would ever be later: gaps would be reported at each restart, and a new hub never."""
    await handled(at_the_hub(store), received(1))
    await change(store, SequenceNumber=number, EnqueuedAt=NOW + timedelta(hours=2) + ahead)
    await handled(at_the_hub(store), received(50))
    await handled(at_the_hub(store), received(51, 53))

    stored = store.rows("HubPositions")[ROW]
    assert (stored["SequenceNumber"], stored["EnqueuedAt"]) == (53, NOW + timedelta(seconds=53))
    assert [r.getMessage() for r in caplog.records if r.levelname == "CRITICAL"] == [
        "hub_events_missing partition=3 first=52 last=52 count=1"
    ]


@pytest.mark.parametrize("columns", [{"SequenceNumber": "3"}, {"EnqueuedAt": "never"}])
async def test_a_damaged_row_is_replaced(store: MemoryRowStore, columns: dict[str, str]) -> None:
    """By the next batch."""
    await handled(at_the_hub(store), received(1))
    await change(store, **columns)
    await handled(at_the_hub(store), received(2))

    stored = store.rows("HubPositions")[ROW]
    assert (stored["SequenceNumber"], stored["EnqueuedAt"]) == (2, NOW + timedelta(seconds=2))


async def test_a_hub_whose_clock_was_ahead_is_followed_all_the_same(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A message's moment is at most our own; redeliveries and a hub made anew are still told apart."""
    ahead = [replace(m, enqueued_at=NOW + timedelta(days=9)) for m in received(7, 8)]
    ours, theirs = at_the_hub(store), at_the_hub(store)
    await handled(ours, ahead)
    await handled(theirs, [replace(m, enqueued_at=LATER) for m in received(9, 10)])
    await handled(ours, [replace(m, enqueued_at=LATER) for m in received(11)])
    await handled(ours, received(9, 10))
    await handled(ours, [replace(m, enqueued_at=LATER + timedelta(minutes=1)) for m in received(0)])

    assert caplog.messages == ["hub_restarted partition=3 last=11 first=0"]
    stored = store.rows("HubPositions")[ROW]
    assert stored["SequenceNumber"] == 0


LATER = NOW + timedelta(hours=2)


async def change(store: MemoryRowStore, **columns: object) -> None:
    """Change the stored position by hand."""
    etag = store.tables["HubPositions"]["hub", ROW].etag
    row = Row(key=ROW, columns=columns, etag=etag)
    await store.write("HubPositions", "hub", update=[row])


@pytest.mark.parametrize("old", [[998, 999], [3], [0], [6, 7]])
@pytest.mark.parametrize("shuffled", [False, True])
async def test_a_hub_made_anew_in_the_middle_of_a_batch_is_no_gap(
    store: MemoryRowStore, caplog: pytest.LogCaptureFixture, old: list[int], shuffled: bool
) -> None:
    """Its numbers begin again beside those of the hub before; what is missing of either is seen."""
    anew = [
        replace(m, enqueued_at=NOW + timedelta(hours=1, seconds=m.sequence_number))
        for m in received(*range(5), 6, 7)
    ]
    batch = [*received(*old), *anew]
    positions = at_the_hub(store)
    await handled(positions, batch[::-1] if shuffled else batch)
    await handled(positions, [replace(m, enqueued_at=LATER) for m in received(8)])
    await handled(positions, anew)

    assert caplog.messages == [
        f"hub_restarted partition=3 last={old[-1]} first=0",
        "hub_events_missing partition=3 first=5 last=5 count=1",
    ]
    assert store.rows("HubPositions")[ROW]["SequenceNumber"] == 8
