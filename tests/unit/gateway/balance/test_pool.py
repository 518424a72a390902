"""Which backend is tried next: priority, then weight, never one that cools down or was tried."""

from collections import Counter
from collections.abc import Collection

import pytest

from meter.errors import NotServed
from meter.gateway.backend import Backend, Deployment
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock, FixedDice, seeded_dice
from tests.support.gateway import backend

CALL = Demand(100, "alice")


def pool(*backends: Backend) -> Pool:
    return Pool(backends, FakeClock(), FixedDice())


def at(made: Pool, seconds: float) -> None:
    """Move the pool's clock to so many seconds after its start."""
    made.clock = FakeClock(seconds=seconds)


def choose(made: Pool, *, now: float = 0.0, tried: Collection[str] = ()) -> str | None:
    """The name of the backend that a call gets at a moment; the call goes on."""
    at(made, now)
    lease = made.lease(made.backends, "gpt", CALL, tried=tried)
    return None if lease is None else lease.backend.name


def fail(made: Pool, failed: Backend, failover: Failover) -> None:
    """One call to a backend fails over, at the start of time."""
    at(made, 0.0)
    lease = made.lease([failed], "gpt", CALL)
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
    other = Backend(name="b", url="https://b.example", deployments={"other": Deployment("gpt")})

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


def test_when_all_cool_down_the_broken_are_tried_before_the_throttled() -> None:
    """A broken backend may have recovered; a throttled one is asked after three seconds."""
    made = pool(backend("a"), backend("b"))
    fail(made, made.backends[0], throttled(10))
    fail(made, made.backends[1], Failover(Fault.UNREACHABLE))
    first = choose(made, now=0.1)
    second = choose(made, now=0.1, tried={"b"})
    third = choose(made, now=3.0, tried={"b"})

    assert (first, second, third) == ("b", None, "a")


def test_the_broken_are_tried_at_any_rate() -> None:
    """One caller's faults do not shut out others: a guess of ours is never a reason to refuse."""
    made = pool(backend("a"), backend("b"))
    for named in made.backends:
        fail(made, named, Failover(Fault.ERROR, 500))

    assert None not in [choose(made, now=0.1) for _ in range(20)]


def test_a_throttled_backend_is_asked_once_a_second_while_no_other_can_serve() -> None:
    """Three seconds after it throttled, and then by one call a second, until its wait is over."""
    made = pool(backend("a"))
    fail(made, made.backends[0], throttled(20))

    asked = [now / 10 for now in range(1, 101) if choose(made, now=now / 10)]

    assert asked == [3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]


def test_a_throttled_backend_is_left_alone_while_another_can_serve() -> None:
    """Until its wait is over."""
    made = pool(backend("a"), backend("b", priority=2))
    fail(made, made.backends[0], throttled(20))

    assert {choose(made, now=float(now)) for now in range(1, 20)} == {"b"}


@pytest.mark.parametrize(("now", "seconds"), [(0.0, 1.5), (1.0, 0.5), (2.0, 0.001)])
def test_when_all_cool_down_the_time_to_the_next_question_is_stated(
    now: float, seconds: float
) -> None:
    """429 with the soonest moment at which one of them is asked again, whatever they named."""
    made = pool(backend("a"), backend("b"), backend("c", priority=2))
    for named, wait in zip(made.backends, (86_400, 1.5, 7_200), strict=True):
        fail(made, named, throttled(wait))

    at(made, now)
    refusal = made.exhausted(made.backends, "gpt", CALL)

    assert (refusal.status, refusal.code) == (429, "429")
    assert refusal.retry_after_seconds == seconds
    assert f"retry after {2 if seconds > 1 else 1} seconds" in refusal.message


@pytest.mark.parametrize("named", [0.1, 1.0, 7.0, 60.0, 300.0, 86_400.0])
@pytest.mark.parametrize("tokens", [10, 100_000])
def test_who_returns_after_the_stated_wait_is_sent_on(named: float, tokens: int) -> None:
    """And not before: the wait is the time until the gateway itself asks again, at most a minute."""
    call, made = Demand(tokens, "alice"), pool(backend("a"))
    at(made, 0.0)
    lease = made.lease(made.backends, "gpt", call)
    assert lease is not None
    lease.failed(throttled(named))
    seconds = made.exhausted(made.backends, "gpt", call).retry_after_seconds
    assert seconds is not None

    at(made, seconds - 0.01)
    before = made.lease(made.backends, "gpt", call)
    at(made, seconds)
    after = made.lease(made.backends, "gpt", call)

    assert (before is None, after is None, 0.5 <= seconds <= 60) == (True, False, True)


def test_a_wait_that_is_over_is_stated_as_one_above_zero() -> None:
    """The SDK takes a 0 for no wait at all and backs off by its own rule."""
    made = pool(backend("a"))
    fail(made, made.backends[0], throttled(1))

    at(made, 50.0)
    assert made.exhausted(made.backends, "gpt", CALL).retry_after_seconds == 0.001
