"""Receiving with the unmodified SDK: positions, owner levels, checkpoints and load balancing."""

import asyncio
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from azure.eventhub import EventData
from azure.eventhub.exceptions import ConnectError, ConnectionLostError, EventHubError

from tests.local.eventhubs.test_harness import (
    GROUPS,
    HUB,
    OWNERS,
    PARTITIONS,
    WAIT_SECONDS,
    MemoryCheckpointStore,
    Served,
    SideBySide,
    bodies,
    receive,
    receive_async,
    send,
    serve,
)

side_by_side = SideBySide()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Four sends of one event each to partition 0 of one hub, one second apart."""
    with serve(tmp_path_factory.mktemp("data")) as served:
        with served.producer() as producer:
            for body in ("a", "b", "c", "d"):
                producer.send_event(EventData(body), partition_id="0")
        with side_by_side.run(served):
            yield


_POSITIONS: list[tuple[Callable[[Any], Any], bool, list[str]]] = [
    (lambda _: "-1", False, ["a", "b", "c", "d"]),
    (lambda b: b.offset, False, ["c", "d"]),
    (lambda b: b.offset, True, ["b", "c", "d"]),
    (lambda b: b.sequence_number, False, ["c", "d"]),
    (lambda b: b.sequence_number, True, ["b", "c", "d"]),
    (lambda b: b.enqueued_time, False, ["c", "d"]),
    (lambda b: b.enqueued_time, True, ["b", "c", "d"]),
    (lambda b: b.enqueued_time + timedelta(milliseconds=1), True, ["c", "d"]),
]


@side_by_side
async def test_a_reader_starts_at_the_requested_position(served: Served, hub: str) -> None:
    """By offset, sequence number and enqueued time, exclusive or inclusive."""
    second = (await asyncio.to_thread(receive, served, HUB, "0", 4))[1]

    async def read(group: str, start: Any, inclusive: bool, count: int) -> list[str]:
        settings: dict[str, Any] = {"group": group, "starting_position_inclusive": inclusive}
        received = await asyncio.to_thread(receive, served, HUB, "0", count, start, **settings)
        return bodies(received)

    readings = await asyncio.gather(
        *(
            read(group, choose(second), inclusive, len(expected))
            for group, (choose, inclusive, expected) in zip(GROUPS, _POSITIONS, strict=True)
        )
    )

    assert readings == [expected for _, _, expected in _POSITIONS]


@side_by_side
async def test_the_asyncio_consumer_starts_from_a_sequence_number(served: Served, hub: str) -> None:
    """The asyncio half of the SDK sends the same selectors."""
    received = await receive_async(
        served.async_consumer(), 2, start=2, partition_id="0", starting_position_inclusive=True
    )

    assert bodies(received) == ["c", "d"]


@side_by_side
def test_a_position_past_the_end_is_refused(served: Served, hub: str) -> None:
    """A checkpoint of another log is an error, not a silent wait for events that never arrive."""
    consumer = served.consumer()
    errors: list[Exception] = []

    def on_error(_: object, error: Exception) -> None:
        errors.append(error)
        consumer.close()

    with consumer:
        consumer.receive(
            lambda *_: None, on_error=on_error, partition_id="0", starting_position=1000
        )

    assert isinstance(errors[0], ConnectError)
    assert "sequence-number '1000' is invalid" in str(errors[0])


@side_by_side
def test_an_unknown_group_is_refused_at_once(served: Served, hub: str) -> None:
    """`amqp:not-found` reaches `on_error`; nothing hangs."""
    consumer = served.consumer(HUB, "nobody")
    errors: list[Exception] = []

    def on_error(_: object, error: Exception) -> None:
        errors.append(error)
        consumer.close()

    with consumer:
        consumer.receive(lambda *_: None, on_error=on_error, partition_id="0")

    assert isinstance(errors[0], ConnectionLostError)
    assert errors[0].error == "not-found"


@side_by_side
async def test_from_latest_only_new_events_come_and_at_once(served: Served, hub: str) -> None:
    """`@latest` skips existing events; new ones are pushed to a waiting reader."""
    received: list[str] = []
    arrived = asyncio.Event()

    async def on_event(_: object, event: EventData | None) -> None:
        if event is not None:
            received.append(event.body_as_str())
            arrived.set()

    async with (
        served.async_producer(hub) as producer,
        served.async_consumer(hub) as consumer,
    ):
        await producer.send_event(EventData("old"), partition_id="0")
        receiving = asyncio.create_task(
            consumer.receive(on_event, partition_id="0", starting_position="@latest")
        )
        async with asyncio.timeout(WAIT_SECONDS):
            while not arrived.is_set():
                await producer.send_event(EventData("new"), partition_id="0")
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)

    assert set(received) == {"new"}


@side_by_side
async def test_the_last_enqueued_event_is_reported_to_readers_that_track_it(
    served: Served, hub: str
) -> None:
    """With `track_last_enqueued_event_properties`, each event says where its partition ends."""
    known: list[dict[str, Any]] = []
    done = asyncio.Event()

    async def on_event(context: Any, _: EventData | None) -> None:
        known.append(context.last_enqueued_event_properties)
        done.set()

    async with served.async_consumer() as consumer:
        receiving = asyncio.create_task(
            consumer.receive(
                on_event,
                partition_id="0",
                starting_position="-1",
                track_last_enqueued_event_properties=True,
            )
        )
        await asyncio.wait_for(done.wait(), WAIT_SECONDS)
        receiving.cancel()
        await asyncio.gather(receiving, return_exceptions=True)

    last = (await asyncio.to_thread(receive, served, HUB, "0", 4))[-1]
    assert known[0]["sequence_number"] == 3
    assert known[0]["offset"] == last.offset
    assert known[0]["enqueued_time"] == last.enqueued_time
    assert known[0]["retrieval_time"] > last.enqueued_time


@side_by_side
async def test_a_higher_owner_level_takes_the_partition_away(served: Served, hub: str) -> None:
    """The weaker reader gets `amqp:link:stolen`, and is refused while the stronger reads."""
    errors: asyncio.Queue[Exception] = asyncio.Queue()
    reading = asyncio.Event()

    async def on_event(_: object, event: EventData | None) -> None:
        reading.set()

    async def on_error(_: object, error: Exception) -> None:
        await errors.put(error)

    def start(consumer: Any, owner_level: int) -> asyncio.Task[None]:
        receiving = consumer.receive(
            on_event,
            on_error=on_error,
            partition_id="0",
            starting_position="-1",
            owner_level=owner_level,
        )
        return asyncio.create_task(receiving)

    async with _leveled(served) as weak, _leveled(served) as strong:
        tasks = [start(weak, 1)]
        await asyncio.wait_for(reading.wait(), WAIT_SECONDS)
        tasks.append(start(strong, 2))
        stolen = await asyncio.wait_for(errors.get(), WAIT_SECONDS)
        refused = await asyncio.wait_for(errors.get(), WAIT_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(stolen, EventHubError)
    assert isinstance(refused, EventHubError)
    assert stolen.error == refused.error == "link:stolen"


def _leveled(served: Served) -> Any:
    # A reader that lost its partition tries again at the next balancing.
    return served.async_consumer(HUB, OWNERS, load_balancing_interval=0.2)


@side_by_side
async def test_a_consumer_goes_on_from_its_checkpoint(served: Served, hub: str) -> None:
    """Checkpointed events are not read again, later ones are."""
    store = MemoryCheckpointStore()
    settings: dict[str, Any] = {"checkpoint_store": store, "load_balancing_interval": 0.5}
    await asyncio.to_thread(send, served, hub, ["first", "second"], partition_id="1")
    before = await receive_async(served.async_consumer(hub, **settings), 2)
    await asyncio.to_thread(send, served, hub, ["third"], partition_id="1")
    store.ownerships.clear()  # the first consumer is gone for good

    after = await receive_async(served.async_consumer(hub, **settings), 1)

    assert (bodies(before), bodies(after)) == (["first", "second"], ["third"])
    assert store.checkpoints["1"]["sequence_number"] == 2


@side_by_side
async def test_two_consumers_share_the_partitions(served: Served, hub: str) -> None:
    """Load balancing ends with every partition owned once, half by each, and all events read."""
    store = MemoryCheckpointStore()
    owned: dict[str, set[str]] = {"one": set(), "two": set()}
    received: list[str] = []
    changed = asyncio.Event()

    async def run(name: str) -> None:
        async def on_open(context: Any) -> None:
            owned[name].add(context.partition_id)
            changed.set()

        async def on_close(context: Any, _: object) -> None:
            owned[name].discard(context.partition_id)
            changed.set()

        async def on_batch(context: Any, events: list[EventData]) -> None:
            received.extend(bodies(events))
            changed.set()

        consumer = served.async_consumer(
            hub,
            checkpoint_store=store,
            load_balancing_interval=0.2,
            partition_ownership_expiration_interval=10,
        )
        async with consumer:
            await consumer.receive_batch(
                on_batch,
                on_partition_initialize=on_open,
                on_partition_close=on_close,
                starting_position="-1",
            )

    async with served.async_producer(hub) as producer:
        for number in range(PARTITIONS):
            await producer.send_event(EventData(str(number)), partition_id=str(number))
    tasks = [asyncio.create_task(run(name)) for name in owned]
    async with asyncio.timeout(WAIT_SECONDS):
        while {len(mine) for mine in owned.values()} != {2} or len(set(received)) < PARTITIONS:
            await changed.wait()
            changed.clear()
    shared = owned["one"] | owned["two"]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert shared == {"0", "1", "2", "3"}
    assert sorted(set(received)) == ["0", "1", "2", "3"]
