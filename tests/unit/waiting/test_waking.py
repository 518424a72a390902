"""Waking a task: at once where none runs, in the next turn otherwise; and never twice, nor another one."""

import asyncio
import gc
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.gateway.detached import start_now
from meter.waiting.bounded import within
from meter.waiting.waking import Acknowledgement, Waker, result_of


class Sleeper:
    """Awaits its waker again and again, and writes down how often it was woken, and what ended it."""

    def __init__(self) -> None:
        self.waker = Waker(asyncio.get_running_loop())
        self.woken = 0
        self.ended: BaseException | None = None

    async def run(self) -> None:
        try:
            while True:
                await self.waker
                self.woken += 1
        except BaseException as exc:
            self.ended = exc
            raise


async def in_a_callback[T](act: Callable[[], T]) -> T:
    """Act where no task runs, as a transport does."""
    done: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def run() -> None:
        try:
            done.set_result(act())
        except Exception as exc:
            done.set_exception(exc)

    asyncio.get_running_loop().call_soon(run)
    return await done


async def asleep(sleeper: Sleeper) -> asyncio.Task[None]:
    task = asyncio.create_task(sleeper.run())
    await asyncio.sleep(0)
    return task


async def end(task: asyncio.Task[Any]) -> None:
    task.cancel()
    await asyncio.wait({task})


async def test_in_a_callback_the_step_is_run_at_once() -> None:
    """No turn of the loop is between, however often it happens."""
    sleeper = Sleeper()
    task = await asleep(sleeper)

    def act() -> list[int]:
        counts = []
        for _ in range(3):
            sleeper.waker.wake()
            counts.append(sleeper.woken)
        return counts

    assert await in_a_callback(act) == [1, 2, 3]

    await end(task)


async def test_where_a_task_runs_the_step_is_run_in_the_next_turn() -> None:
    """Tasks do not nest."""
    sleeper = Sleeper()
    task = await asleep(sleeper)

    sleeper.waker.wake()

    assert sleeper.woken == 0
    await asyncio.sleep(0)
    assert sleeper.woken == 1

    await end(task)


async def test_a_step_may_wake_another_task() -> None:
    """Which has its turn; and the first may wake itself, to no effect."""
    first, second = Sleeper(), Sleeper()
    tasks = [await asleep(second)]

    async def wake_both() -> None:
        await first.waker
        first.waker.wake()
        second.waker.wake()

    tasks.append(asyncio.create_task(wake_both()))
    await asyncio.sleep(0)

    def act() -> int:
        first.waker.wake()
        return second.woken

    assert await in_a_callback(act) == 0

    await tasks[1]
    assert second.woken == 1
    await end(tasks[0])


async def test_news_that_nobody_waits_for_are_forgotten() -> None:
    """Who waits looks first whether there is something new."""
    sleeper = Sleeper()
    sleeper.waker.wake()
    sleeper.waker.wake_soon()
    task = await asleep(sleeper)
    await asyncio.sleep(0)

    assert sleeper.woken == 0

    await end(task)


@pytest.mark.parametrize("message", [None, "why"])
async def test_a_task_that_waits_can_be_cancelled(message: str | None) -> None:
    """With its message; what wakes it afterwards does nothing."""
    sleeper = Sleeper()
    task = await asleep(sleeper)

    task.cancel(message)
    await in_a_callback(sleeper.waker.wake)
    await asyncio.wait({task})

    assert task.cancelled()
    assert sleeper.woken == 0
    assert isinstance(sleeper.ended, asyncio.CancelledError)
    assert sleeper.ended.args == (() if message is None else (message,))


async def test_a_task_that_was_woken_is_cancelled_in_its_step() -> None:
    """As with a future that has its result by then."""
    sleeper = Sleeper()
    task = await asleep(sleeper)

    sleeper.waker.wake_soon()
    task.cancel()
    await asyncio.wait({task})

    assert task.cancelled()
    assert sleeper.woken == 0


