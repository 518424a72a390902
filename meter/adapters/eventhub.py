"""`meter.ports.UsageSink` on Event Hubs (azure-eventhub, aio), with the outbox behind it.

Every event of a subject goes to one hub partition. Calls that end within a few milliseconds share
one message a partition, a CloudEvents batch, since the SDK and the Functions host cost per message.
While one send is under way for a partition, the next batch gathers.

All goes over one link, by partition key: the SDK opens a connection of its own for each partition
that is sent to by id, half a second each, and a namespace has only so many connections.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Protocol
from zlib import crc32

from azure.eventhub import EventData
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.amqp import AmqpAnnotatedMessage
from azure.eventhub.exceptions import EventHubError

from meter.adapters.partition_key import keys_by_partition
from meter.errors import PublishFailed
from meter.ports import Outbox
from meter.usage import BATCH_CONTENT_TYPE, UsageEvent, encode_batch, encode_event

GATHER_SECONDS = 0.002
SEND_TIMEOUT_SECONDS = 30.0
MAX_MESSAGE_BYTES = 60_000  # Event Hubs bills a message of up to 64 KB as one
OUTBOX_PATIENCE = 5.0
MAX_SEND_BYTES = 800_000  # a send holds 1 MB at most, and each message a little overhead
CONNECT_TIMEOUT_SECONDS = 10.0

log = logging.getLogger(__name__)


class Hub(Protocol):
    """Sends encoded events to the hub."""

    async def send(self, subject: str, encoded_event: bytes) -> None:
        """Return when the hub has acknowledged the event. Raises PublishFailed."""
        ...


@dataclass(slots=True)
class _Pending:
    events: list[tuple[bytes, asyncio.Future[None]]] = field(default_factory=list)
    is_sending: bool = False


class EventHubSender:
    """Gathers events per hub partition and sends them. One event loop owns it."""

    def __init__(self, producer: EventHubProducerClient) -> None:
        self._producer = producer
        self._keys: Sequence[str] = ()
        self._pending: dict[str, _Pending] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._warming: asyncio.Task[None] | None = None

    async def warm(self) -> None:
        """Connect and learn the hub's partitions. Raises PublishFailed."""
        if self._keys:
            return
        if self._warming is None or self._warming.done():
            self._warming = asyncio.create_task(self._connect())
        await asyncio.shield(self._warming)

    async def ping(self) -> None:
        """Ask the hub for anything at all. Raises PublishFailed."""
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                await self._producer.get_partition_ids()
        except (EventHubError, TimeoutError, OSError, ValueError) as exc:
            raise PublishFailed(f"the hub does not answer: {type(exc).__name__}") from exc

    async def send(self, subject: str, encoded_event: bytes) -> None:
        """Return when the hub has acknowledged the event. Raises PublishFailed."""
        await self.warm()
        key = self._keys[crc32(subject.encode()) % len(self._keys)]
        acknowledged = asyncio.get_running_loop().create_future()
        pending = self._pending.setdefault(key, _Pending())
        pending.events.append((encoded_event, acknowledged))
        if not pending.is_sending:
            pending.is_sending = True
            task = asyncio.create_task(self._send_pending(key, pending))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        await acknowledged

    async def close(self) -> None:
        """Send what is pending, then disconnect."""
        while self._tasks:
            await asyncio.wait(self._tasks)
        await self._producer.close()

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_SECONDS):
                # Asking for a batch opens the link, which takes as long as the first send would.
                partitions, _ = await asyncio.gather(
                    self._producer.get_partition_ids(), self._producer.create_batch()
                )
                self._keys = keys_by_partition(len(partitions))
        except (EventHubError, TimeoutError, OSError, ValueError) as exc:
            raise PublishFailed(
                f"the hub's partitions are not known: {type(exc).__name__}"
            ) from exc

    async def _send_pending(self, key: str, pending: _Pending) -> None:
        await asyncio.sleep(GATHER_SECONDS)
        while pending.events:
            batch = _take(pending)
            error = await self._send_batch(key, [event for event, _ in batch])
            for _, acknowledged in batch:
                if acknowledged.done():
                    continue  # its call has stopped waiting
                if error is None:
                    acknowledged.set_result(None)
                else:
                    acknowledged.set_exception(error)
        pending.is_sending = False

    async def _send_batch(self, key: str, events: Iterable[bytes]) -> PublishFailed | None:
        messages: list[EventData | AmqpAnnotatedMessage] = [
            _message(part) for part in _packed(events)
        ]
        try:
            async with asyncio.timeout(SEND_TIMEOUT_SECONDS):
                await self._producer.send_batch(messages, partition_key=key)
        except Exception as exc:  # whatever the SDK raises, the calls that wait must hear of it
            return PublishFailed(f"the hub did not take the events: {type(exc).__name__}")
        return None


class PublishingSink:
    """`meter.ports.UsageSink`: hub first, then the outbox, then the log. Never raises."""

    def __init__(
        self,
        hub: Hub,
        outbox: Outbox,
        *,
        acknowledge_timeout_seconds: float,
        waits_for_acknowledgement: bool,
    ) -> None:
        self._hub = hub
        self._outbox = outbox
        self._timeout_seconds = acknowledge_timeout_seconds
        # Long enough for a retry of a slow write; the caller waits meanwhile.
        self._outbox_timeout_seconds = OUTBOX_PATIENCE * acknowledge_timeout_seconds
        self._waits = waits_for_acknowledgement
        self._tasks: set[asyncio.Task[None]] = set()

    async def publish(self, event: UsageEvent) -> None:
        """Return when the event is safe; at once when publishing runs in the background."""
        task = asyncio.create_task(self._publish(event))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        if self._waits:
            # Shielded: a caller that leaves must not take its usage event with it.
            await asyncio.shield(task)

    async def close(self) -> None:
        """Wait until everything taken is safe."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def _publish(self, event: UsageEvent) -> None:
        encoded = encode_event(event)
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._hub.send(event.subject, encoded)
            return
        except Exception as exc:  # an event is never dropped for a fault that nobody foresaw
            log.warning("event_goes_to_outbox reason=%s", str(exc) or "no answer in time")
        try:
            async with asyncio.timeout(self._outbox_timeout_seconds):
                await self._outbox.keep([event])
        except Exception:
            # The last resort: the log is then the only place that knows of this call.
            log.critical("usage_event_unpublished event=%s", encoded.decode())


def _take(pending: _Pending) -> list[tuple[bytes, asyncio.Future[None]]]:
    """The oldest pending events that fit into one send; at least one."""
    size = 0
    for count, (event, _) in enumerate(pending.events):
        size += len(event)
        if count and size > MAX_SEND_BYTES:
            break
    else:
        count = len(pending.events)
    batch, pending.events = pending.events[:count], pending.events[count:]
    return batch


def _packed(events: Iterable[bytes]) -> list[list[bytes]]:
    """Split into messages of at most `MAX_MESSAGE_BYTES`, or of one event that is larger."""
    messages: list[list[bytes]] = []
    size = MAX_MESSAGE_BYTES
    for event in events:
        size += len(event) + 1  # and the comma or bracket before it
        if size + 1 > MAX_MESSAGE_BYTES:
            messages.append([])
            size = len(event) + 1
        messages[-1].append(event)
    return messages


def _message(events: Sequence[bytes]) -> EventData:
    message = EventData(encode_batch(events))
    message.content_type = BATCH_CONTENT_TYPE
    return message
