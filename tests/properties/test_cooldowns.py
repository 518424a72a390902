"""Whatever callers ask and backends answer: stated waits are true, and throttled backends have rest."""

from collections import defaultdict
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.balance.demand import Demand
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock, FixedDice
from tests.support.gateway import backend

DEMANDS = st.builds(
    Demand, st.sampled_from([0, 50, 300, 900, 5_000, 40_000]), st.sampled_from(["ann", "bob", "cy"])
)
ANSWERS = st.one_of(
    st.none(),
    st.builds(
        Failover, st.just(Fault.THROTTLED), st.just(429), st.sampled_from([0.1, 1.0, 8.0, 86_400.0])
    ),
    st.sampled_from([Failover(Fault.ERROR, 500), Failover(Fault.TIMEOUT)]),
)
PAUSES = st.sampled_from([0.0, 0.2, 0.9, 1.0, 3.0, 20.0])
EVENTS = st.lists(st.tuples(DEMANDS, PAUSES, ANSWERS, st.booleans()), max_size=30)


@given(events=EVENTS, backends=st.sampled_from(["a", "ab"]))
def test_stated_waits_are_true_and_throttled_backends_are_asked_once_a_second(
    events: list[tuple[Demand, float, Failover | None, bool]], backends: str
) -> None:
    """A refused call is sent when it returns after its wait: at most a minute later, and not before."""
    clock = FakeClock(seconds=0.0)
    pool = Pool([backend(name) for name in backends], clock, FixedDice())
    asked: defaultdict[str, list[float]] = defaultdict(list)
    for demand, pause, answer, is_patient in events:
        clock.advance(pause)
        cooling, lease = _cooling(pool, demand), pool.lease(pool.backends, "gpt", demand)
        if lease is None:
            wait = pool.exhausted(pool.backends, "gpt", demand).retry_after_seconds
            assert wait is not None
            assert 0 < wait <= 60
            if is_patient:
                clock.advance(wait + 1e-6)
                cooling, lease = _cooling(pool, demand), pool.lease(pool.backends, "gpt", demand)
                assert lease is not None
        if lease is not None:
            if lease.backend.name in cooling:
                asked[lease.backend.name].append(lease.started_at)
            clock.advance(0.01)
            if answer is None:
                lease.answered(clock.seconds)
            else:
                lease.failed(answer)
            lease.close()
    for times in asked.values():
        assert all(later - sooner >= 0.999 for sooner, later in pairwise(times))


def _cooling(pool: Pool, demand: Demand) -> set[str]:
    """The backends that named a wait for such a call."""
    now = pool.clock.monotonic()
    targets = [pool.target(each, "gpt") for each in pool.backends]
    return {target.backend.name for target in targets if target.is_throttled(demand, now)}