async def test_a_cancellation_reaches_only_its_own_task() -> None:
    """Also where another one waits, and is woken, before the first has its step."""
    sleeper, waker = Sleeper(), Waker(asyncio.get_running_loop())
    sleeper.waker = waker
    first = await asleep(sleeper)

    async def next_one() -> str:
        await waker
        return "woken"

    def act() -> asyncio.Task[str]:
        first.cancel()
        second = start_now(next_one())
        waker.wake()
        return second

    second = await in_a_callback(act)

    assert await second == "woken"
    assert first.cancelled()


async def test_two_tasks_cannot_wait_for_the_same() -> None:
    """One of them would not be woken: the second is told."""
    sleeper = Sleeper()
    first = await asleep(sleeper)

    async def second() -> None:
        await sleeper.waker

    with pytest.raises(RuntimeError):
        await asyncio.create_task(second())

    await in_a_callback(sleeper.waker.wake)
    assert sleeper.woken == 1
    await end(first)


async def test_a_fault_of_the_step_is_the_tasks() -> None:
    """Who wakes does not get it."""
    waker = Waker(asyncio.get_running_loop())

    async def failing() -> None:
        await waker
        raise ZeroDivisionError

    task = asyncio.create_task(failing())
    await asyncio.sleep(0)

    await in_a_callback(waker.wake)

    with pytest.raises(ZeroDivisionError):
        await task


async def test_the_step_has_the_context_of_its_task() -> None:
    """Not that of who wakes."""
    variable: ContextVar[str] = ContextVar("variable")
    waker = Waker(asyncio.get_running_loop())

    async def waiting() -> str:
        variable.set("own")
        await waker
        return variable.get()

    task = asyncio.create_task(waiting())
    await asyncio.sleep(0)
    variable.set("another")

    await in_a_callback(waker.wake)

    assert task.done()
    assert await task == "own"


async def test_waiting_can_have_so_many_seconds() -> None:
    """It is given up as any other wait, and can begin again."""
    sleeper = Sleeper()

    with pytest.raises(TimeoutError):
        await within(0.01, sleeper.run())
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await sleeper.run()

    assert sleeper.woken == 0


async def test_nothing_is_left_behind() -> None:
    """A waker that was woken holds no task."""
    sleeper = Sleeper()
    task = await asleep(sleeper)
    await end(task)
    gone, waker = weakref.ref(task), sleeper.waker
    gc.disable()
    try:
        sleeper.ended = None
        del task, sleeper
        assert gone() is None
    finally:
        gc.enable()

    waker.wake()


