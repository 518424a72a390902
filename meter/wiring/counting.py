"""The half of the app that counts: the aggregator and the timers that look after its tables."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import uuid4

from meter.adapters.clients import build_store
from meter.adapters.clock import SystemClock
from meter.adapters.functions.memory import Lull, collect_rarely
from meter.config.environment import load_storage_settings
from meter.config.memory import visible_memory_bytes
from meter.config.values import StorageSettings
from meter.ports import Clock, CountObserver, RowStore
from meter.wiring.telemetry import Observation
from meter.wiring.timers import NightlyExport, drop_old_ledgers, sweep_views

if TYPE_CHECKING:
    from meter.adapters.tables import TablesRowStore
    from meter.ledger.aggregator import Aggregator


class Counting:
    """Builds its parts on first use, in the event loop that then owns them."""

    def __init__(
        self, environment: Callable[[], Mapping[str, str]], observation: Observation
    ) -> None:
        self._environment = environment
        self._observation = observation
        self._exports = NightlyExport()
        self._aggregator: Aggregator | None = None
        self._store: TablesRowStore | None = None

    def aggregator(self) -> "Aggregator":
        """The aggregator. Raises InvalidSettings."""
        if self._aggregator is None:
            store, settings = self._storage()
            observers = self._observation.of_counting()
            self._aggregator = build_aggregator(store, settings.retention, observers=observers)
            collect_rarely()
        return self._aggregator

    async def sweep(self) -> int:
        """One run of the sweep timer: how many view rows it repaired."""
        store, _ = self._storage()
        return await sweep_views(store)

    async def drop_old_ledgers(self) -> str | None:
        """One run of the retention timer: the table it dropped, if any."""
        store, settings = self._storage()
        return await drop_old_ledgers(store, settings.retention)

    async def export(self) -> None:
        """One run of the export timer, if the settings say where it goes. Raises MeterError."""
        await self._exports.run(self._environment())

    async def close(self, views_seconds: float) -> None:
        """Show what waits to be shown, in about that time, and disconnect."""
        if self._aggregator is not None:
            await self._aggregator.close(views_seconds)
        await self._exports.close()
        if self._store is not None:
            await self._store.close()
        self._aggregator = self._store = None

    def _storage(self) -> "tuple[TablesRowStore, StorageSettings]":
        settings = load_storage_settings(self._environment())
        if self._store is None:
            self._store = build_store(settings)
        return self._store, settings


def build_aggregator(
    store: RowStore,
    retention: timedelta,
    *,
    clock: Clock | None = None,
    observers: Sequence[CountObserver] = (),
) -> "Aggregator":
    """Build an aggregator on a store, one for a process."""
    # Counting is no part of the front door's start.
    from meter.ledger.aggregator import Aggregator
    from meter.ledger.memory import MOST_KNOWN_BYTES

    return Aggregator(
        store=store,
        clock=clock or SystemClock(),
        retention=retention,
        writer=uuid4().hex[:16],
        observers=observers,
        most_known_bytes=min(MOST_KNOWN_BYTES, visible_memory_bytes() // 6),
        lull=Lull(),
    )
