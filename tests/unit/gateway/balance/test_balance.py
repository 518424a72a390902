"""Balancing by load: a seeded simulation against plain weighted choice, and the shares it keeps."""

import heapq
from collections import Counter
from collections.abc import Callable, Sequence
from itertools import count
from random import Random

import pytest

from meter.gateway.backend import Backend, Deployment
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.pool import Lease, Pool, Target
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock

DEPLOYMENT = "gpt"
CALL = Demand(100, "alice")
CALLS = 20_000
CALLS_PER_SECOND = 50.0


def _backends(*weights: int) -> list[Backend]:
    return [
        Backend(
            name=f"b{i}",
            url="https://b",
            weight=weight,
            deployments={DEPLOYMENT: Deployment("own")},
        )
        for i, weight in enumerate(weights)
    ]


class PlainPool(Pool):
    """Weighted random choice, and nothing else."""

    def _choose(self, group: list[Target], now: float) -> Target:
        return self._draw(group, now)


def _simulate(
    pool: Pool, seconds_of: Callable[[str, Random], float], *, seed: int
) -> tuple[list[float], Counter[str]]:
    """Calls arrive at random; each backend answers after its own time. (waits, calls by backend)"""
    random, order = Random(seed), count()
    waits: list[float] = []
    chosen: Counter[str] = Counter()
    under_way: list[tuple[float, int, Lease]] = []
    clock = pool.clock = FakeClock(seconds=0.0)
    for _ in range(CALLS):
        clock.advance(random.expovariate(CALLS_PER_SECOND))
        while under_way and under_way[0][0] <= clock.seconds:
            ended, _, lease = heapq.heappop(under_way)
            with lease:
                lease.answered(ended)
        chosen_now = pool.lease(pool.backends, DEPLOYMENT, CALL)
        assert chosen_now is not None, "nothing cools down here"
        name = chosen_now.backend.name
        seconds = seconds_of(name, random)
        heapq.heappush(under_way, (clock.seconds + seconds, next(order), chosen_now))
        waits.append(seconds)
        chosen[name] += 1
    return sorted(waits), chosen


def _one_is_slow(name: str, random: Random) -> float:
    return random.uniform(0.1, 0.3) * (10 if name == "b0" else 1)


def _all_are_equal(_name: str, random: Random) -> float:
    return random.uniform(0.1, 0.3)


def _p99(waits: Sequence[float]) -> float:
    return waits[len(waits) * 99 // 100]


@pytest.mark.parametrize("seed", range(5))
def test_a_slow_backend_hurts_less_than_half_as_much(seed: int) -> None:
    """The 99th percentile of waits is at least twice as good as with plain weighted choice."""
    plain, _ = _simulate(
        PlainPool(_backends(1, 1, 1), FakeClock(), Random(seed)), _one_is_slow, seed=seed
    )
    ours, _ = _simulate(
        Pool(_backends(1, 1, 1), FakeClock(), Random(seed)), _one_is_slow, seed=seed
    )

    assert _p99(plain) > 2 * _p99(ours)


def test_a_slow_backend_is_still_tried_now_and_then() -> None:
    """What was seen fades, so that a backend that recovered is found out."""
    _, chosen = _simulate(Pool(_backends(1, 1, 1), FakeClock(), Random(1)), _one_is_slow, seed=1)

    assert 0 < chosen["b0"] < CALLS * 0.05


@pytest.mark.parametrize("weights", [(1, 1, 1), (3, 1, 1), (10, 5, 1), (100, 1)])
def test_shares_follow_the_weights_while_backends_are_equal(weights: tuple[int, ...]) -> None:
    """Each backend gets its share within two points of a hundred."""
    backends = _backends(*weights)
    _, chosen = _simulate(Pool(backends, FakeClock(), Random(7)), _all_are_equal, seed=7)

    for backend in backends:
        share = backend.weight / sum(weights)
        assert chosen[backend.name] / CALLS == pytest.approx(share, abs=0.02)


def test_a_backend_that_recovered_starts_slowly() -> None:
    """A tenth of its weight at first, all of it ten seconds later."""
    backends = _backends(1, 1)
    pool = Pool(backends, FakeClock(), Random(3))
    circuit = pool.target(backends[0], DEPLOYMENT).circuit
    circuit.failed(Failover(Fault.ERROR, 500, 1.0), CALL, started_at=0.0, now=0.0)
    circuit.answered(CALL, started_at=2.0, now=2.0)

    def share(now: float) -> float:
        pool.clock = FakeClock(seconds=now)
        taken = Counter[str]()
        for _ in range(4_000):
            lease = pool.lease(backends, DEPLOYMENT, CALL)
            assert lease is not None, "nothing cools down any more"
            with lease:
                taken[lease.backend.name] += 1
        return taken["b0"] / 4_000

    assert share(2.0) == pytest.approx(0.1 / 1.1, abs=0.03)
    assert share(7.0) == pytest.approx(0.5 / 1.5, abs=0.03)
    assert share(12.0) == pytest.approx(0.5, abs=0.03)


def test_no_backend_is_kept_busy_by_calls_that_have_ended() -> None:
    """Leases are given back, however calls end."""
    backends = _backends(1)
    pool = Pool(backends, FakeClock(), Random(1))
    for _ in range(100):
        lease = pool.lease(backends, DEPLOYMENT, CALL)
        assert lease is not None
        with lease:
            assert lease.backend is backends[0]

    assert pool.target(backends[0], DEPLOYMENT).load.in_flight == 0
