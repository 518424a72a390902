"""A caller has so many seconds for each write, also for one that waits several times."""

import asyncio

import pytest

from meter.errors import CallerGone
from meter.gateway.answer.writing import wrote
from tests.fakes.gateway import FakeCaller


class Slow:
    """A caller that waits for each of the events before it takes what is written."""

    def __init__(self, *events: asyncio.Event, fault: Exception | None = None) -> None:
        self.events, self.fault = events, fault
        self.has_begun = asyncio.Event()
        self.was_cancelled = False

    async def write(self, data: bytes) -> None:
        try:
            for event in self.events:
                self.has_begun.set()
                await event.wait()
        except asyncio.CancelledError:
            self.was_cancelled = True
            raise
        if self.fault is not None:
            raise self.fault


async def test_a_write_that_need_not_wait_is_done_at_once() -> None:
    """No time passes in the loop, so no other task runs in between, and no timer is made."""
    caller, ran = FakeCaller(), asyncio.Event()
    asyncio.get_running_loop().call_soon(ran.set)

    assert await wrote(caller, b"x", seconds=0) is True

    assert (caller.received, ran.is_set()) == (b"x", False)


@pytest.mark.parametrize("fault", [None, CallerGone()])
async def test_a_write_that_waits_goes_on_as_if_it_were_awaited(fault: Exception | None) -> None:
    """However often it waits, and however it ends."""
    first, second = asyncio.Event(), asyncio.Event()
    slow = Slow(first, second, fault=fault)
    writing = asyncio.create_task(wrote(slow, b"x", seconds=30))
    await slow.has_begun.wait()
    slow.has_begun.clear()
    first.set()
    await slow.has_begun.wait()
    second.set()

    assert await writing is (fault is None)


async def test_a_caller_that_does_not_read_is_left_in_time() -> None:
    """Its write is cancelled."""
    slow = Slow(asyncio.Event())

    assert await wrote(slow, b"x", seconds=0.01) is False

    assert slow.was_cancelled


async def test_a_caller_that_has_gone_takes_nothing() -> None:
    """It says so at once."""
    assert await wrote(FakeCaller(leaves_after=0), b"x", seconds=30) is False


async def test_a_write_is_cancelled_with_its_relay() -> None:
    """Not taken for a caller that does not read."""
    slow = Slow(asyncio.Event())
    writing = asyncio.create_task(wrote(slow, b"x", seconds=30))
    await slow.has_begun.wait()

    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing

    assert slow.was_cancelled


@pytest.mark.parametrize("is_late", [False, True])
async def test_other_faults_are_raised(is_late: bool) -> None:
    """At the first step or behind a wait."""
    event = asyncio.Event()
    if is_late:
        asyncio.get_running_loop().call_soon(event.set)
    else:
        event.set()

    with pytest.raises(ZeroDivisionError):
        await wrote(Slow(event, fault=ZeroDivisionError()), b"x", seconds=30)
