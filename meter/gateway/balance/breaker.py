"""Decides whether a backend may be called: the circuit of one backend for one load key.

| state     | event                      | next state                                             |
|-----------|----------------------------|--------------------------------------------------------|
| closed    | answered                   | closed, failures = 0                                   |
| open      | an older call is answered  | open: that answer is older than the failure            |
| closed    | failed                     | open until now + cooldown, failures + 1                |
| open      | an older call failed       | open: the same failure, seen by another call           |
| open      | cooldown over, a call      | half-open: that one call probes                        |
| half-open | answered                   | closed, failures = 0                                   |
| half-open | failed                     | open, failures + 1 (a longer cooldown)                 |
| half-open | the probe never reported   | a new probe may start after `PROBE_SECONDS`            |
"""

from dataclasses import dataclass

from meter.gateway.balance.verdict import Failover, Fault

MIN_COOLDOWN_SECONDS = 0.5
MAX_COOLDOWN_SECONDS = 60.0
PROBE_SECONDS = 30.0

# The first cooldown and the longest, of faults that name no wait.
_COOLDOWNS = {
    Fault.ERROR: (1.0, 30.0),
    Fault.UNREACHABLE: (1.0, 30.0),
    Fault.TIMEOUT: (10.0, 60.0),
}


@dataclass(slots=True)
class Circuit:
    """Whether one backend may be called. Times are monotonic seconds. One event loop owns it.

    `recovered_at` is when it last closed after it was open; None when it never was.
    """

    recovered_at: float | None = None
    _failures: int = 0
    _opened_at: float = 0.0
    _open_until: float = 0.0
    _retry_at: float = 0.0  # the true wait, which may be longer than the cooldown
    _probing_until: float = 0.0
    _is_throttled: bool = False  # the backend named the wait; otherwise it is our own guess

    def may_call(self, now: float) -> bool:
        """Whether a call may be sent now. Changes nothing."""
        return not self._failures or (self._open_until <= now and self._probing_until <= now)

    def is_throttled(self, now: float) -> bool:
        """Whether the backend itself asked for a wait that is not over."""
        return self._is_throttled and self._open_until > now

    def start(self, now: float) -> None:
        """A call is being sent; if the circuit was open, it is the probe."""
        if self._failures:
            self._probing_until = now + PROBE_SECONDS

    def answered(self, *, started_at: float, now: float) -> None:
        """A call sent at `started_at` was answered: the circuit closes if it opened before that."""
        if self._failures and self._opened_at <= started_at:
            self._failures = 0
            self._is_throttled = False
            self.recovered_at = now

    def failed(self, failover: Failover, *, started_at: float, now: float) -> None:
        """A call sent at `started_at` failed over: the circuit opens."""
        if self._failures and started_at <= self._opened_at:
            return  # it was under way when the circuit opened: the same failure seen again
        self._failures += 1
        self._opened_at = now
        self._is_throttled = failover.fault is Fault.THROTTLED
        wait = max(_cooldown_seconds(failover, self._failures), MIN_COOLDOWN_SECONDS)
        self._retry_at = now + wait
        self._open_until = now + min(wait, MAX_COOLDOWN_SECONDS)
        self._probing_until = 0.0

    def wait_seconds(self, now: float) -> float:
        """The true time until the backend is worth a try; 0 when it is now."""
        return max(self._retry_at, self._probing_until, now) - now if self._failures else 0.0


def _cooldown_seconds(failover: Failover, failures: int) -> float:
    if failover.wait_seconds is not None:
        return failover.wait_seconds
    first, longest = _COOLDOWNS.get(failover.fault, (MIN_COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS))
    return min(first * 2.0 ** min(failures - 1, 10), longest)
