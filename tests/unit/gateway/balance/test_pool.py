"""Which backend is tried next: priority, then weight, never one that cools down or was tried."""

from collections import Counter
from collections.abc import Collection

import pytest

from meter.errors import NotServed
from meter.gateway.backend import Backend
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock, FixedDice, seeded_dice
from tests.support.gateway import backend


def pool(*backends: Backend) -> Pool:
    return Pool(backends, FakeClock(), FixedDice())


def at(made: Pool, seconds: float) -> None:
    """Move the pool's clock to so many seconds after its start."""
    made.clock = FakeClock(seconds=seconds)


def choose(
    made: Pool, *, now: float = 0.0, tried: Collection[str] = (), spares_throttled: bool = True
) -> str | None:
    """The name of the backend that a call gets at a moment; the call goes on."""
    at(made, now)
    lease = made.lease(made.backends, "gpt", tried=tried, spares_throttled=spares_throttled)
    return None if lease is None else lease.backend.name


def fail(made: Pool, failed: Backend, failover: Failover) -> None:
    """One call to a backend fails over, at the start of time."""
    at(made, 0.0)
    lease = made.lease([failed], "gpt")
    assert lease is not None
    with lease:
        lease.failed(failover)


def throttled(seconds: float) -> Failover:
    return Failover(Fault.THROTTLED, 429, seconds)


def test_a_deployment_that_no_backend_serves_is_not_found() -> None:
    """404 with AOAI's own code."""
    with pytest.raises(NotServed) as refused:
        pool(backend()).serving("other")

    assert (refused.value.status, refused.value.code) == (404, "DeploymentNotFound")


def test_only_backends_that_serve_the_deployment_are_tried() -> None:
    """By public name."""
    other = Backend(name="b", url="https://b.example", deployments={"other": "gpt"})

    assert [b.name for b in pool(backend("a"), other).serving("gpt")] == ["a"]


def test_the_lowest_priority_number_goes_first() -> None:
    """Whatever the weights and the order in the settings."""
    made = pool(backend("paygo", priority=2, weight=100), backend("ptu", priority=1))

    assert choose(made) == "ptu"


def test_a_priority_that_cools_down_gives_way_to_the_next() -> None:
    """And is chosen again when its time has come."""
    made = pool(backend("ptu", priority=1), backend("paygo", priority=2))
    fail(made, made.backends[0], throttled(10))

    chosen = [choose(made, now=now) for now in (5.0, 10.0)]

    assert chosen == ["paygo", "ptu"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_calls_are_shared_by_weight_within_a_priority(seed: int) -> None:
    """10,000 calls over weights 70, 20 and 10, to within two points of a hundred."""
    backends = [backend("a", weight=70), backend("b", weight=20), backend("c", weight=10)]
    made = Pool(backends, FakeClock(), seeded_dice(seed))

    shares = Counter(choose(made) for _ in range(10_000))

    assert shares["a"] == pytest.approx(7_000, abs=200)
    assert shares["b"] == pytest.approx(2_000, abs=200)
    assert shares["c"] == pytest.approx(1_000, abs=200)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, "a"), (0.49, "a"), (0.5, "b"), (0.999999, "b")]
)
def test_each_point_of_the_dice_is_one_backends(value: float, expected: str) -> None:
    """The shares lie side by side, their ends included."""
    backends = [backend("a"), backend("b")]

    assert choose(Pool(backends, FakeClock(), FixedDice(value))) == expected


def test_a_backend_is_not_tried_twice() -> None:
    """Nor is any when all were tried."""
    made = pool(backend("a"), backend("b"))

    second = choose(made, tried={"a"})
    third = choose(made, tried={"a", "b"})

    assert (second, third) == ("b", None)


def test_one_call_alone_probes_after_a_cooldown() -> None:
    """Choosing it makes that call the probe; the next call goes elsewhere."""
    made = pool(backend("a"), backend("b", priority=2))
    fail(made, made.backends[0], throttled(10))

    chosen = [choose(made, now=10.0) for _ in range(2)]

    assert chosen == ["a", "b"]


def test_when_all_cool_down_the_broken_are_tried_and_the_throttled_are_not() -> None:
    """A broken backend may have recovered; a throttled one named its wait itself."""
    made = pool(backend("a"), backend("b"))
    fail(made, made.backends[0], throttled(10))
    fail(made, made.backends[1], Failover(Fault.UNREACHABLE))
    first = choose(made, now=0.1)
    second = choose(made, now=0.1, tried={"b"})
    third = choose(made, now=0.1, tried={"b"}, spares_throttled=False)

    assert (first, second, third) == ("b", None, "a")


def test_when_all_cool_down_the_soonest_true_wait_is_stated() -> None:
    """429, with the least of the waits the backends named."""
    made = pool(backend("a"), backend("b"), backend("c", priority=2))
    for named, seconds in zip(made.backends, (86_400, 300, 7_200), strict=True):
        fail(made, named, throttled(seconds))

    at(made, 10.0)
    refusal = made.exhausted(made.backends, "gpt")

    assert (refusal.status, refusal.code, refusal.retry_after_seconds) == (429, "429", 290.0)
    assert "retry after 290 seconds" in refusal.message


def test_a_wait_that_is_over_is_stated_as_one_above_zero() -> None:
    """The SDK takes a 0 for no wait at all and backs off by its own rule."""
    made = pool(backend("a"))
    fail(made, made.backends[0], throttled(1))

    at(made, 50.0)
    assert made.exhausted(made.backends, "gpt").retry_after_seconds == 0.001
