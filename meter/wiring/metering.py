"""Builds the parts that usage events pass through."""

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import uuid4

from meter.adapters.clients import build_producer, build_store, full_name
from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.eventhub import EventHubSender
from meter.adapters.tables import TablesRowStore
from meter.config.memory import visible_memory_bytes
from meter.config.values import Durability, HubSettings, PublishSettings, Settings
from meter.ledger.aggregator import Aggregator
from meter.ledger.memory import MOST_KNOWN_BYTES
from meter.ports import Clock, CountObserver, RowStore
from meter.publishing.outbox import TableOutbox
from meter.publishing.sink import PublishingSink as PublishingSink
from meter.upkeep.hub_backlog import HubBacklog
from meter.wiring.telemetry import NO_MONITORING, Monitoring

# Objects that can be part of a cycle, made before the youngest are looked through. CPython's is 2,000.
GC_ALLOCATIONS = 20_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """Where usage events go: one warm link to the hub, and the outbox; and what observes them."""

    sender: EventHubSender
    outbox: TableOutbox
    store: TablesRowStore
    hub_backlog: HubBacklog
    monitoring: Monitoring = NO_MONITORING

    async def close(self) -> None:
        """Disconnect."""
        await self.sender.close()
        await self.store.close()


def build_publisher(settings: PublishSettings, monitoring: Monitoring = NO_MONITORING) -> Publisher:
    """Connect to the hub and the tables. Must be called in the event loop that will own them."""
    store = build_store(settings.storage)
    sender = build_sender(settings.hub, patience_seconds=settings.timeout_seconds)
    clock = SystemClock()
    return Publisher(
        sender=sender,
        outbox=TableOutbox(store, clock),
        store=store,
        monitoring=monitoring,
        hub_backlog=HubBacklog(
            store=store, clock=clock, hub=full_name(settings.hub), partitions=sender.partitions
        ),
    )


def build_sender(hub: HubSettings, *, patience_seconds: float) -> EventHubSender:
    """Connect to the hub."""
    return EventHubSender(
        build_producer(hub),
        clock=SystemClock(),
        dice=system_dice(),
        patience_seconds=patience_seconds,
    )


def build_sink(publisher: Publisher, settings: Settings) -> PublishingSink:
    """Build the sink of the front door's usage events."""
    return PublishingSink(
        publisher.monitoring.hub(publisher.sender),
        publisher.monitoring.outbox(publisher.outbox),
        clock=SystemClock(),
        dice=system_dice(),
        acknowledge_timeout_seconds=settings.timeout_seconds,
        waits_for_acknowledgement=settings.gateway.durability is Durability.ACKNOWLEDGED,
    )


def collect_rarely() -> None:
    """Have Python look for cycles of garbage less often; for a process that counts.

    A batch makes many objects, and the sums that are remembered are many more: looking through them took
    up to a fourth of the aggregator's time.
    """
    gc.set_threshold(GC_ALLOCATIONS, *gc.get_threshold()[1:])


def build_aggregator(
    store: RowStore,
    retention: timedelta,
    *,
    clock: Clock | None = None,
    observers: Sequence[CountObserver] = (),
) -> Aggregator:
    """Build an aggregator on a store, one for a process."""
    return Aggregator(
        store=store,
        clock=clock or SystemClock(),
        retention=retention,
        writer=uuid4().hex[:16],
        observers=observers,
        most_known_bytes=min(MOST_KNOWN_BYTES, visible_memory_bytes() // 6),
    )
