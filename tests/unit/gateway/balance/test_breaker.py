"""The breaker's state table, row by row."""

import pytest

from meter.gateway.balance.breaker import Breakers
from meter.gateway.balance.verdict import Fault, Left

ERROR = Left(Fault.ERROR, 500)
UNREACHABLE = Left(Fault.UNREACHABLE)
TIMEOUT = Left(Fault.TIMEOUT)


def throttled(seconds: float) -> Left:
    return Left(Fault.THROTTLED, 429, seconds)


def opened(left: Left, *, at: float = 100.0) -> Breakers:
    breakers = Breakers()
    breakers.left("a", "gpt", left, started_at=at, now=at)
    return breakers


def test_a_circuit_is_closed_at_first() -> None:
    """A backend nobody has seen fail may be called."""
    assert Breakers().may_call("a", "gpt", 0.0)
    assert Breakers().wait_seconds("a", "gpt", 0.0) == 0.0


@pytest.mark.parametrize(
    ("left", "last_benched", "free"),
    [
        (ERROR, 100.99, 101.0),
        (UNREACHABLE, 100.99, 101.0),
        (TIMEOUT, 109.99, 110.0),
        (throttled(7), 106.99, 107.0),
        (throttled(0.01), 100.49, 100.5),
        (throttled(86_400), 159.99, 160.0),
        (Left(Fault.CREDENTIALS, 401, 30.0), 129.99, 130.0),
        (Left(Fault.ERROR, 503, 5.0), 104.99, 105.0),
    ],
    ids=str,
)
def test_a_fault_opens_a_closed_circuit(left: Left, last_benched: float, free: float) -> None:
    """Closed, fault: open for the wait the fault names or starts with, between 0.5 s and 60 s."""
    breakers = opened(left)

    assert not breakers.may_call("a", "gpt", last_benched)
    assert breakers.may_call("a", "gpt", free)


def test_circuits_are_apart() -> None:
    """One circuit a backend and deployment, since AOAI throttles deployments."""
    breakers = opened(throttled(60))

    assert breakers.may_call("a", "other", 101.0)
    assert breakers.may_call("b", "gpt", 101.0)


def test_an_answer_to_an_older_call_leaves_an_open_circuit_open() -> None:
    """That answer says nothing of the time since."""
    breakers = opened(throttled(10))
    breakers.answered("a", "gpt", started_at=99.0, now=99.0)

    assert not breakers.may_call("a", "gpt", 105.0)


def test_one_call_probes_when_the_time_has_come() -> None:
    """Open, its time has come: the first call is sent, the next ones are not."""
    breakers = opened(ERROR)
    breakers.start("a", "gpt", 101.0)

    assert not breakers.may_call("a", "gpt", 101.0)
    assert not breakers.may_call("a", "gpt", 130.99)


def test_an_answered_probe_closes_the_circuit() -> None:
    """Half-open, answered: closed, and the next fault is a first one again."""
    breakers = opened(ERROR)
    breakers.start("a", "gpt", 101.0)
    breakers.answered("a", "gpt", started_at=101.0, now=101.0)

    assert breakers.may_call("a", "gpt", 101.0)
    breakers.left("a", "gpt", ERROR, started_at=200.0, now=200.0)
    assert breakers.may_call("a", "gpt", 201.0)


def test_a_failed_probe_benches_longer() -> None:
    """Half-open, fault: open, for twice as long."""
    breakers = opened(ERROR)
    breakers.start("a", "gpt", 101.0)
    breakers.left("a", "gpt", ERROR, started_at=101.0, now=101.0)

    assert not breakers.may_call("a", "gpt", 102.99)
    assert breakers.may_call("a", "gpt", 103.0)


@pytest.mark.parametrize(("left", "most"), [(ERROR, 30.0), (UNREACHABLE, 30.0), (TIMEOUT, 60.0)])
def test_doubling_ends_at_its_bound(left: Left, most: float) -> None:
    """However often a backend fails, it is probed again within the bound."""
    breakers = Breakers()
    now = 0.0
    for _ in range(2_000):
        breakers.left("a", "gpt", left, started_at=now, now=now)
        now += most

    assert breakers.may_call("a", "gpt", now)


def test_a_probe_that_never_reported_gives_way_to_another() -> None:
    """A new probe may start after 30 s."""
    breakers = opened(ERROR)
    breakers.start("a", "gpt", 101.0)

    assert breakers.may_call("a", "gpt", 131.0)


def test_asking_changes_nothing() -> None:
    """`may_call` is a question; only `start` makes a call the probe."""
    breakers = opened(ERROR)

    assert [breakers.may_call("a", "gpt", 101.0) for _ in range(3)] == [True, True, True]


def test_the_wait_that_is_told_is_the_true_one() -> None:
    """A backend that asks for a day is probed after a minute, but callers are told the day."""
    breakers = opened(throttled(86_400))

    assert breakers.wait_seconds("a", "gpt", 110.0) == 86_390.0


def test_during_a_probe_the_wait_is_the_probes() -> None:
    """Nobody else is let through before it ends."""
    breakers = opened(ERROR)
    breakers.start("a", "gpt", 101.0)

    assert breakers.wait_seconds("a", "gpt", 111.0) == 20.0


def test_calls_that_fail_together_are_one_failure() -> None:
    """Ten calls in flight when a node blips: benched as for one failure, not for ten."""
    breakers = Breakers()
    for _ in range(10):
        breakers.left("a", "gpt", UNREACHABLE, started_at=99.0, now=100.0)

    assert breakers.may_call("a", "gpt", 101.0)


def test_a_newer_wait_replaces_an_older_one() -> None:
    """Told a day and then, by the probe, five seconds: the true wait is five seconds."""
    breakers = Breakers()
    breakers.left("a", "gpt", throttled(86_400), started_at=0.0, now=0.0)
    breakers.start("a", "gpt", 60.0)
    breakers.left("a", "gpt", throttled(5), started_at=60.0, now=60.0)

    assert breakers.wait_seconds("a", "gpt", 60.0) == 5.0


def test_the_told_wait_is_never_shorter_than_the_bench() -> None:
    """Whoever comes back when he was told to must be let through."""
    breakers = Breakers()
    breakers.left("a", "gpt", throttled(0.1), started_at=0.0, now=0.0)

    assert breakers.wait_seconds("a", "gpt", 0.2) == pytest.approx(0.3)
