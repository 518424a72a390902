"""Builds what observes calls, publishing and counting: nothing at all where it is off."""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from meter.adapters.clock import SystemClock
from meter.adapters.functions.call_log import CallLog
from meter.adapters.telemetry.gauges import Gauge
from meter.config.telemetry.settings import (
    Exporter,
    TelemetrySettings,
    missing_extra,
    telemetry_settings,
)
from meter.ports import NO_TELEMETRY, Backlog, CountObserver, Hub, Outbox, Telemetry

log = logging.getLogger(__name__)


class Monitoring(Protocol):
    """What one process observes. `counting` are told what is counted."""

    @property
    def calls(self) -> Telemetry:
        """Observes calls."""

    @property
    def counting(self) -> Sequence[CountObserver]:
        """Observe an aggregator."""

    def hub(self, hub: Hub) -> Hub:
        """The hub, observed."""

    def outbox(self, outbox: Outbox) -> Outbox:
        """The outbox, observed."""

    def watch(self, gauges: Sequence[Gauge], url_of: Callable[[str], str | None]) -> None:
        """Read the gauges now and then; `url_of` gives a backend's address."""

    def backlog(self, backlog: Backlog) -> None:
        """What the outbox holds, as its timer found it."""

    async def close(self, seconds: float) -> None:
        """Export what waits, in about that time."""


class NoMonitoring:
    """Observes nothing."""

    calls: Telemetry = NO_TELEMETRY
    counting: Sequence[CountObserver] = ()

    def hub(self, hub: Hub) -> Hub:
        """The hub itself."""
        return hub

    def outbox(self, outbox: Outbox) -> Outbox:
        """The outbox itself."""
        return outbox

    def watch(self, gauges: Sequence[Gauge], url_of: Callable[[str], str | None]) -> None:
        """Nothing."""

    def backlog(self, backlog: Backlog) -> None:
        """Nothing."""

    async def close(self, seconds: float) -> None:
        """Nothing."""


NO_MONITORING = NoMonitoring()


class Observation:
    """What the app observes, as its settings say; built on first use."""

    def __init__(self, environment: Callable[[], Mapping[str, str]]) -> None:
        self._environment = environment
        self._monitoring: Monitoring | None = None

    def monitoring(self) -> Monitoring:
        """What observes calls and publishing."""
        if self._monitoring is None:
            self._monitoring = build_monitoring(telemetry_settings(self._environment()))
        return self._monitoring

    def of_counting(self) -> Sequence[CountObserver]:
        """What an aggregator tells of its counting."""
        logs_calls = telemetry_settings(self._environment()).logs_calls
        own = [CallLog(SystemClock())] if logs_calls else []
        return [*own, *self.monitoring().counting]

    async def close(self, seconds: float) -> None:
        """Export what waits, in about that time."""
        monitoring, self._monitoring = self._monitoring, None
        if monitoring is not None:
            await monitoring.close(seconds)


def build_monitoring(settings: TelemetrySettings) -> Monitoring:
    """What the settings name. Where its packages are missing that is logged, and calls go on."""
    if settings.exporter is Exporter.OFF:
        return NO_MONITORING
    if (problem := missing_extra(settings.exporter)) is not None:
        log.error("telemetry_missing reason=%s", problem)
        return NO_MONITORING
    # Its packages take memory and time to import, which only those who use them should pay.
    from meter.adapters.telemetry.monitoring import OpenTelemetryMonitoring
    from meter.adapters.telemetry.providers import build_providers

    return OpenTelemetryMonitoring(build_providers(settings), settings)
