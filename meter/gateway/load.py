"""Tells how loaded each backend is, so that a slow one gets fewer calls before it fails.

A backend's load is what a new call would wait for there: its recent time to first byte, times the
calls that are already in flight relative to its weight. A slower answer counts at once and in full,
a faster one gradually, and what was seen fades, so that a backend that recovered is found out
(peak EWMA, as in Finagle's and Envoy's balancers).
"""

import math
from dataclasses import dataclass, field

FADE_SECONDS = 10.0
SMOOTHING = 0.3
UNKNOWN_SECONDS = 0.0


@dataclass(slots=True)
class _Seen:
    in_flight: int = 0
    seconds: float = UNKNOWN_SECONDS
    seen_at: float = 0.0


@dataclass(slots=True)
class Loads:
    """In-flight calls and recent latency of all backends. One event loop owns it."""

    _seen: dict[str, _Seen] = field(default_factory=dict)

    def start(self, backend: str) -> None:
        """A call is being sent."""
        self._of(backend).in_flight += 1

    def first_byte(self, backend: str, seconds: float, now: float) -> None:
        """A call's answer began after that many seconds."""
        seen = self._of(backend)
        known = _faded(seen, now)
        seen.seconds = seconds if seconds >= known else known + SMOOTHING * (seconds - known)
        seen.seen_at = now

    def end(self, backend: str) -> None:
        """A call has ended, however."""
        self._of(backend).in_flight -= 1

    def of(self, backend: str, share: float, now: float) -> float:
        """The load; `share` is the backend's weight relative to the mean of its group."""
        seen = self._of(backend)
        return max(_faded(seen, now), 0.001) * (1 + seen.in_flight / share)

    def _of(self, backend: str) -> _Seen:
        return self._seen.setdefault(backend, _Seen())


def _faded(seen: _Seen, now: float) -> float:
    return seen.seconds * math.exp((seen.seen_at - now) / FADE_SECONDS)
