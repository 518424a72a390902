"""Times what publishing waits for: the hub and the outbox, as they are, with a clock around them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from opentelemetry.metrics import Histogram, Meter

from meter.adapters.telemetry import conventions as names
from meter.ports import Clock, Hub, Outbox
from meter.usage import UsageEvent


@dataclass(frozen=True, slots=True)
class Timer:
    """Measures how long a destination takes, and whether it fails."""

    seconds: Histogram
    clock: Clock

    @classmethod
    def of(cls, meter: Meter, clock: Clock) -> "Timer":
        """A timer whose measures are a metric."""
        seconds = meter.create_histogram(
            names.PUBLISH_DURATION,
            "s",
            "Until the hub, or the outbox, has usage events.",
            explicit_bucket_boundaries_advisory=names.PUBLISH_BOUNDARIES,
        )
        return cls(seconds, clock)

    @contextmanager
    def around(self, destination: str) -> Iterator[None]:
        """Measure what happens inside."""
        begun = self.clock.monotonic()
        attributes = {names.DESTINATION: destination}
        try:
            yield
        except BaseException as exc:
            attributes[names.ERROR_TYPE] = type(exc).__name__
            raise
        finally:
            self.seconds.record(self.clock.monotonic() - begun, attributes)


@dataclass(frozen=True, slots=True)
class TimedHub:
    """A hub with a timer around it."""

    hub: Hub
    timer: Timer

    async def send(self, subject: str, events: Sequence[bytes]) -> None:
        """As the hub."""
        with self.timer.around("hub"):
            await self.hub.send(subject, events)


@dataclass(frozen=True, slots=True)
class TimedOutbox:
    """An outbox with a timer around it."""

    outbox: Outbox
    timer: Timer

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        """As the outbox."""
        with self.timer.around("outbox"):
            await self.outbox.keep(events)
