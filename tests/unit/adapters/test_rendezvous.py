"""Requests and invocations meet by id, in either order, and neither waits for ever."""

import asyncio
import gc
import logging
from collections.abc import Sequence
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

from meter.adapters.functions.rendezvous import NoInvocation, Rendezvous, RequestNeverCame

WAIT = 0.02
REQUEST_FIRST, INVOCATION_FIRST, NO_INVOCATION, NO_REQUEST, LATE = range(5)


def _ignore(result: object) -> None:
    pass


def request() -> Request:
    return Request({"type": "http", "method": "GET", "path": "/", "headers": []})


async def test_a_request_that_never_comes_fails_the_invocation(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """After the wait, with a line that names the invocation, and nothing held."""
    meeting = Rendezvous(_ignore, WAIT)

    with caplog.at_level(logging.ERROR), pytest.raises(RequestNeverCame):
        await meeting.take("one")
    meeting.give("one", RequestNeverCame())  # the runtime hands the failure on

    assert meeting.held == 0
    assert caplog.messages == ["request_undelivered invocation_id=one waited_seconds=0.02"]


async def test_a_request_without_an_invocation_is_given_up() -> None:
    """After the wait, and nothing held."""
    meeting = Rendezvous(_ignore, WAIT)

    with pytest.raises(NoInvocation):
        await meeting.answer("one", request())

    assert meeting.held == 0


async def test_a_wait_in_vain_leaves_no_garbage(caplog: pytest.LogCaptureFixture) -> None:
    """A failure that its own frame refers to lives until a collection, with the whole request."""
    caplog.set_level(logging.CRITICAL)  # a record that is kept keeps its frames
    meeting = Rendezvous(_ignore, WAIT)
    gc.collect()
    gc.disable()
    try:
        for waiting in (meeting.take("one"), meeting.answer("two", request())):
            with suppress(NoInvocation, RequestNeverCame):
                await waiting
        del waiting
        await asyncio.sleep(0)
        left = gc.collect()
    finally:
        gc.enable()

    assert left == 0


async def test_an_invocation_may_take_longer_than_the_wait() -> None:
    """The wait is for the two to meet, not for the answer."""
    meeting = Rendezvous(_ignore, WAIT)
    answer = asyncio.create_task(meeting.answer("one", request()))
    await meeting.take("one")

    await asyncio.sleep(3 * WAIT)
    meeting.give("one", "answer")

    assert await answer == "answer"
    assert meeting.held == 0


@pytest.mark.parametrize("comes_first", ["request", "invocation"])
async def test_an_invocation_ends_with_its_request(comes_first: str) -> None:
    """The server gives up its requests when it stops; what works for them is told so at once."""
    meeting = Rendezvous(_ignore, WAIT)
    ended: list[str] = []

    async def invoke() -> None:
        await meeting.take("one")
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(WAIT)
            ended.append("one")

    if comes_first == "request":
        answer = asyncio.create_task(meeting.answer("one", request()))
        await asyncio.sleep(0)
        invocation = asyncio.create_task(invoke())
    else:
        invocation = asyncio.create_task(invoke())
        await asyncio.sleep(0)
        answer = asyncio.create_task(meeting.answer("one", request()))
    await asyncio.sleep(WAIT / 2)
    answer.cancel()
    await asyncio.wait([answer])
    await meeting.end_cancelled()

    assert ended == ["one"]
    assert (invocation.cancelled(), meeting.held) == (True, 0)


async def test_a_result_that_nobody_waits_for_is_not_dropped() -> None:
    """It may hold a call that is not counted yet: it goes to whoever ends it."""
    lost: list[object] = []
    meeting = Rendezvous(lost.append, WAIT)
    answer = asyncio.create_task(meeting.answer("one", request()))
    await asyncio.sleep(0)
    await asyncio.create_task(meeting.take("one"))
    meeting.give("one", "first")
    answer.cancel()  # before it has taken its result
    await asyncio.wait([answer])
    meeting.give("one", "second")

    assert answer.cancelled()
    assert lost == ["first", "second"]
    assert meeting.held == 0


async def test_an_invocation_that_comes_twice_does_not_take_the_answer_of_the_first() -> None:
    """It fails by itself; the runtime hands its failure on under the same id."""
    meeting = Rendezvous(_ignore, WAIT)
    answer = asyncio.create_task(meeting.answer("one", request()))
    await asyncio.sleep(0)
    await meeting.take("one")

    with pytest.raises(RequestNeverCame) as raised:
        await meeting.take("one")
    meeting.give("one", raised.value)
    meeting.give("one", "answer")

    assert await answer == "answer"


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(REQUEST_FIRST, LATE), min_size=1, max_size=30))
def test_every_order_ends_and_holds_nothing(ways: Sequence[int]) -> None:
    """Whatever comes first, late or never: each pair meets, each single one ends, none is left."""
    asyncio.run(_drive(ways))


async def _drive(ways: Sequence[int]) -> None:
    meeting = Rendezvous(_ignore, WAIT)

    async def arrive(name: str, sent: Request) -> object:
        return await meeting.answer(name, sent)

    async def invoke(name: str, sent: Request | None) -> str:
        taken = await meeting.take(name)
        assert taken is sent
        meeting.give(name, name)
        return name

    async def one(number: int, way: int) -> None:
        name, sent = str(number), request()
        match way:
            case 0:
                steps = [arrive(name, sent), invoke(name, sent)]
            case 1:
                steps = [invoke(name, sent), arrive(name, sent)]
            case 2:
                steps = [arrive(name, sent)]
            case 3:
                steps = [invoke(name, None)]
            case _:
                steps = [arrive(name, sent), _after(2 * WAIT, invoke(name, sent))]
        seen = await asyncio.gather(*steps, return_exceptions=True)
        expected: dict[int, list[object]] = {0: [name, name], 1: [name, name]}
        if way in expected:
            assert seen == expected[way]
        else:
            assert all(isinstance(each, NoInvocation | RequestNeverCame) for each in seen)

    await asyncio.gather(*(one(number, way) for number, way in enumerate(ways)))
    assert meeting.held == 0


async def _after(seconds: float, then: object) -> object:
    await asyncio.sleep(seconds)
    return await then  # type: ignore[misc]
