"""The guard of `make check`: it counts exactly, and fails for what executes too much alone."""

import asyncio

from bench.guard.__main__ import compare
from bench.guard.instructions import StandingLoop, count


async def _loop(times: int) -> None:
    for _ in range(times):
        await asyncio.sleep(0)


def _instructions(times: int) -> int:
    async def counted() -> int:
        return (await count(lambda: _loop(times))).total()

    return asyncio.run(counted(), loop_factory=StandingLoop)


def test_the_same_work_has_the_same_count() -> None:
    """Otherwise the guard would fail by chance."""
    first = _instructions(100)

    assert [_instructions(100) for _ in range(5)] == [first] * 5


def test_more_work_has_a_higher_count() -> None:
    """Work of the event loop counts, too."""
    assert _instructions(110) > 1.05 * _instructions(100)


def test_a_tenth_more_fails_and_what_is_within_the_headroom_passes() -> None:
    """A bound that each small change breaks would be raised without a look."""
    bounds = {"a call": 1_000}

    assert compare({"a call": 1_050}, bounds) == 0
    assert compare({"a call": 1_100}, bounds) == 1


def test_work_without_a_bound_fails() -> None:
    """A new workload is written to the bounds with the change that brings it."""
    assert compare({"a new one": 1}, {"a call": 1_000}) == 1
