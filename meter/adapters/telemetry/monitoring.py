"""All that one process observes, on one pair of providers."""

import asyncio
from collections.abc import Callable, Iterable, Sequence

from opentelemetry.metrics import CallbackOptions, Observation

from meter.adapters.clock import SystemClock
from meter.adapters.telemetry import conventions as names
from meter.adapters.telemetry.calls import OpenTelemetryCalls
from meter.adapters.telemetry.counting import OpenTelemetryCounting
from meter.adapters.telemetry.gauges import Gauge, Readings
from meter.adapters.telemetry.providers import SCOPE, Providers, samples
from meter.adapters.telemetry.publishing import TimedHub, TimedOutbox, Timer
from meter.config.telemetry.settings import TelemetrySettings
from meter.ports import Backlog, Clock, Hub, Outbox

# The timer may move to another instance, whose reading is then the one that holds.
BACKLOG_SECONDS = 150.0


class OpenTelemetryMonitoring:
    """Metrics and spans of calls, publishing and counting."""

    def __init__(
        self, providers: Providers, settings: TelemetrySettings, *, clock: Clock | None = None
    ) -> None:
        clock = clock or SystemClock()
        sampler = None if settings.has_sampler else samples
        self._providers = providers
        self._meter = providers.metrics.get_meter(SCOPE)
        tracer = None if providers.traces is None else providers.traces.get_tracer(SCOPE)
        self._clock = clock
        self._timer = Timer.of(providers.distributions, clock)
        self._backlog: tuple[float, Backlog] | None = None
        self.calls = OpenTelemetryCalls(
            self._meter,
            providers.distributions,
            tracer,
            names_subjects=settings.names_subjects,
            sampler=sampler,
        )
        self.counting = [OpenTelemetryCounting(self._meter, clock)]

    def hub(self, hub: Hub) -> Hub:
        """The hub, timed."""
        return TimedHub(hub, self._timer)

    def outbox(self, outbox: Outbox) -> Outbox:
        """The outbox, timed."""
        return TimedOutbox(outbox, self._timer)

    def watch(self, gauges: Sequence[Gauge], url_of: Callable[[str], str | None]) -> None:
        """Read the gauges with each export, and name backends' addresses."""
        self.calls.url_of = url_of
        for gauge in gauges:
            self._observe(gauge)

    def backlog(self, backlog: Backlog) -> None:
        """What the outbox holds, as its timer found it."""
        if self._backlog is None:
            self._observe(Gauge(names.OUTBOX_EVENTS, "{event}", self._outbox_events))
            self._observe(Gauge(names.OUTBOX_AGE, "s", self._outbox_age))
        self._backlog = self._clock.monotonic(), backlog

    async def close(self, seconds: float) -> None:
        """Export what waits, in about that time."""
        await asyncio.to_thread(self._providers.close, seconds)

    def _observe(self, gauge: Gauge) -> None:
        def read(_options: CallbackOptions) -> Iterable[Observation]:
            return [Observation(value, attributes) for value, attributes in gauge.read()]

        create = self._meter.create_observable_gauge
        if gauge.is_total:
            create = self._meter.create_observable_counter  # type: ignore[assignment]  # as a gauge is
        create(gauge.name, callbacks=[read], unit=gauge.unit)

    def _outbox_events(self) -> Readings:
        return [(backlog.events, {}) for backlog in self._known_backlog()]

    def _outbox_age(self) -> Readings:
        return [(backlog.oldest_seconds, {}) for backlog in self._known_backlog()]

    def _known_backlog(self) -> list[Backlog]:
        if self._backlog is None:
            return []
        read_at, backlog = self._backlog
        return [backlog] if self._clock.monotonic() < read_at + BACKLOG_SECONDS else []
