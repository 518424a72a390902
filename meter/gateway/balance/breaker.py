"""Decides whether a backend may be called: a circuit of one backend for one load key.

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

An open circuit holds back the calls in its `Scope`; for all others it is closed:

| what failed, and how                             | what is held back                                |
|--------------------------------------------------|--------------------------------------------------|
| a fault other than throttling                    | all calls                                        |
| one caller is throttled                          | that caller's calls                              |
| ... by a large call, or for a long wait          | that caller's calls of at least that demand      |
| another caller is throttled during that time     | all callers' calls, of the smaller demand        |
| a smaller call is throttled during that time     | half the demand or less, never what is usual     |

The last resort, when no other backend can serve: calls held back for a fault are still sent.
Throttled circuits let one call through per `ASK_AGAIN_SECONDS`, first after the named wait or
`FIRST_ASK_SECONDS`. That call is of usual demand, or smaller than the one refused last; in a
circuit that is open for all, the caller refused last has to wait a second longer than others.
"""

from msgspec import Struct, field

from meter.gateway.balance.demand import NO_DEMAND, Demand, UsualDemand
from meter.gateway.balance.verdict import Failover, Fault

MIN_COOLDOWN_SECONDS = 0.5
MAX_COOLDOWN_SECONDS = 60.0
PROBE_SECONDS = 30.0
LONG_WAIT_SECONDS = 120.0  # twice the minute after which Azure OpenAI refills a quota
FIRST_ASK_SECONDS = 3.0
ASK_AGAIN_SECONDS = 1.0

# The first cooldown and the longest, of faults that name no wait.
_COOLDOWNS = {
    Fault.ERROR: (1.0, 30.0),
    Fault.UNREACHABLE: (1.0, 30.0),
    Fault.TIMEOUT: (10.0, 60.0),
}


class Scope(Struct, frozen=True):
    """The calls that a circuit holds back: one caller's or everyone's (None), from a demand up."""

    caller: str | None = None
    tokens: int = 0

    def has(self, demand: Demand) -> bool:
        """Whether the call is held back."""
        return self.caller in {None, demand.caller} and demand.tokens >= self.tokens

    def widened(self, refused: "Scope", *, least_tokens: int) -> "Scope":
        """The scope after a further refusal that would have had the other scope alone."""
        caller = self.caller if self.caller == refused.caller else None
        if refused.tokens >= self.tokens:
            return Scope(caller, self.tokens)
        return Scope(caller, min(refused.tokens, max(self.tokens // 2, least_tokens)))


EVERYTHING = Scope()


class Circuit(Struct):
    """Whether one backend may be called. Times are monotonic seconds. One event loop owns it.

    `failures` are those since it last closed; with none it holds back no call. `recovered_at` is when it
    last closed after it was open; None when it never was.
    """

    usual: UsualDemand = field(default_factory=UsualDemand)
    failures: int = 0
    recovered_at: float | None = None
    _opened_at: float = 0.0
    _open_until: float = 0.0
    _ask_again_at: float = 0.0
    _probing_until: float = 0.0
    _is_throttled: bool = False  # the backend named the wait; otherwise it is our own guess
    _scope: Scope = EVERYTHING
    _refused: Demand = NO_DEMAND

    def may_call(self, demand: Demand, now: float) -> bool:
        """Whether a call may be sent now. Changes nothing."""
        if not self.failures:
            return True
        is_over = self._open_until <= now and self._probing_until <= now
        return is_over or not self._holds(demand)

    def is_open(self, now: float) -> bool:
        """Whether it holds back any calls."""
        return self.failures > 0 and max(self._open_until, self._probing_until) > now

    def is_throttled(self, demand: Demand, now: float) -> bool:
        """Whether the call is held back for a wait that the backend itself asked for."""
        return self._is_throttled and self._open_until > now and self._holds(demand)

    def ask_seconds(self, demand: Demand, now: float) -> float:
        """The time until such a call is sent even if no other backend can serve it; 0 for now."""
        if not self.is_throttled(demand, now):
            return 0.0
        until = self._open_until
        if demand.tokens < self._refused.tokens or not self.usual.is_exceeded_by(demand):
            is_after_others = self._scope.caller is None and demand.caller == self._refused.caller
            until = min(until, self._ask_again_at + (ASK_AGAIN_SECONDS if is_after_others else 0.0))
        return min(max(until, now) - now, MAX_COOLDOWN_SECONDS)  # 60.000001 would be told as 61

    def wait_seconds(self, demand: Demand, now: float) -> float:
        """The time until the cooldown, or the probe after it, is over for such a call."""
        until = max(self._open_until, self._probing_until)
        return max(until, now) - now if self._holds(demand) else 0.0

    def start(self, demand: Demand, now: float) -> None:
        """A call is being sent; if it would be held back, it is the probe."""
        if self._holds(demand):
            self._probing_until = now + PROBE_SECONDS
            self.asked(now)

    def asked(self, now: float) -> None:
        """The backend is being asked although it throttles."""
        self._ask_again_at = max(self._ask_again_at, now + ASK_AGAIN_SECONDS)

    def answered(self, demand: Demand, *, started_at: float, now: float) -> None:
        """A call sent at `started_at` was answered: the circuit closes if it held that call back."""
        if self._holds(demand) and self._opened_at <= started_at:
            self.failures = 0
            self._is_throttled = False
            self.recovered_at = now

    def failed(self, failover: Failover, demand: Demand, *, started_at: float, now: float) -> None:
        """A call sent at `started_at` failed over: the circuit opens."""
        if self._holds(demand) and started_at <= self._opened_at:
            return  # it was under way when the circuit opened: the same failure seen again
        is_open = self._is_throttled and (self._open_until > now or self._holds(demand))
        self._scope = self._scope_after(failover, demand, is_open=is_open)
        self.failures += 1
        self._opened_at = now
        self._is_throttled = failover.fault is Fault.THROTTLED
        wait = max(_cooldown_seconds(failover, self.failures), MIN_COOLDOWN_SECONDS)
        self._open_until = now + min(wait, MAX_COOLDOWN_SECONDS)
        if not is_open:
            self._ask_again_at = now + min(wait, FIRST_ASK_SECONDS)
        self._probing_until = 0.0
        self._refused = demand

    def _holds(self, demand: Demand) -> bool:
        return self.failures > 0 and self._scope.has(demand)

    def _scope_after(self, failover: Failover, demand: Demand, *, is_open: bool) -> Scope:
        if failover.fault is not Fault.THROTTLED:
            return EVERYTHING
        is_large, usual = self.usual.is_exceeded_by(demand), self.usual.most_tokens
        is_long = (failover.wait_seconds or 0.0) > LONG_WAIT_SECONDS
        refused = Scope(demand.caller, demand.tokens if is_large or is_long else 0)
        least_tokens = usual + 1 if is_large else 0
        return self._scope.widened(refused, least_tokens=least_tokens) if is_open else refused


def _cooldown_seconds(failover: Failover, failures: int) -> float:
    if failover.wait_seconds is not None:
        return failover.wait_seconds
    first, longest = _COOLDOWNS.get(failover.fault, (MIN_COOLDOWN_SECONDS, MAX_COOLDOWN_SECONDS))
    return min(first * 2.0 ** min(failures - 1, 10), longest)
