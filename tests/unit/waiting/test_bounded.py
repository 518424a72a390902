"""Work that has so many seconds goes on as if it were awaited, however often it waits and however it ends."""

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meter.waiting.bounded import within


class Work:
    """Waits for each of the events, then ends; remembers what was thrown into it."""

    def __init__(self, *events: asyncio.Event, fault: Exception | None = None) -> None:
        self.events, self.fault = events, fault
        self.has_begun = asyncio.Event()
        self.thrown: BaseException | None = None

    async def run(self) -> str:
        try:
            for event in self.events:
                self.has_begun.set()
                await event.wait()
        except BaseException as exc:
            self.thrown = exc
            raise
        if self.fault is not None:
            raise self.fault
        return "done"


def set_event() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_work_that_need_not_wait_is_done_at_once() -> None:
    """No other task runs in between, and no timer is made: no time is enough for it."""
    ran = asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)

    assert await within(0, Work(set_event()).run()) == "done"

    assert not ran.is_set()


@pytest.mark.parametrize("seconds", [0, -1])
async def test_work_that_waits_has_not_any_time_where_none_is_left(seconds: float) -> None:
    """As with `asyncio.timeout`, even where it would be done in the next turn."""
    event = asyncio.Event()
    work = Work(event)
    asyncio.get_running_loop().call_soon(event.set)

    with pytest.raises(TimeoutError):
        await within(seconds, work.run())

    assert isinstance(work.thrown, asyncio.CancelledError)


@pytest.mark.parametrize(("events", "asked"), [((), 0), ((asyncio.Event(),), 1)])
async def test_how_long_work_may_wait_is_asked_once_it_waits(
    events: tuple[asyncio.Event, ...], asked: int
) -> None:
    """Nearly none does."""
    times = []

    def seconds() -> float:
        times.append(1)
        return 0.0

    outcome, *_ = await asyncio.gather(within(seconds, Work(*events).run()), return_exceptions=True)

    assert (len(times), isinstance(outcome, TimeoutError)) == (asked, bool(asked))


@pytest.mark.parametrize("seconds", [30, None])
@pytest.mark.parametrize("fault", [None, ZeroDivisionError()])
async def test_work_that_waits_goes_on_as_if_it_were_awaited(
    seconds: float | None, fault: Exception | None
) -> None:
    """However often it waits, and however it ends."""
    events = [asyncio.Event(), asyncio.Event(), asyncio.Event()]
    work = Work(*events, fault=fault)
    task = asyncio.create_task(within(seconds, work.run()))
    for event in events:
        await work.has_begun.wait()
        work.has_begun.clear()
        event.set()

    [ended] = await asyncio.gather(task, return_exceptions=True)

    assert ended == ("done" if fault is None else fault)


async def test_a_fault_without_a_wait_is_raised() -> None:
    """As it is."""
    with pytest.raises(ZeroDivisionError):
        await within(30, Work(fault=ZeroDivisionError()).run())


async def test_work_that_is_late_is_cancelled() -> None:
    """Also in a later wait than its first."""
    work = Work(set_event(), asyncio.Event(), asyncio.Event())
    work.events[1].set()

    with pytest.raises(TimeoutError) as late:
        await within(0.01, work.run())

    assert isinstance(work.thrown, asyncio.CancelledError)
    assert late.value.__cause__ is work.thrown


@pytest.mark.parametrize("waits", [1, 2])
async def test_work_is_cancelled_with_its_task(waits: int) -> None:
    """Which is not taken for lateness."""
    last = asyncio.Event()
    work = Work(*[asyncio.Event()] * (waits - 1), last)
    task = asyncio.create_task(within(30, work.run()))
    for event in work.events[:-1]:
        await work.has_begun.wait()
        work.has_begun.clear()
        event.set()
    await work.has_begun.wait()

    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert task.cancelled()
    assert isinstance(work.thrown, asyncio.CancelledError)


async def test_a_task_that_was_cancelled_before_does_not_let_its_work_wait() -> None:
    """The cancellation arrives where the work first waits."""
    work = Work(asyncio.Event())

    async def cancelled() -> None:
        current = asyncio.current_task()
        assert current is not None
        current.cancel()
        await within(30, work.run())

    [ended] = await asyncio.gather(asyncio.create_task(cancelled()), return_exceptions=True)

    assert isinstance(ended, asyncio.CancelledError)
    assert work.thrown is not None


async def test_work_may_turn_its_cancellation_into_a_result() -> None:
    """And it may wait again while it cleans up."""

    async def stubborn() -> str:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            return "cleaned"
        return ""

    assert await within(0.01, stubborn()) == "cleaned"
    assert await within(0, _caught_at_once()) == "caught"


async def _caught_at_once() -> str:
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        return "caught"
    return ""


async def test_the_innermost_work_that_is_late_raises() -> None:
    """The work around it has its own time, and can go on."""

    async def outer() -> str:
        with pytest.raises(TimeoutError):
            await within(0.01, Work(asyncio.Event()).run())
        return await within(30, Work(set_event()).run())

    assert await within(30, outer()) == "done"


async def test_the_outer_work_that_is_late_ends_the_inner() -> None:
    """For which its own time is not over: it is cancelled."""
    inner = Work(asyncio.Event())

    with pytest.raises(TimeoutError):
        await within(0.01, within(30, inner.run()))

    assert isinstance(inner.thrown, asyncio.CancelledError)


async def test_work_is_closed_with_what_awaits_it() -> None:
    """Its `finally` runs, and nothing is reported as never awaited."""
    work = Work(asyncio.Event())

    async def closed() -> Coroutine[Any, Any, str]:
        waiting = within(30, work.run())
        waiting.send(None)
        return waiting

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        waiting = await closed()
        with pytest.raises((GeneratorExit, RuntimeError)):
            waiting.throw(GeneratorExit)
        del waiting
        gc.collect()

    assert isinstance(work.thrown, GeneratorExit)


async def test_generators_inside_the_work_are_cleaned_up() -> None:
    """In the order in which they were entered, as with `await`."""
    seen: list[str] = []

    @asynccontextmanager
    async def held() -> AsyncIterator[None]:
        try:
            yield
        finally:
            await asyncio.sleep(0)
            seen.append("given back")

    async def holding() -> None:
        async with held():
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await within(0.01, holding())

    assert seen == ["given back"]


class Beside:
    """Goes on until it is cancelled."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def run(self) -> None:
        self.begun += 1
        try:
            await asyncio.Event().wait()
        finally:
            self.ended += 1


async def test_what_goes_on_beside_work_begins_when_that_waits() -> None:
    """And ends with it; beside work that does not wait it never begins."""
    beside, event = Beside(), asyncio.Event()
    await within(1, Work(set_event()).run(), beside=beside.run)
    without_waiting = beside.begun
    asyncio.get_running_loop().call_later(0.01, event.set)
    await within(1, Work(event).run(), beside=beside.run)
    await asyncio.sleep(0)

    assert (without_waiting, beside.begun, beside.ended) == (0, 1, 1)


async def test_what_goes_on_beside_work_ends_with_its_time() -> None:
    """As the work does."""
    beside = Beside()
    with pytest.raises(TimeoutError):
        await within(0.01, Work(asyncio.Event()).run(), beside=beside.run)
    await asyncio.sleep(0)

    assert (beside.begun, beside.ended) == (1, 1)
