"""`meter.ports.HubReader` on Event Hubs (azure-eventhub, aio): reads along, and takes nothing from it.

It reads in the consumer group `$Default`, which every hub has and the aggregator does not use, without
an epoch, so that no other reader loses its place.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC
from typing import TYPE_CHECKING, Any, cast

from azure.core.exceptions import AzureError

from meter.adapters.libraries.eventhub import EventData, EventHubError, EventHubProducerClient
from meter.errors import HubUnavailable
from meter.ports import HubPartition

if TYPE_CHECKING:
    from azure.eventhub.aio import EventHubConsumerClient, PartitionContext

GROUP = "$Default"
ANSWER_SECONDS = 30.0
CLOSE_SECONDS = 5.0
_FAULTS = (EventHubError, AzureError, TimeoutError, OSError, ValueError)


class EventHubReader:
    """Reads a hub's partitions. Must be closed."""

    def __init__(
        self,
        consumer: "EventHubConsumerClient",
        *,
        name: str,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> None:
        self._consumer = consumer
        self._name = name
        self._answer_seconds = answer_seconds

    @property
    def name(self) -> str:
        """The hub, as `namespace/name`."""
        return self._name

    async def close(self) -> None:
        """Disconnect, in bounded time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_SECONDS):
                await self._consumer.close()

    async def partitions(self) -> Sequence[HubPartition]:
        """Its partitions, as they are now."""
        return await partitions_of(self._consumer, answer_seconds=self._answer_seconds)

    async def read(self, partition: str, *, first: int, last: int) -> AsyncIterator[bytes]:
        """The bodies of a partition's messages from one number to another, both included."""
        # A batch waits until the one before it was taken: what is read does not pile up.
        batches: asyncio.Queue[list[EventData] | Exception] = asyncio.Queue(maxsize=1)

        async def take(_: "PartitionContext", events: list[EventData]) -> None:
            await batches.put(events)

        async def fail(_: "PartitionContext", error: Exception) -> None:
            await batches.put(error)

        receiving = asyncio.create_task(
            self._consumer.receive_batch(
                take,
                on_error=fail,
                partition_id=partition,
                starting_position=first,
                starting_position_inclusive=True,
            )
        )
        try:
            at = first - 1
            while at < last:
                for event in await self._next(batches):
                    at = max(at, event.sequence_number or 0)
                    if at <= last:
                        yield b"".join(cast(Iterator[bytes], event.body))
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)

    async def _next(self, batches: asyncio.Queue[list[EventData] | Exception]) -> list[EventData]:
        with _translated():
            async with asyncio.timeout(self._answer_seconds):
                batch = await batches.get()
            if isinstance(batch, Exception):
                raise batch
            return batch


async def partitions_of(
    client: "EventHubConsumerClient | EventHubProducerClient", *, answer_seconds: float
) -> Sequence[HubPartition]:
    """The partitions of a client's hub, as they are now. Raises HubUnavailable."""
    with _translated():
        async with asyncio.timeout(answer_seconds):
            ids = await client.get_partition_ids()
            asked = (client.get_partition_properties(each) for each in ids)
            return [_partition(found) for found in await asyncio.gather(*asked)]


def _partition(found: Mapping[str, Any]) -> HubPartition:
    at = found["last_enqueued_time_utc"]
    return HubPartition(
        id=str(found["id"]),
        first_number=int(found["beginning_sequence_number"]),
        last_number=int(found["last_enqueued_sequence_number"]),
        last_enqueued_at=at if at.tzinfo else at.replace(tzinfo=UTC),
        is_empty=bool(found["is_empty"]),
    )


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except _FAULTS as exc:
        condition = getattr(exc, "error", None) or ""
        text = f"{type(exc).__name__} {condition}".rstrip()
        raise HubUnavailable(f"the hub does not say what it holds: {text}") from exc
