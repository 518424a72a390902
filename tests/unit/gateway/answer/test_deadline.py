"""A call has one deadline, whatever it spends its time on."""

import asyncio
from contextlib import suppress

from meter.errors import AnswerCut
from meter.gateway.http import StreamingAnswer
from tests.fakes.gateway import FakeCaller, stream_answer
from tests.fakes.virtual_time import VirtualTimeLoop
from tests.support.gateway import STREAM_BODY, TEXT_FRAME, door

TOTAL_SECONDS = 10.0


async def seconds_until_cut(first_byte_seconds: float) -> float:
    """When a stream is cut that begins so late and never ends."""
    loop = asyncio.get_running_loop()
    made = door(stream_answer(TEXT_FRAME, asyncio.Event()), total_timeout_seconds=TOTAL_SECONDS)
    made.upstream.gate = asyncio.Event()
    loop.call_later(first_byte_seconds, made.upstream.gate.set)
    began = loop.time()
    answer = await made.call(STREAM_BODY)
    assert isinstance(answer, StreamingAnswer)
    with suppress(AnswerCut):
        await answer.relay.run(FakeCaller())
    return loop.time() - began


def test_the_time_until_the_first_byte_counts() -> None:
    """The host ends a call by its whole time, so a late stream has less of it left."""
    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        found = [runner.run(seconds_until_cut(seconds)) for seconds in (0.0, 6.0, 9.0)]

    assert [round(seconds, 3) for seconds in found] == [10.0, 10.0, 10.0]
