"""Deadlines behind one timer are kept as if each had its own."""

import asyncio
import time
from functools import partial

import pytest

from meter.waiting.alarms import Alarms
from tests.fakes.virtual_time import VirtualTimeLoop


def rung(*deadlines: float, cleared: int | None = None) -> list[tuple[float, float]]:
    """When each rang that did, in virtual seconds from the start, and when it should have."""

    async def run() -> list[tuple[float, float]]:
        loop, alarms, found = asyncio.get_running_loop(), Alarms(), list[tuple[float, float]]()
        start = loop.time()

        def ring(when: float) -> None:
            found.append((loop.time() - start, when))

        keys = [alarms.set(start + when, partial(ring, when)) for when in deadlines]
        if cleared is not None:
            alarms.clear(keys[cleared])
        await asyncio.sleep(1_000)
        return found

    return asyncio.run(run(), loop_factory=VirtualTimeLoop)


@pytest.mark.parametrize("deadlines", [(1, 2, 3), (3, 2, 1), (2, 1, 2), (0, -1, 5)])
def test_each_rings_at_its_moment_and_once(deadlines: tuple[float, ...]) -> None:
    """In whatever order they are set; one that is past at once."""
    found = rung(*deadlines)

    assert [when for _, when in found] == sorted(deadlines, key=lambda when: max(when, 0))
    assert all(at == pytest.approx(max(when, 0)) for at, when in found)


@pytest.mark.parametrize("cleared", [0, 1, 2])
def test_one_that_is_cleared_does_not_ring(cleared: int) -> None:
    """And the others do."""
    left = [when for number, when in enumerate((1, 2, 3)) if number != cleared]

    assert [when for _, when in rung(1, 2, 3, cleared=cleared)] == left


async def test_one_cleared_as_it_is_due_does_not_ring() -> None:
    """By another one that rings before it."""
    alarms, found = Alarms(), list[str]()
    now = asyncio.get_running_loop().time()

    def first() -> None:
        found.append("first")
        alarms.clear(second)

    alarms.set(now, first)
    second = alarms.set(now, lambda: found.append("second"))
    await asyncio.sleep(0.05)

    assert found == ["first"]


@pytest.mark.parametrize("turns", [0, 1, 8])
def test_one_rings_behind_its_turns(turns: int) -> None:
    """Of a loop that found its moment past. One that is cleared meanwhile does not ring."""

    async def run() -> list[int]:
        loop, alarms, rang_in = asyncio.get_running_loop(), Alarms(), list[int]()
        turn = 0

        def ring() -> None:
            rang_in.append(turn)

        def count() -> None:
            nonlocal turn
            turn += 1
            if turn == 10:
                alarms.clear(cleared)
            if turn < 30:
                loop.call_soon(count)

        alarms.set(loop.time() + 1, ring)
        alarms.set(loop.time() + 1, ring, turns)
        cleared = alarms.set(loop.time() + 1, ring, 15)
        loop.call_at(loop.time() + 1, count)
        await asyncio.sleep(10)
        return rang_in

    first, second = asyncio.run(run(), loop_factory=VirtualTimeLoop)
    assert second - first == turns


