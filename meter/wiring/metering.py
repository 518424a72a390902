"""Builds the parts that usage events pass through."""

from typing import TYPE_CHECKING

from msgspec import Struct

from meter.adapters.clients import build_producer, build_store, full_name
from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.eventhub import EventHubSender
from meter.adapters.late_store import LateRowStore
from meter.config.values import Durability, HubSettings, PublishSettings, Settings
from meter.publishing.outbox import TableOutbox
from meter.publishing.sink import PublishingSink as PublishingSink
from meter.wiring.telemetry import NO_MONITORING, Monitoring

# A send takes more CPU time than a call: of 8 connections' events, a send then has ten and more.
LINGER_SECONDS = 0.02

if TYPE_CHECKING:
    from meter.upkeep.hub_backlog import HubBacklog


class Publisher(Struct, kw_only=True):
    """Where usage events go: one warm link to the hub, and the outbox; and what observes them."""

    sender: EventHubSender
    outbox: TableOutbox
    store: LateRowStore
    hub: str
    monitoring: Monitoring = NO_MONITORING
    _backlog: "HubBacklog | None" = None

    async def log_hub_backlog(self) -> None:
        """Log what the hub holds and the ledger has not counted. A start does not need what measures it."""
        from meter.wiring.timers import log_hub_backlog

        await log_hub_backlog(self._hub_backlog())

    def _hub_backlog(self) -> "HubBacklog":
        if self._backlog is None:
            from meter.upkeep.hub_backlog import HubBacklog

            self._backlog = HubBacklog(
                store=self.store,
                clock=SystemClock(),
                hub=self.hub,
                partitions=self.sender.partitions,
            )
        return self._backlog

    async def close(self) -> None:
        """Disconnect."""
        await self.sender.close()
        await self.store.close()


def build_publisher(settings: PublishSettings, monitoring: Monitoring = NO_MONITORING) -> Publisher:
    """Connect to the hub and the tables. Must be called in the event loop that will own them."""
    store = LateRowStore(lambda: build_store(settings.storage))
    sender = build_sender(settings.hub, patience_seconds=settings.timeout_seconds)
    return Publisher(
        sender=sender,
        outbox=TableOutbox(store, SystemClock()),
        store=store,
        hub=full_name(settings.hub),
        monitoring=monitoring,
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
    waits = settings.gateway.durability is Durability.ACKNOWLEDGED
    publisher.sender.linger_seconds = 0.0 if waits else LINGER_SECONDS
    return PublishingSink(
        publisher.monitoring.hub(publisher.sender),
        publisher.monitoring.outbox(publisher.outbox),
        clock=SystemClock(),
        dice=system_dice(),
        acknowledge_timeout_seconds=settings.timeout_seconds,
        waits_for_acknowledgement=waits,
    )
