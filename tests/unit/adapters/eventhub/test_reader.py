"""Reading along on the hub: bounded waits, and one error for all that can go wrong."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

import pytest
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient
from azure.eventhub.exceptions import AuthenticationError, ConnectError

from meter.adapters.hub.reader import ANSWER_SECONDS, EventHubReader
from meter.errors import HubUnavailable


@dataclass
class FakeConsumer:
    """Stands in for `EventHubConsumerClient`: one partition, whose events come in batches."""

    batches: list[list[int]] = field(default_factory=list)
    failure: Exception | None = None
    error: Exception | None = None
    is_silent: bool = False
    asked: dict[str, Any] = field(default_factory=dict)
    is_receiving: bool = False
    is_closed: bool = False

    async def get_partition_ids(self) -> list[str]:
        if self.is_silent:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure
        return ["7"]

    async def get_partition_properties(self, partition: str) -> dict[str, Any]:
        return {
            "id": partition,
            "beginning_sequence_number": 3,
            "last_enqueued_sequence_number": 9,
            "last_enqueued_time_utc": datetime(2026, 11, 23, 7, 30),  # noqa: DTZ001  # as the SDK does
            "is_empty": False,
        }

    async def receive_batch(
        self,
        take: Callable[[None, list[EventData]], Awaitable[None]],
        *,
        on_error: Callable[[None, Exception], Awaitable[None]],
        **options: Any,
    ) -> None:
        self.asked, self.is_receiving = options, True
        try:
            for numbers in self.batches:
                await take(None, [cast(EventData, Event(number)) for number in numbers])
            if self.error is not None:
                await on_error(None, self.error)
            await asyncio.Event().wait()
        finally:
            self.is_receiving = False

    async def close(self) -> None:
        self.is_closed = True


@dataclass
class Event:
    """An event as the SDK gives it, its body in pieces."""

    sequence_number: int

    @property
    def body(self) -> list[bytes]:
        return [b"event ", f"{self.sequence_number}".encode()]


def reader_on(consumer: FakeConsumer) -> EventHubReader:
    return EventHubReader(cast(EventHubConsumerClient, consumer), name="ns/usage")


async def read(consumer: FakeConsumer, first: int, last: int) -> list[bytes]:
    return [body async for body in reader_on(consumer).read("7", first=first, last=last)]


async def test_partitions_are_described() -> None:
    """Times are aware."""
    (found,) = await reader_on(FakeConsumer()).partitions()

    assert (found.id, found.first_number, found.last_number) == ("7", 3, 9)
    assert found.last_enqueued_at.isoformat() == "2026-11-23T07:30:00+00:00"


async def test_events_are_read_up_to_a_number_and_no_further() -> None:
    """From the first one on; receiving ends then."""
    consumer = FakeConsumer(batches=[[4, 5], [6, 7], [8]])

    assert await read(consumer, 4, 6) == [b"event 4", b"event 5", b"event 6"]
    assert consumer.asked["starting_position"] == 4
    assert consumer.asked["starting_position_inclusive"]
    assert consumer.asked["partition_id"] == "7"
    assert not consumer.is_receiving


async def test_a_hub_that_is_silent_is_given_up() -> None:
    """Each wait is bounded."""
    begun = asyncio.get_running_loop().time()
    with pytest.raises(HubUnavailable, match="does not say what it holds: TimeoutError"):
        await reader_on(FakeConsumer(is_silent=True)).partitions()
    with pytest.raises(HubUnavailable, match="TimeoutError"):
        await read(FakeConsumer(batches=[[1]]), 1, 2)

    assert asyncio.get_running_loop().time() - begun == 2 * ANSWER_SECONDS


@pytest.mark.parametrize("failure", [ConnectError("no"), AuthenticationError("no"), OSError("no")])
async def test_faults_are_one_error(failure: Exception) -> None:
    """Of a question, or while receiving; it names the kind."""
    kind = type(failure).__name__
    with pytest.raises(HubUnavailable, match=kind):
        await reader_on(FakeConsumer(failure=failure)).partitions()
    with pytest.raises(HubUnavailable, match=kind):
        await read(FakeConsumer(batches=[[1]], error=failure), 1, 2)


async def test_a_reader_is_closed() -> None:
    """With its connection."""
    consumer = FakeConsumer()
    await reader_on(consumer).close()

    assert consumer.is_closed
