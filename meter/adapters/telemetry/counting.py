"""`meter.ports.CountObserver` by OpenTelemetry: what an aggregator counts, and how late."""

from collections.abc import Sequence

from opentelemetry.metrics import Meter

from meter.adapters.telemetry import conventions as names
from meter.ports import Clock
from meter.usage import UsageEvent


class OpenTelemetryCounting:
    """Observes the aggregator of one process."""

    def __init__(self, meter: Meter, clock: Clock) -> None:
        counter = meter.create_counter
        self._clock = clock
        self._calls = counter(names.COUNTED, "{call}", "Calls counted.")
        self._repeats = counter(names.REPEATS, "{event}", "Repeated events dropped.")
        self._letters = counter(names.DEAD_LETTERS, "{event}", "Events set aside.")
        self._lag = meter.create_histogram(
            names.LAG,
            "s",
            "From a call's end to its counting; of each batch, its oldest call.",
            explicit_bucket_boundaries_advisory=names.LAG_BOUNDARIES,
        )

    def counted(self, calls: Sequence[UsageEvent], repeats: int) -> None:
        """A batch was counted."""
        if calls:
            oldest = min(call.time for call in calls)
            self._calls.add(len(calls))
            self._lag.record(max(0.0, (self._clock.now() - oldest).total_seconds()))
        if repeats:
            self._repeats.add(repeats)

    def dead_lettered(self, count: int) -> None:
        """Events were set aside."""
        self._letters.add(count)