class Schedule:
    """Tasks that take what is told to them, each with its own waker."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.wakers = [Waker(loop) for _ in range(3)]
        self.parts: list[list[int]] = [[], [], []]
        self.told: list[list[int]] = [[], [], []]
        self.taken: list[list[int]] = [[], [], []]
        self.is_over = False
        self.tasks = [asyncio.create_task(self.take(number)) for number in range(3)]
        self.cancelled: list[asyncio.Task[None]] = []

    async def take(self, number: int) -> None:
        while not self.is_over:
            if self.parts[number]:
                self.taken[number].append(self.parts[number].pop(0))
            else:
                await self.wakers[number]

    def tell(self, number: int, serial: int, *, soon: bool = False) -> None:
        self.told[number].append(serial)
        self.parts[number].append(serial)
        waker = self.wakers[number]
        waker.wake_soon() if soon else waker.wake()

    async def act(self, act: str, number: int, serial: int) -> None:
        match act:
            case "news":
                asyncio.get_running_loop().call_soon(self.tell, number, serial)
            case "news in a task" | "news for the next turn":
                self.tell(number, serial, soon=act != "news in a task")
            case "cancel":
                self.tasks[number].cancel()
                self.cancelled.append(self.tasks[number])
                self.tasks[number] = asyncio.create_task(self.take(number))
            case _:
                await asyncio.sleep(0)

    async def end(self) -> None:
        for _ in range(3):
            await asyncio.sleep(0)
        self.is_over = True
        for waker in self.wakers:
            waker.wake()
        async with asyncio.timeout(5):
            await asyncio.wait({*self.tasks, *self.cancelled})


ACTS = ["news", "news in a task", "news for the next turn", "cancel", "turn"]


@settings(max_examples=300, deadline=None)
@given(acts=st.lists(st.tuples(st.sampled_from(ACTS), st.integers(0, 2)), max_size=40))
def test_whatever_the_order_each_news_is_taken_once(acts: list[tuple[str, int]]) -> None:
    """And in order: by tasks that are woken, cancelled and replaced on any schedule."""

    async def scenario() -> Schedule:
        schedule = Schedule()
        for serial, (act, number) in enumerate(acts):
            await schedule.act(act, number, serial)
        await schedule.end()
        return schedule

    schedule = asyncio.run(scenario())

    assert schedule.taken == schedule.told
    assert all(task.cancelled() for task in schedule.cancelled)
    assert all(task.exception() is None for task in schedule.tasks)


@pytest.mark.parametrize("turns", [0, 1, 3])
async def test_the_result_of_a_task_is_that_of_who_waits(turns: int) -> None:
    """Whether it was done before or is awaited."""

    async def work() -> str:
        for _ in range(turns):
            await asyncio.sleep(0)
        return "done"

    task = start_now(work())

    assert await result_of(task) == "done"


async def test_the_fault_of_a_task_is_raised() -> None:
    """A cancellation, too."""

    async def failing(fault: BaseException) -> str:
        await asyncio.sleep(0)
        raise fault

    for fault in (ZeroDivisionError(), asyncio.CancelledError()):
        with pytest.raises(type(fault)):
            await result_of(asyncio.create_task(failing(fault)))


async def test_who_waits_can_be_cancelled_alone() -> None:
    """The task runs on, and a fault that it ends with later is nobody's to be told of."""
    loop, told = asyncio.get_running_loop(), []
    loop.set_exception_handler(lambda _, context: told.append(context))
    event = asyncio.Event()

    async def failing() -> str:
        await event.wait()
        raise ZeroDivisionError

    task = asyncio.create_task(failing())
    waiting = asyncio.create_task(result_of(task))
    await asyncio.sleep(0)

    await end(waiting)
    event.set()
    await asyncio.wait({task})

    assert waiting.cancelled()
    assert not task.cancelled()
    del task
    gc.collect()
    assert told == []


async def test_who_waits_is_cancelled_with_the_task_that_ends_at_once() -> None:
    """Both in one turn: the result is not taken for a cancellation, nor lost on others."""
    event = asyncio.Event()

    async def work() -> str:
        await event.wait()
        return "done"

    task = asyncio.create_task(work())
    waiting = [asyncio.create_task(result_of(task)) for _ in range(2)]
    await asyncio.sleep(0)

    event.set()
    waiting[0].cancel()
    await asyncio.wait({*waiting})

    assert waiting[0].cancelled()
    assert waiting[1].result() == "done"


async def test_an_acknowledgement_is_told_at_once() -> None:
    """Once, however often it is accepted; who awaits it goes on, too."""
    made, told = Acknowledgement(), list[bool]()
    made.tell(lambda each: told.append(each.done()))
    waiting = asyncio.create_task(_ended(made))
    await asyncio.sleep(0)
    made.accept()
    made.accept()

    assert told == [True]
    await waiting
    assert told == [True]


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_a_fault_is_told_in_the_next_turn(is_cancelled: bool) -> None:
    """Once, although it is accepted then."""
    made, told = Acknowledgement(), list[bool]()
    made.tell(lambda each: told.append(each.cancelled()))
    made.cancel() if is_cancelled else made.set_exception(OSError())
    made.accept()

    assert told == []
    await asyncio.sleep(0)
    assert told == [is_cancelled]


async def _ended(made: Acknowledgement) -> None:
    await made
