"""The Event Hub trigger: the SDK's consumer with blob checkpoints, under the real host's rules.

One invocation per partition at a time. A failed batch is retried under the function's retry policy,
which holds its partition. When the retries are exhausted the batch is checkpointed anyway (the real
host does so on purpose); when the host stops or dies it is not, and is delivered again.
"""

import asyncio
import gc
import json
import logging
import os
import ssl
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import certifi
from azure.core.exceptions import ResourceExistsError
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubConsumerClient, PartitionContext
from azure.eventhub.amqp import AmqpMessageBodyType
from azure.eventhub.extensions.checkpointstoreblobaio import BlobCheckpointStore
from azure.storage.blob.aio import ContainerClient

from local.functions.messages import TypedData, bytes_values, json_value
from local.functions.worker import Function, Worker

CHECKPOINT_CONTAINER = "azure-webjobs-eventhub"
# How soon ownership is taken over after a host was killed; longer on the real host.
BALANCE_SECONDS = 2.0
OWNERSHIP_SECONDS = 6.0
RESTART_SECONDS = 1.0
COLLECT_SECONDS = 10.0

log = logging.getLogger(__name__)


class HubTrigger:
    """Feeds one Event Hub function."""

    def __init__(self, worker: Worker, function: Function, options: Mapping[str, Any]) -> None:
        self._worker = worker
        self._function = function
        self._max_batch = int(options.get("maxEventBatchSize", 100))
        self._prefetch = int(options.get("prefetchCount", 300))

    async def run(self) -> None:
        """Receive until cancelled; a consumer that fails is recreated."""
        collecting = asyncio.create_task(_collect_garbage())
        try:
            while True:
                try:
                    await self._receive()
                except asyncio.CancelledError:
                    raise
                except Exception:
                    log.exception("event hub consumer failed; restarting it")
                await asyncio.sleep(RESTART_SECONDS)
        finally:
            collecting.cancel()

    async def _receive(self) -> None:
        trigger = self._function.trigger
        storage = os.environ["AzureWebJobsStorage"]
        await _ensure_container(storage)
        store = BlobCheckpointStore.from_connection_string(storage, CHECKPOINT_CONTAINER)
        async with store:
            consumer = EventHubConsumerClient.from_connection_string(
                os.environ[trigger["connection"]],
                consumer_group=trigger.get("consumerGroup") or "$Default",
                eventhub_name=_resolved(trigger["eventHubName"]),
                checkpoint_store=store,
                load_balancing_interval=BALANCE_SECONDS,
                partition_ownership_expiration_interval=OWNERSHIP_SECONDS,
                load_balancing_strategy="greedy",
                # Else the SDK reads the authorities again for each partition.
                ssl_context=ssl.create_default_context(cafile=certifi.where()),
            )
            async with consumer:
                await consumer.receive_batch(
                    self._on_batch,
                    max_batch_size=self._max_batch,
                    prefetch=self._prefetch,
                    starting_position="-1",
                )

    async def _on_batch(self, partition: PartitionContext, events: list[EventData]) -> None:
        if not events:
            return
        bodies = bytes_values([_body(event) for event in events])
        metadata = _metadata(partition, events)
        await self._invoke_with_retries(bodies, metadata)
        await partition.update_checkpoint(events[-1])

    async def _invoke_with_retries(
        self, bodies: TypedData, metadata: Mapping[str, TypedData]
    ) -> None:
        retry = self._function.retry
        count = 0
        while True:
            invoked = await self._worker.invoke(
                self._function, bodies, metadata=metadata, retry_count=count
            )
            if invoked.error is None:
                return
            log.error("%s failed: %s", self._function.name, invoked.error)
            if retry is None or (retry.most != -1 and count >= retry.most):
                return
            wait = min(retry.first_seconds * 2 ** min(count, 16), retry.longest_seconds)
            await asyncio.sleep(wait)
            count += 1


async def _collect_garbage() -> None:
    """Free the connections that the SDK leaves: balancing opens one a second, and each is a cycle.

    The app has Python look for cycles rarely, since its calls make none; the real host receives in
    another process, without Python.
    """
    while True:
        await asyncio.sleep(COLLECT_SECONDS)
        gc.collect()


def _metadata(partition: PartitionContext, events: Sequence[EventData]) -> Mapping[str, TypedData]:
    keys = [event.partition_key for event in events]
    texts = [key.decode() if isinstance(key, bytes) else key for key in keys]
    times = [_time(event) for event in events]
    numbers = [event.sequence_number for event in events]
    offsets = [event.offset for event in events]
    system = [
        {"SequenceNumber": number, "Offset": offset, "PartitionKey": key, "EnqueuedTimeUtc": time}
        for number, offset, key, time in zip(numbers, offsets, texts, times, strict=True)
    ]
    return {
        "SystemPropertiesArray": json_value(system),
        "SequenceNumberArray": json_value(numbers),
        "OffsetArray": json_value(offsets),
        # As in the real host, empty keys are skipped, so this can be shorter than the batch.
        "PartitionKeyArray": json_value([key for key in texts if key]),
        "EnqueuedTimeUtcArray": json_value(times),
        "PropertiesArray": json_value([{} for _ in events]),
        "PartitionContext": TypedData(
            json=json.dumps(
                {
                    "FullyQualifiedNamespace": partition.fully_qualified_namespace,
                    "EventHubName": partition.eventhub_name,
                    "ConsumerGroup": partition.consumer_group,
                    "PartitionId": partition.partition_id,
                }
            )
        ),
    }


def _body(event: EventData) -> bytes:
    """The data sections' bytes; a value or sequence body, which the meter never sends, as text."""
    if event.body_type is AmqpMessageBodyType.DATA:
        return b"".join(cast(Iterable[bytes], event.body))
    return str(event.body).encode()


def _time(event: EventData) -> str:
    assert event.enqueued_time is not None, "received events have one"
    return event.enqueued_time.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


async def _ensure_container(connection_string: str) -> None:
    async with ContainerClient.from_connection_string(
        connection_string, CHECKPOINT_CONTAINER
    ) as container:
        with suppress(ResourceExistsError):
            await container.create_container()


def _resolved(name: str) -> str:
    """Resolve `%NAME%` to the setting NAME."""
    return os.environ[name.strip("%")] if name.startswith("%") else name
