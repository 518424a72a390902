"""The SDK's consumer with blob checkpoints: the endpoint and Azurite together keep its position."""

import asyncio
import uuid
from collections.abc import Iterable
from typing import cast

from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient, EventHubProducerClient, PartitionContext
from azure.eventhub.extensions.checkpointstoreblobaio import BlobCheckpointStore
from azure.storage.blob.aio import ContainerClient

from meter.adapters.clients import hub_trust
from tests.support.running import RunningStack


async def _receive(stack: RunningStack, container: str, wanted: str, enough: int) -> list[str]:
    """Read with checkpoints until that many events beginning with `wanted` were received."""
    found: list[str] = []
    complete = asyncio.Event()
    storage = stack.description["storage_connection_string"]

    async def on_event(partition: PartitionContext, event: EventData | None) -> None:
        assert event is not None, "no time-out was asked for"
        parts = cast(Iterable[bytes], event.body)
        body = b"".join(parts).decode(errors="replace")
        await partition.update_checkpoint(event)
        if body.startswith(wanted):
            found.append(
                body
            )  # partitions are read at once: enough are those with their checkpoints
        if len(found) >= enough:
            complete.set()

    store = BlobCheckpointStore.from_connection_string(storage, container)
    async with store:
        consumer = EventHubConsumerClient.from_connection_string(
            stack.description["event_hub_connection_string"],
            consumer_group="audit",
            eventhub_name=stack.description["event_hub_name"],
            checkpoint_store=store,
            load_balancing_interval=1,
            ssl_context=hub_trust(),
            partition_ownership_expiration_interval=5,
            load_balancing_strategy="greedy",
        )
        async with consumer:
            receiving = asyncio.create_task(consumer.receive(on_event, starting_position="-1"))
            async with asyncio.timeout(30):
                await complete.wait()
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
    return found


async def test_a_consumer_goes_on_where_its_checkpoints_say(stack: RunningStack) -> None:
    """A second consumer on the same checkpoints gets the events since then, and none again."""
    word = uuid.uuid4().hex
    container = f"checkpoints-{word}"
    storage = stack.description["storage_connection_string"]
    async with ContainerClient.from_connection_string(storage, container) as client:
        await client.create_container()
    producer = EventHubProducerClient.from_connection_string(
        stack.description["event_hub_connection_string"],
        eventhub_name=stack.description["event_hub_name"],
        ssl_context=hub_trust(),
    )
    async with producer:
        for number in range(4):
            await producer.send_batch([EventData(f"{word} {number}")], partition_id=str(number))
        first = await _receive(stack, container, word, 4)
        await producer.send_batch([EventData(f"{word} later")], partition_id="2")
        second = await _receive(stack, container, word, 1)

    assert sorted(first) == [f"{word} {number}" for number in range(4)]
    assert second == [f"{word} later"]
