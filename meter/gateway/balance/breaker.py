"""Remembers which backend must be left alone, and until when.

One circuit a (backend, deployment), since AOAI throttles deployments.

| state     | event                      | next state                                             |
|-----------|----------------------------|--------------------------------------------------------|
| closed    | answered                   | closed, failures = 0                                   |
| open      | an older call is answered  | open: that answer says nothing of the time since       |
| closed    | fault                      | open until now + bench time, failures + 1              |
| open      | an older call has a fault  | open: the same failure, seen by another call           |
| open      | its time has come, a call  | half-open: that one call probes                        |
| half-open | answered                   | closed, failures = 0                                   |
| half-open | fault                      | open, failures + 1 (benched longer)                    |
| half-open | the probe never reported   | a new probe may start after `PROBE_SECONDS`            |
"""

from dataclasses import dataclass, field

from meter.gateway.balance.verdict import Fault, Left

MIN_BENCH_SECONDS = 0.5
MAX_BENCH_SECONDS = 60.0
PROBE_SECONDS = 30.0

_FIRST_BENCH = {
    Fault.ERROR: (1.0, 30.0),
    Fault.UNREACHABLE: (1.0, 30.0),
    Fault.TIMEOUT: (10.0, 60.0),
}


@dataclass(slots=True)
class _Circuit:
    failures: int = 0
    opened_at: float = 0.0
    open_until: float = 0.0
    told_until: float = 0.0  # the true wait, which may be longer than the bench
    probing_until: float = 0.0
    is_throttled: bool = False  # benched because the backend said so, not by our own guess


@dataclass(slots=True)
class Breakers:
    """The circuits of all backends. Times are monotonic seconds. One event loop owns it."""

    _circuits: dict[tuple[str, str], _Circuit] = field(default_factory=dict)
    _recovered: dict[tuple[str, str], float] = field(default_factory=dict)

    def may_call(self, backend: str, deployment: str, now: float) -> bool:
        """Whether a call may be sent now. Changes nothing."""
        circuit = self._circuits.get((backend, deployment))
        if circuit is None or circuit.failures == 0:
            return True
        return circuit.open_until <= now and circuit.probing_until <= now

    def is_throttled(self, backend: str, deployment: str, now: float) -> bool:
        """Whether the backend itself asked to be left alone until later than now."""
        circuit = self._circuits.get((backend, deployment))
        return circuit is not None and circuit.is_throttled and circuit.open_until > now

    def start(self, backend: str, deployment: str, now: float) -> None:
        """A call is being sent; if the circuit was open, it is the probe."""
        circuit = self._circuits.get((backend, deployment))
        if circuit is not None and circuit.failures:
            circuit.probing_until = now + PROBE_SECONDS

    def answered(self, backend: str, deployment: str, *, started_at: float, now: float) -> None:
        """A call sent at `started_at` was answered: the circuit closes if it opened before that."""
        circuit = self._circuits.get((backend, deployment))
        if circuit is not None and circuit.opened_at <= started_at:
            del self._circuits[backend, deployment]
            self._recovered[backend, deployment] = now

    def recovered_at(self, backend: str, deployment: str) -> float | None:
        """When the circuit last closed after it was open; None when it never was."""
        return self._recovered.get((backend, deployment))

    def left(
        self, backend: str, deployment: str, left: Left, *, started_at: float, now: float
    ) -> None:
        """The backend was left by a call sent at `started_at`: the circuit opens."""
        circuit = self._circuits.setdefault((backend, deployment), _Circuit())
        if circuit.failures and started_at <= circuit.opened_at:
            return  # it was under way when the circuit opened: the same failure seen again
        circuit.failures += 1
        circuit.opened_at = now
        circuit.is_throttled = left.fault is Fault.THROTTLED
        wait = max(_bench_seconds(left, circuit.failures), MIN_BENCH_SECONDS)
        circuit.told_until = now + wait
        circuit.open_until = now + min(wait, MAX_BENCH_SECONDS)
        circuit.probing_until = 0.0

    def wait_seconds(self, backend: str, deployment: str, now: float) -> float:
        """The true time until the backend is worth a try; 0 when it is now."""
        circuit = self._circuits.get((backend, deployment))
        if circuit is None or circuit.failures == 0:
            return 0.0
        return max(circuit.told_until, circuit.probing_until, now) - now


def _bench_seconds(left: Left, failures: int) -> float:
    if left.wait_seconds is not None:
        return left.wait_seconds
    first, most = _FIRST_BENCH.get(left.fault, (MIN_BENCH_SECONDS, MAX_BENCH_SECONDS))
    return min(first * 2.0 ** min(failures - 1, 10), most)
