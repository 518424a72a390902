"""What one instance takes at once, and for how long."""

import asyncio
from copy import replace

import pytest

from meter.errors import AnswerCut
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import Outcome
from tests.fakes.gateway import FakeCaller, json_answer, stream_answer
from tests.support.gateway import (
    DONE_FRAME,
    SERVED,
    STREAM_BODY,
    TEXT_FRAME,
    USAGE_FRAME,
    Door,
    door,
)


def limited(made: Door, *, calls: int = 100, seconds: float = 5) -> Door:
    return replace(made, max_concurrent_calls=calls, total_timeout_seconds=seconds)


async def test_calls_beyond_the_limit_are_refused_at_once() -> None:
    """503 with a wait, no backend is asked and no event is made; what runs goes on."""
    gate = asyncio.Event()
    waiting = stream_answer(TEXT_FRAME, gate, USAGE_FRAME + DONE_FRAME)
    made = limited(door(waiting), calls=1)
    first = await made.call(STREAM_BODY)
    second = await made.call(STREAM_BODY)

    assert isinstance(second, Answer)
    assert second.status == 503
    assert dict(second.headers)["retry-after"] == "1"
    assert made.sink.events == []
    gate.set()
    assert isinstance(first, StreamingAnswer)
    await first.relay.run(FakeCaller())
    assert [event.outcome for event in made.sink.events] == [Outcome.SERVED]


@pytest.mark.parametrize("answer_bytes", [SERVED, b"no json"])
async def test_a_place_is_given_back_when_a_call_ends(answer_bytes: bytes) -> None:
    """Whole answers end when they are published."""
    made = limited(door(json_answer(200, answer_bytes), json_answer(200, SERVED)), calls=1)
    statuses = [(await made.call()).status for _ in range(2)]

    assert statuses == [200, 200]


async def test_an_answer_that_does_not_begin_in_time_is_a_504() -> None:
    """The call is counted as failed and names the backend that was being asked."""
    made = limited(door(stream_answer(asyncio.Event())), seconds=0.02)
    answer = await made.call(STREAM_BODY)

    assert answer.status == 504
    assert [event.outcome for event in made.sink.events] == [Outcome.FAILED]
    assert [attempt.backend for attempt in made.sink.events[0].attempts] == ["a"]


async def test_a_stream_that_does_not_end_in_time_is_cut() -> None:
    """It ends like one that the backend cut: with an error, never clean."""
    made = limited(door(stream_answer(TEXT_FRAME, asyncio.Event())), seconds=0.02)
    answer, caller = await made.call(STREAM_BODY), FakeCaller()
    assert isinstance(answer, StreamingAnswer)
    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    assert caller.received.startswith(TEXT_FRAME)
    assert b"upstream_cut" in caller.received
    assert [event.outcome for event in made.sink.events] == [Outcome.FAILED]
