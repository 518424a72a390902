"""Tells how loaded each backend is, so that a slow one gets fewer calls before it fails.

Kept for each (backend, deployment), since models differ in speed: the calls in flight, and the
recent time to first byte. A slower answer counts at once and in full, a faster one gradually, and
what was seen fades, so that a backend that recovered is found out (peak EWMA, as in the balancers
of Finagle and Envoy).
"""

import math
from dataclasses import dataclass, field

SLOWER = 3.0
BUSIER = 3.0
FADE_SECONDS = 10.0
SMOOTHING = 0.3
MIN_SECONDS = 0.001  # an unknown latency still lets the calls in flight count


@dataclass(slots=True)
class _Seen:
    in_flight: int = 0
    seconds: float = 0.0
    seen_at: float = 0.0

    def latency(self, now: float) -> float:
        faded = self.seconds * math.exp((self.seen_at - now) / FADE_SECONDS)
        return max(faded, MIN_SECONDS)


@dataclass(slots=True)
class Loads:
    """In-flight calls and recent latency of all backends. One event loop owns it."""

    _seen: dict[tuple[str, str], _Seen] = field(default_factory=dict)

    def start(self, backend: str, deployment: str) -> None:
        """A call is being sent."""
        self._of(backend, deployment).in_flight += 1

    def first_byte(self, backend: str, deployment: str, *, seconds: float, now: float) -> None:
        """A call's answer began after that many seconds."""
        seen = self._of(backend, deployment)
        known = seen.latency(now)
        seen.seconds = seconds if seconds >= known else known + SMOOTHING * (seconds - known)
        seen.seen_at = now

    def end(self, backend: str, deployment: str) -> None:
        """A call has ended, however."""
        self._of(backend, deployment).in_flight -= 1

    def in_flight(self, backend: str, deployment: str) -> int:
        """The calls that have begun and not ended."""
        return self._of(backend, deployment).in_flight

    def is_worse(
        self,
        one: tuple[str, int],
        other: tuple[str, int],
        deployment: str,
        now: float,
    ) -> bool:
        """Whether a call should rather go to the other; each is a backend's name and weight.

        It should when the one is `SLOWER` times as slow, or when what waits there in relation to
        its weight, the new call included, is `BUSIER` times as much. An idle one is never too busy.
        """
        (name, weight), (other_name, other_weight) = one, other
        seen, other_seen = self._of(name, deployment), self._of(other_name, deployment)
        latency, other_latency = seen.latency(now), other_seen.latency(now)
        if latency > SLOWER * other_latency:
            return True
        work = latency * (seen.in_flight + 1) / weight
        other_work = other_latency * (other_seen.in_flight + 1) / other_weight
        return seen.in_flight > 0 and work > BUSIER * other_work

    def _of(self, backend: str, deployment: str) -> _Seen:
        return self._seen.setdefault((backend, deployment), _Seen())