async def test_one_that_raises_keeps_no_other_from_ringing() -> None:
    """Those due at the same moment, and those due later."""
    alarms, rang = Alarms(), asyncio.Event()
    loop = asyncio.get_running_loop()
    faults = list[object]()
    loop.set_exception_handler(lambda _loop, context: faults.append(context["exception"]))

    alarms.set(loop.time(), lambda: 1 // 0)
    alarms.set(loop.time() + 0.01, rang.set)
    async with asyncio.timeout(30):
        await rang.wait()

    assert len(faults) == 1


async def test_one_that_rings_may_set_the_next() -> None:
    """Of any moment."""
    alarms, rang = Alarms(), asyncio.Event()
    loop = asyncio.get_running_loop()

    alarms.set(loop.time(), lambda: alarms.set(loop.time() + 0.01, rang.set))
    async with asyncio.timeout(30):
        await rang.wait()


def test_many_that_are_cleared_leave_one_timer() -> None:
    """However many calls there were; and none that is looked at again once it is over."""

    async def run() -> tuple[int, int]:
        alarms = Alarms()
        loop = asyncio.get_running_loop()
        for _ in range(1_000):
            alarms.clear(alarms.set(loop.time() + 5, lambda: None))
        timers = loop._scheduled  # type: ignore[attr-defined]  # what is asserted of
        before = len(timers)
        await asyncio.sleep(6)
        return before, len(timers)

    assert asyncio.run(run(), loop_factory=VirtualTimeLoop) == (1, 0)


async def test_a_task_has_until_its_limit() -> None:
    """What it does then ends by a cancellation, of which TimeoutError is made."""
    alarms = Alarms()
    with pytest.raises(TimeoutError), alarms.limit(asyncio.get_running_loop().time() + 0.01):
        await asyncio.Event().wait()
    task = asyncio.current_task()

    assert task is not None
    assert task.cancelling() == 0
    await asyncio.sleep(0.02)


async def test_a_task_that_is_done_before_its_limit_is_not_cancelled() -> None:
    """Nor what it does after."""
    alarms = Alarms()
    with alarms.limit(asyncio.get_running_loop().time() + 0.01):
        await asyncio.sleep(0)

    await asyncio.sleep(0.03)


async def test_a_task_done_as_its_limit_comes_is_not_cancelled() -> None:
    """Its last step runs behind the limit's end, and it must not be cancelled for that later."""
    alarms = Alarms()
    loop = asyncio.get_running_loop()
    with alarms.limit(loop.time() + 0.01):
        time.sleep(0.02)  # noqa: ASYNC251  # the loop finds both due
        await asyncio.sleep(0)

    await asyncio.sleep(0.01)


@pytest.mark.parametrize("seconds", [30, 0.01])
async def test_a_task_that_is_cancelled_by_others_stays_so(seconds: float) -> None:
    """Before its limit, or as that comes."""
    alarms = Alarms()

    async def work() -> None:
        with alarms.limit(asyncio.get_running_loop().time() + seconds):
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    if seconds < 1:
        time.sleep(0.02)  # noqa: ASYNC251  # the loop finds it due
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()


async def test_a_limit_within_another_ends_alone() -> None:
    """The outer one then still has its time."""
    alarms = Alarms()
    loop = asyncio.get_running_loop()
    with alarms.limit(loop.time() + 30):
        with pytest.raises(TimeoutError), alarms.limit(loop.time() + 0.01):
            await asyncio.Event().wait()
        await asyncio.sleep(0)


@pytest.mark.parametrize(("takes", "is_done"), [(0, True), (1, True), (3, False)])
def test_a_task_is_waited_for_as_long_as_it_has(takes: float, is_done: bool) -> None:
    """And runs on where it takes longer."""

    async def run() -> tuple[bool, float, bool]:
        loop = asyncio.get_running_loop()
        start = loop.time()
        task = asyncio.Task(asyncio.sleep(takes), eager_start=takes == 0, loop=loop)
        found = await Alarms().is_done(task, 2)
        waited = loop.time() - start
        await task
        return found, waited, task.cancelled()

    found, waited, is_cancelled = asyncio.run(run(), loop_factory=VirtualTimeLoop)

    assert (found, is_cancelled) == (is_done, False)
    assert waited == pytest.approx(min(takes, 2))


async def test_waiting_for_a_task_can_be_given_up() -> None:
    """The task runs on, and nothing rings later."""
    alarms, event = Alarms(), asyncio.Event()
    task = asyncio.create_task(event.wait())
    waiting = asyncio.create_task(alarms.is_done(task, 0.01))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait({waiting})
    await asyncio.sleep(0.02)
    event.set()

    assert waiting.cancelled()
    assert await task
