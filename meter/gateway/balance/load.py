"""Measures how loaded a backend is, so that a slow one gets fewer calls before it fails.

Kept per backend and load key, since models differ in speed: the calls in flight, and the recent
time to first byte. A slower answer counts at once and in full, a faster one gradually, and old
measurements fade, so that a backend that recovered is noticed (peak EWMA, as in the balancers of
Finagle and Envoy).
"""

from math import exp

from msgspec import Struct

SLOWER = 3.0
BUSIER = 3.0
FADE_SECONDS = 10.0
SMOOTHING = 0.3
MIN_SECONDS = 0.001  # an unknown latency still lets the calls in flight count


class Load(Struct):
    """In-flight calls and recent latency of one backend. Times are monotonic seconds."""

    in_flight: int = 0
    _seconds: float = 0.0
    _measured_at: float = 0.0

    def first_byte(self, *, seconds: float, now: float) -> None:
        """A call's answer began after that many seconds."""
        known = self._latency(now)
        self._seconds = seconds if seconds >= known else known + SMOOTHING * (seconds - known)
        self._measured_at = now

    def is_worse_than(
        self, other: "Load", *, weight: float, other_weight: float, now: float
    ) -> bool:
        """Whether a call should rather go to the other.

        It should when this one is `SLOWER` times as slow, or when the work that waits here in
        relation to its weight, the new call included, is `BUSIER` times as much. An idle one is
        never too busy.
        """
        latency, other_latency = self._latency(now), other._latency(now)
        if latency > SLOWER * other_latency:
            return True
        if not self.in_flight:
            return False
        work = latency * (self.in_flight + 1) / weight
        other_work = other_latency * (other.in_flight + 1) / other_weight
        return work > BUSIER * other_work

    def _latency(self, now: float) -> float:
        faded = self._seconds * exp((self._measured_at - now) / FADE_SECONDS)
        return faded if faded > MIN_SECONDS else MIN_SECONDS
