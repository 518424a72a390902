"""The breaker's state table, row by row."""

import pytest

from meter.gateway.balance.breaker import Circuit
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock, FixedDice
from tests.support.gateway import backend

CALL = Demand(100, "alice")
ERROR = Failover(Fault.ERROR, 500)
UNREACHABLE = Failover(Fault.UNREACHABLE)
TIMEOUT = Failover(Fault.TIMEOUT)


def throttled(seconds: float) -> Failover:
    return Failover(Fault.THROTTLED, 429, seconds)


def opened(failover: Failover, *, at: float = 100.0) -> Circuit:
    circuit = Circuit()
    circuit.failed(failover, CALL, started_at=at, now=at)
    return circuit


def test_a_circuit_is_closed_at_first() -> None:
    """A backend nobody has seen fail may be called."""
    assert Circuit().may_call(CALL, 0.0)
    assert Circuit().wait_seconds(CALL, 0.0) == 0.0


@pytest.mark.parametrize(
    ("failover", "last_cooling", "free"),
    [
        (ERROR, 100.99, 101.0),
        (UNREACHABLE, 100.99, 101.0),
        (TIMEOUT, 109.99, 110.0),
        (throttled(7), 106.99, 107.0),
        (throttled(0.01), 100.49, 100.5),
        (throttled(86_400), 159.99, 160.0),
        (Failover(Fault.CREDENTIALS, 401, 30.0), 129.99, 130.0),
        (Failover(Fault.ERROR, 503, 5.0), 104.99, 105.0),
    ],
    ids=str,
)
def test_a_fault_opens_a_closed_circuit(
    failover: Failover, last_cooling: float, free: float
) -> None:
    """Closed, fault: open for the wait the fault names or starts with, between 0.5 s and 60 s."""
    circuit = opened(failover)

    assert not circuit.may_call(CALL, last_cooling)
    assert circuit.may_call(CALL, free)


def test_circuits_are_apart() -> None:
    """One circuit per backend and deployment, since AOAI throttles deployments."""
    a, b = backend("a"), backend("b")
    pool = Pool([a, b], FakeClock(), FixedDice())
    pool.target(a, "gpt").circuit.failed(throttled(60), CALL, started_at=100.0, now=100.0)

    assert not pool.target(a, "gpt").circuit.may_call(CALL, 101.0)
    assert pool.target(a, "other").circuit.may_call(CALL, 101.0)
    assert pool.target(b, "gpt").circuit.may_call(CALL, 101.0)


def test_an_answer_to_an_older_call_leaves_an_open_circuit_open() -> None:
    """That answer says nothing of the time since."""
    circuit = opened(throttled(10))
    circuit.answered(CALL, started_at=99.0, now=99.0)

    assert not circuit.may_call(CALL, 105.0)


def test_one_call_probes_when_the_time_has_come() -> None:
    """Open, its time has come: the first call is sent, the next ones are not."""
    circuit = opened(ERROR)
    circuit.start(CALL, 101.0)

    assert not circuit.may_call(CALL, 101.0)
    assert not circuit.may_call(CALL, 130.99)


def test_an_answered_probe_closes_the_circuit() -> None:
    """Half-open, answered: closed, and the next fault is a first one again."""
    circuit = opened(ERROR)
    circuit.start(CALL, 101.0)
    circuit.answered(CALL, started_at=101.0, now=101.0)

    assert circuit.may_call(CALL, 101.0)
    circuit.failed(ERROR, CALL, started_at=200.0, now=200.0)
    assert circuit.may_call(CALL, 201.0)


def test_a_failed_probe_cools_down_longer() -> None:
    """Half-open, fault: open, for twice as long."""
    circuit = opened(ERROR)
    circuit.start(CALL, 101.0)
    circuit.failed(ERROR, CALL, started_at=101.0, now=101.0)

    assert not circuit.may_call(CALL, 102.99)
    assert circuit.may_call(CALL, 103.0)


@pytest.mark.parametrize(
    ("failover", "most"), [(ERROR, 30.0), (UNREACHABLE, 30.0), (TIMEOUT, 60.0)]
)
def test_doubling_ends_at_its_bound(failover: Failover, most: float) -> None:
    """However often a backend fails, it is probed again within the bound."""
    circuit = Circuit()
    now = 0.0
    for _ in range(2_000):
        circuit.failed(failover, CALL, started_at=now, now=now)
        now += most

    assert circuit.may_call(CALL, now)


def test_a_probe_that_never_reported_gives_way_to_another() -> None:
    """A new probe may start after 30 s."""
    circuit = opened(ERROR)
    circuit.start(CALL, 101.0)

    assert circuit.may_call(CALL, 131.0)


def test_asking_changes_nothing() -> None:
    """`may_call` is a question; only `start` makes a call the probe."""
    circuit = opened(ERROR)

    assert [circuit.may_call(CALL, 101.0) for _ in range(3)] == [True, True, True]


def test_no_cooldown_is_longer_than_a_minute() -> None:
    """A backend that asks for a day is probed after a minute."""
    circuit = opened(throttled(86_400))

    assert circuit.wait_seconds(CALL, 110.0) == 50.0


def test_during_a_probe_the_wait_is_the_probes() -> None:
    """No other call is let through before it ends, while another backend can serve."""
    circuit = opened(ERROR)
    circuit.start(CALL, 101.0)

    assert circuit.wait_seconds(CALL, 111.0) == 20.0


def test_calls_that_fail_together_are_one_failure() -> None:
    """Ten calls in flight when a node blips: one failure's cooldown, not ten."""
    circuit = Circuit()
    for _ in range(10):
        circuit.failed(UNREACHABLE, CALL, started_at=99.0, now=100.0)

    assert circuit.may_call(CALL, 101.0)


def test_a_newer_wait_replaces_an_older_one() -> None:
    """A day at first and then, from the probe, five seconds: the wait is five seconds."""
    circuit = Circuit()
    circuit.failed(throttled(86_400), CALL, started_at=0.0, now=0.0)
    circuit.start(CALL, 60.0)
    circuit.failed(throttled(5), CALL, started_at=60.0, now=60.0)

    assert circuit.wait_seconds(CALL, 60.0) == 5.0


def test_the_stated_wait_is_never_shorter_than_the_cooldown() -> None:
    """A caller that returns after the stated wait must be let through."""
    circuit = Circuit()
    circuit.failed(throttled(0.1), CALL, started_at=0.0, now=0.0)

    assert circuit.wait_seconds(CALL, 0.2) == pytest.approx(0.3)
    assert circuit.ask_seconds(CALL, 0.2) == pytest.approx(0.3)
