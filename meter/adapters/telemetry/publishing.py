"""Times what publishing waits for: the hub and the outbox, as they are, with a clock around them."""

from collections.abc import Awaitable, Sequence
from dataclasses import dataclass

from meter.adapters.telemetry import conventions as names
from meter.adapters.telemetry.distributions import Distribution, Distributions
from meter.ports import Clock, Hub, Outbox
from meter.usage import UsageEvent


@dataclass(frozen=True, slots=True)
class Timer:
    """Measures how long a destination takes, and whether it fails.

    A histogram of our own: each send is measured, and the SDK's took 20 us for that.
    """

    seconds: Distribution
    clock: Clock

    @classmethod
    def of(cls, distributions: Distributions, clock: Clock) -> "Timer":
        """A timer whose measures are a metric."""
        made = distributions.histogram(names.PUBLISH_DURATION, "s", names.PUBLISH_BOUNDARIES)
        return cls(made, clock)

    async def time(self, destination: str, work: Awaitable[None]) -> None:
        """Wait for the work, and measure how long it took."""
        begun = self.clock.monotonic()
        attributes: names.Attributes = ((names.DESTINATION, destination),)
        try:
            await work
        except BaseException as exc:
            attributes = (*attributes, (names.ERROR_TYPE, type(exc).__name__))
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
        await self.timer.time("hub", self.hub.send(subject, events))


@dataclass(frozen=True, slots=True)
class TimedOutbox:
    """An outbox with a timer around it."""

    outbox: Outbox
    timer: Timer

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        """As the outbox."""
        await self.timer.time("outbox", self.outbox.keep(events))
