"""Candidates that a pool knows are chosen from as those that it meets for the first time."""

from hypothesis import given
from hypothesis import strategies as st

from meter.gateway.backend import Backend
from meter.gateway.balance.demand import Demand
from meter.gateway.balance.pool import Pool
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock, seeded_dice
from tests.support.gateway import backend

BACKENDS = st.lists(
    st.tuples(st.integers(1, 2), st.integers(1, 3)), min_size=1, max_size=4
)  # priorities and weights
OUTCOMES = st.sampled_from(
    [None, None, Failover(Fault.ERROR, 500), Failover(Fault.THROTTLED, 429, 2.0)]
)
CALLS = st.lists(st.tuples(st.sampled_from([0.0, 0.3, 4.0]), OUTCOMES, st.booleans()), max_size=25)


@given(backends=BACKENDS, calls=CALLS, seed=st.integers(0, 9))
def test_candidates_that_are_known_are_chosen_from_as_new_ones(
    backends: list[tuple[int, int]],
    calls: list[tuple[float, Failover | None, bool]],
    seed: int,
) -> None:
    """The same list each time, or one of its own for each call; also once backends were replaced."""
    made = [
        backend(str(at), priority=priority, weight=weight)
        for at, (priority, weight) in enumerate(backends)
    ]
    changed = [backend(each.name, priority=each.priority) for each in made]

    assert _chosen(made, changed, calls, seed, is_known=True) == _chosen(
        made, changed, calls, seed, is_known=False
    )


def _chosen(
    first: list[Backend],
    later: list[Backend],
    calls: list[tuple[float, Failover | None, bool]],
    seed: int,
    *,
    is_known: bool,
) -> list[Backend | None]:
    pool = Pool(tuple(first), FakeClock(seconds=0.0), seeded_dice(seed))
    chosen: list[Backend | None] = []
    for number, (pause, failover, is_tried) in enumerate(calls):
        if number == len(calls) // 2:
            pool.replace(later)
        pool.clock = FakeClock(seconds=pool.clock.monotonic() + pause)
        candidates = pool.backends if is_known else list(pool.backends)
        lease = pool.lease(
            candidates, "gpt", Demand(100, "ann"), tried=[first[0].name] if is_tried else ()
        )
        chosen.append(None if lease is None else lease.backend)
        if lease is not None:
            with lease:
                now = pool.clock.monotonic()
                lease.answered(now) if failover is None else lease.failed(failover)
    return chosen
