"""Which backend is tried next: priority, then weight, never a benched or a tried one."""

from collections import Counter

import pytest

from meter.errors import NotServed
from meter.gateway.backend import Backend
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Fault, Left
from tests.fakes.gateway import FixedDice, seeded_dice
from tests.support.gateway import backend


def pool(*backends: Backend) -> Pool:
    return Pool(backends, FixedDice())


def throttled(seconds: float) -> Left:
    return Left(Fault.THROTTLED, 429, seconds)


def test_a_deployment_nobody_serves_is_not_found() -> None:
    """404 with AOAI's own code."""
    with pytest.raises(NotServed) as refused:
        pool(backend()).serving("other")

    assert (refused.value.status, refused.value.code) == (404, "DeploymentNotFound")


def test_only_backends_that_serve_the_deployment_are_asked() -> None:
    """By public name."""
    other = Backend(name="b", url="https://b.example", deployments={"other": "gpt"})

    assert [b.name for b in pool(backend("a"), other).serving("gpt")] == ["a"]


def test_the_lowest_priority_number_goes_first() -> None:
    """Whatever the weights and the order in the settings."""
    made = pool(backend("paygo", priority=2, weight=100), backend("ptu", priority=1))

    chosen = made.choose(made.backends, "gpt", tried=(), now=0.0)

    assert chosen is not None
    assert chosen.name == "ptu"


def test_a_benched_priority_gives_way_to_the_next() -> None:
    """And is chosen again when its time has come."""
    made = pool(backend("ptu", priority=1), backend("paygo", priority=2))
    made.left(made.backends[0], "gpt", throttled(10), started_at=0.0, now=0.0)

    chosen = [made.choose(made.backends, "gpt", tried=(), now=now) for now in (5.0, 10.0)]

    assert [b.name for b in chosen if b] == ["paygo", "ptu"]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_calls_are_shared_by_weight_within_a_priority(seed: int) -> None:
    """10,000 calls over weights 70, 20 and 10, to within two points of a hundred."""
    backends = [backend("a", weight=70), backend("b", weight=20), backend("c", weight=10)]
    made = Pool(backends, seeded_dice(seed))

    chosen = [made.choose(backends, "gpt", tried=(), now=0.0) for _ in range(10_000)]

    shares = Counter(b.name for b in chosen if b)
    assert shares["a"] == pytest.approx(7_000, abs=200)
    assert shares["b"] == pytest.approx(2_000, abs=200)
    assert shares["c"] == pytest.approx(1_000, abs=200)


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0, "a"), (0.49, "a"), (0.5, "b"), (0.999999, "b")]
)
def test_each_point_of_the_dice_is_one_backends(value: float, expected: str) -> None:
    """The shares lie side by side, their ends included."""
    backends = [backend("a"), backend("b")]

    chosen = Pool(backends, FixedDice(value)).choose(backends, "gpt", tried=(), now=0.0)

    assert chosen is not None
    assert chosen.name == expected


def test_a_backend_is_not_tried_twice() -> None:
    """Nor is any when all were tried."""
    made = pool(backend("a"), backend("b"))

    second = made.choose(made.backends, "gpt", tried={"a"}, now=0.0)
    third = made.choose(made.backends, "gpt", tried={"a", "b"}, now=0.0)

    assert second is not None
    assert (second.name, third) == ("b", None)


def test_one_call_alone_probes_a_benched_backend() -> None:
    """Choosing it makes that call the probe; the next call goes elsewhere."""
    made = pool(backend("a"), backend("b", priority=2))
    made.left(made.backends[0], "gpt", throttled(10), started_at=0.0, now=0.0)

    chosen = [made.choose(made.backends, "gpt", tried=(), now=10.0) for _ in range(2)]

    assert [b and b.name for b in chosen] == ["a", "b"]


def test_when_all_are_benched_the_broken_are_tried_and_the_throttled_are_not() -> None:
    """That a backend still fails is a guess; that it has no capacity it said itself."""
    made = pool(backend("a"), backend("b"))
    made.left(made.backends[0], "gpt", throttled(10), started_at=0.0, now=0.0)
    made.left(made.backends[1], "gpt", Left(Fault.UNREACHABLE), started_at=0.0, now=0.0)
    first = made.choose(made.backends, "gpt", tried=(), now=0.1)
    second = made.choose(made.backends, "gpt", tried=("b",), now=0.1)
    third = made.choose(made.backends, "gpt", tried=("b",), now=0.1, spares_throttled=False)

    assert [b and b.name for b in (first, second, third)] == ["b", None, "a"]


def test_when_all_are_benched_the_soonest_true_wait_is_told() -> None:
    """429, with the least of the waits the backends named."""
    made = pool(backend("a"), backend("b"), backend("c", priority=2))
    for named, seconds in zip(made.backends, (86_400, 300, 7_200), strict=True):
        made.left(named, "gpt", throttled(seconds), started_at=0.0, now=0.0)

    refusal = made.exhausted(made.backends, "gpt", now=10.0)

    assert (refusal.status, refusal.code, refusal.retry_after_seconds) == (429, "429", 290.0)
    assert "retry after 290 seconds" in refusal.message


def test_a_wait_that_is_over_is_told_as_one_above_zero() -> None:
    """The SDK takes a 0 for no wait at all and backs off by its own rule."""
    made = pool(backend("a"))
    made.left(made.backends[0], "gpt", throttled(1), started_at=0.0, now=0.0)

    assert made.exhausted(made.backends, "gpt", now=50.0).retry_after_seconds == 0.001
