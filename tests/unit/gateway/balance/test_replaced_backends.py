"""Backends that are replaced while calls run: what is known of those that stay, and calls under way."""

from copy import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from meter.gateway.backend import Backend, Deployment
from meter.gateway.balance.demand import NO_DEMAND
from meter.gateway.balance.pool import Lease, Pool
from meter.gateway.balance.verdict import Failover, Fault
from tests.fakes.gateway import FakeClock, seeded_dice

A, B, C = (
    Backend(name=name, url=f"https://{name}", deployments={"gpt": Deployment("gpt")})
    for name in "abc"
)


def pool_of(*backends: Backend) -> Pool:
    return Pool(backends, FakeClock(), seeded_dice())


def lease(pool: Pool, *candidates: Backend) -> Lease | None:
    return pool.lease(candidates or pool.serving("gpt"), "gpt", NO_DEMAND)


def fail(pool: Pool, backend: Backend) -> None:
    found = lease(pool, backend)
    assert found is not None
    with found:
        found.failed(Failover(Fault.TIMEOUT))


def may_call(pool: Pool, backend: Backend) -> bool:
    return pool.target(backend, "gpt").may_call(NO_DEMAND, pool.clock.monotonic())


def test_a_circuit_survives_where_the_backend_stays() -> None:
    """Also with other settings; the others' too."""
    pool = pool_of(A, B)
    fail(pool, A)
    changed = replace(A, weight=7, priority=3)
    pool.replace([changed, C])

    assert not may_call(pool, changed)
    assert may_call(pool, C)
    assert pool.target(changed, "gpt").backend.weight == 7


def test_another_account_of_the_same_name_begins_anew() -> None:
    """A circuit is about an account; so it does behind another deployment."""
    pool = pool_of(A, B)
    fail(pool, A)
    fail(pool, B)
    moved = replace(A, url="https://elsewhere")
    renamed = replace(B, deployments={"gpt": Deployment("gpt-2")})
    pool.replace([moved, renamed])

    assert may_call(pool, moved)
    assert may_call(pool, renamed)


def test_a_call_under_way_keeps_its_backend() -> None:
    """As it was when the call began, removed or changed; what it learns is not lost."""
    pool = pool_of(A, B)
    of_a, of_b = lease(pool, A), lease(pool, B)
    assert of_a is not None
    assert of_b is not None
    changed = replace(B, weight=9)
    pool.replace([changed])
    seen = of_a.backend, of_b.backend
    of_a.close()
    of_b.failed(Failover(Fault.TIMEOUT))
    of_b.close()

    assert seen == (A, B)
    assert not may_call(pool, changed)
    assert pool.target(changed, "gpt").load.in_flight == 0


def test_a_removed_backend_drains() -> None:
    """A call that knows it may still fail over to it; later calls are not offered it."""
    pool = pool_of(A, B)
    pool.replace([B])

    assert pool.serving("gpt") == [B]
    found = lease(pool, A)
    assert found is not None
    assert found.backend is A


def test_slots_of_a_backend_that_stays_are_kept() -> None:
    """Its load counts the calls that began before."""
    pool = pool_of(A)
    held = [lease(pool) for _ in range(3)]
    again = replace(A)
    pool.replace([again])

    assert len(held) == pool.target(again, "gpt").load.in_flight == 3


VARIANTS = st.lists(
    st.builds(
        lambda name, weight, host: Backend(
            name=name,
            url=f"https://{host}",
            weight=weight,
            deployments={"gpt": Deployment("gpt")},
        ),
        st.sampled_from("abc"),
        st.integers(1, 3),
        st.sampled_from("xy"),
    ),
    min_size=1,
    max_size=3,
    unique_by=lambda backend: backend.name,
)
STEPS = st.lists(
    st.one_of(VARIANTS, st.sampled_from(["begin", "begin by old", "answer", "fail", "wait"])),
    max_size=40,
)


@settings(max_examples=100)
@given(STEPS)
def test_no_order_of_replacements_and_calls_loses_one(
    steps: list[list[Backend] | str],
) -> None:
    """Each call ends on the backend that it began with, new ones go to current ones, and none stays held."""
    pool = pool_of(A, B)
    old: list[Backend] = [A, B]
    running: list[tuple[Lease, Backend]] = []
    for step in steps:
        if isinstance(step, list):
            old = list(pool.backends)
            pool.replace(step)
        elif step.startswith("begin"):
            candidates = old if step == "begin by old" else pool.serving("gpt")
            if (found := lease(pool, *candidates)) is not None:
                assert any(found.backend is each for each in candidates)
                running.append((found, found.backend))
        elif step == "wait":
            assert isinstance(pool.clock, FakeClock)
            pool.clock.advance(20)
        elif running:
            ended, began_with = running.pop(0)
            assert ended.backend is began_with
            if step == "fail":
                ended.failed(Failover(Fault.ERROR))
            else:
                ended.answered(pool.clock.monotonic())
            ended.close()
    for each, _ in running:
        each.close()

    current = [pool.target(backend, "gpt").load.in_flight for backend in pool.backends]
    assert current == [0] * len(pool.backends)
