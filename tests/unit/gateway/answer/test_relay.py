"""The relay's table, row by row: what the caller sees, and the one usage event it makes."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

import pytest

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.estimate import Estimator
from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.opening import Chunks
from meter.gateway.answer.relay import DrainLimits, Drains, Ending, Relays, RelayTimes, StreamRelay
from meter.gateway.stream_failure import StreamFailure
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageSource
from meter.waiting.bypass import Bypass
from tests.fakes.gateway import FakeAnswer, FakeCaller, Part, stream_answer
from tests.support.gateway import DONE_FRAME, TEXT_FRAME, USAGE_FRAME

REPORTED = TokenUsage(prompt_tokens=3, completion_tokens=4, total_tokens=7)
OTHER_TEXT = TEXT_FRAME.replace(b"hi", b"there")
ERROR_FRAME = b'data: {"error":{"code":"500","message":"x"}}\n\n'


@dataclass
class Ends:
    """What was published; `before` is run first, as a slow hub would."""

    ends: list[Ending] = field(default_factory=list)
    before: Callable[[], Awaitable[None]] | None = None

    async def end(self, end: Ending) -> None:
        if self.before is not None:
            await self.before()
        self.ends.append(end)

    @property
    def counted(self) -> list[tuple[Outcome, UsageSource, TokenUsage]]:
        return [(end.outcome, end.usage_source, end.usage) for end in self.ends]


def relay(
    answer: FakeAnswer, ends: Ends, *, hides: bool = False, drains: Drains | None = None
) -> StreamRelay:
    return StreamRelay(
        deadline=asyncio.get_running_loop().time() + 5,
        chunks=answer.chunks(),
        close=answer.close,
        reader=StreamReader(hides_usage=hides),
        shared=Relays(
            drains=drains or Drains(DrainLimits(most=10, seconds=5)),
            times=RelayTimes(write_seconds=0.05, keepalive_seconds=20, total_seconds=5),
            estimator=Estimator(),
            max_frame_bytes=65_536,
        ),
        prompt=lambda: (),
        end=ends.end,
    )


async def test_a_stream_that_ends_is_relayed_whole_and_reported() -> None:
    """Row 1: all of it, byte for byte."""
    answer, caller, ends = stream_answer(TEXT_FRAME, USAGE_FRAME + DONE_FRAME), FakeCaller(), Ends()

    await relay(answer, ends).run(caller)

    assert caller.received == TEXT_FRAME + USAGE_FRAME + DONE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]
    assert answer.times_closed == 1


async def passed(caller: FakeCaller, *parts: Part) -> Ends:
    """A chat stream's ending, its parts passed on where they can be."""
    answer, ends, bypass = stream_answer(*parts), Ends(), Bypass()
    made = relay(answer, ends, hides=True)
    made.reader = StreamReader(hides_usage=True, failure=StreamFailure(has_choices=True))
    made.chunks, made.bypass = Chunks(answer.chunks(bypass), bypass).rest(TEXT_FRAME), bypass
    await made.run(caller)
    return ends


async def test_chunks_that_say_nothing_but_text_take_the_bypass() -> None:
    """All others are the pump's: the first one, which names the model, and what ends the stream."""
    caller = FakeCaller()
    ends = await passed(caller, OTHER_TEXT, TEXT_FRAME, USAGE_FRAME, DONE_FRAME)

    assert caller.puts == [OTHER_TEXT, TEXT_FRAME]
    assert caller.received == TEXT_FRAME + OTHER_TEXT + TEXT_FRAME + DONE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]


async def test_frames_that_come_together_take_the_bypass_together() -> None:
    """The last ones are the pump's, with what ends the stream."""
    caller = FakeCaller()
    ends = await passed(caller, OTHER_TEXT + TEXT_FRAME, OTHER_TEXT + USAGE_FRAME + DONE_FRAME)

    assert caller.puts == [OTHER_TEXT + TEXT_FRAME]
    assert caller.received == TEXT_FRAME + OTHER_TEXT + TEXT_FRAME + OTHER_TEXT + DONE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]


async def test_a_caller_without_room_is_waited_for() -> None:
    """By the pump, which writes the same bytes."""
    caller = FakeCaller(room=iter([False, True]))
    ends = await passed(caller, OTHER_TEXT, TEXT_FRAME, USAGE_FRAME, DONE_FRAME)

    assert caller.puts == [TEXT_FRAME]
    assert caller.received == TEXT_FRAME + OTHER_TEXT + TEXT_FRAME + DONE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]


async def test_what_took_the_bypass_was_said_to_the_caller() -> None:
    """The estimate of a stream that breaks off counts it."""
    caller = FakeCaller()
    with pytest.raises(AnswerCut):
        await passed(caller, OTHER_TEXT, UpstreamBroken("a"))

    assert caller.puts == [OTHER_TEXT]
    assert caller.received.startswith(TEXT_FRAME + OTHER_TEXT + b'data: {"error": ')


async def test_the_usage_frame_we_asked_for_is_read_and_hidden() -> None:
    """The caller gets the stream it would have got without us."""
    answer, caller, ends = stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME), FakeCaller(), Ends()

    await relay(answer, ends, hides=True).run(caller)

    assert caller.received == TEXT_FRAME + DONE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]


async def test_the_closing_frame_is_held_until_the_event_is_safe() -> None:
    """A caller that has seen the end of an answer knows that it is counted."""
    caller, seen = FakeCaller(), []

    async def look() -> None:
        seen.append(caller.received)

    ends = Ends(before=look)
    await relay(stream_answer(TEXT_FRAME + USAGE_FRAME + DONE_FRAME + b": x"), ends).run(caller)

    assert seen == [TEXT_FRAME + USAGE_FRAME]
    assert caller.received == TEXT_FRAME + USAGE_FRAME + DONE_FRAME + b": x"


async def test_an_unfinished_last_frame_is_held_until_the_event_is_safe() -> None:
    """The end of a stream without `[DONE]` is the end of its bytes."""
    caller, seen = FakeCaller(), []

    async def look() -> None:
        seen.append(caller.received)

    ends = Ends(before=look)
    await relay(stream_answer(TEXT_FRAME, USAGE_FRAME.rstrip()), ends).run(caller)

    assert seen == [TEXT_FRAME]
    assert caller.received == TEXT_FRAME + USAGE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]


async def test_a_stream_without_usage_is_missing_not_invented() -> None:
    """It ended as it should, and said nothing of its usage."""
    ends = Ends()
    await relay(stream_answer(TEXT_FRAME, DONE_FRAME), ends).run(FakeCaller())

    assert ends.counted == [(Outcome.SERVED, UsageSource.MISSING, NO_USAGE)]


async def test_an_error_frame_is_relayed_and_the_call_failed() -> None:
    """Row 2: all of it, then a cut, and what had been reported until then."""
    answer, caller, ends = stream_answer(TEXT_FRAME, USAGE_FRAME, ERROR_FRAME), FakeCaller(), Ends()

    with pytest.raises(AnswerCut):
        await relay(answer, ends).run(caller)

    assert caller.received == TEXT_FRAME + USAGE_FRAME + ERROR_FRAME
    assert ends.counted == [(Outcome.FAILED, UsageSource.REPORTED, REPORTED)]


async def test_a_cut_stream_ends_with_an_error_frame_and_a_cut() -> None:
    """Row 3: it never looks like a clean end."""
    answer = stream_answer(TEXT_FRAME, TEXT_FRAME, UpstreamBroken("a"))
    caller, ends = FakeCaller(), Ends()

    with pytest.raises(AnswerCut):
        await relay(answer, ends).run(caller)

    assert caller.received.startswith(TEXT_FRAME + TEXT_FRAME + b'data: {"error": {"message"')
    assert caller.received.endswith(b'"code": "upstream_cut"}}\n\n')
    assert answer.times_closed == 1


async def test_a_frame_that_was_cut_is_left_out() -> None:
    """A parser would take it and the error frame for one, and find no error."""
    answer = stream_answer(TEXT_FRAME, b'data: {"choices":[{"del', UpstreamBroken("a"))
    caller = FakeCaller()

    with pytest.raises(AnswerCut):
        await relay(answer, Ends()).run(caller)

    assert caller.received.startswith(TEXT_FRAME + b'data: {"error": {"message"')


async def test_a_long_frame_that_was_cut_is_ended_first() -> None:
    """Its beginning was relayed as it came, so the error frame begins after a blank line."""
    answer = stream_answer(b"data: " + b"a" * 5_000_000, UpstreamBroken("a"))
    caller = FakeCaller()

    with pytest.raises(AnswerCut):
        await relay(answer, Ends()).run(caller)

    assert b'aaa\n\ndata: {"error": {"message"' in caller.received


async def test_a_cut_stream_is_estimated_from_what_came() -> None:
    """Row 3: about one token a frame, and never called reported."""
    ends = Ends()
    answer = stream_answer(TEXT_FRAME, TEXT_FRAME, UpstreamBroken("a"))
    with pytest.raises(AnswerCut):
        await relay(answer, ends).run(FakeCaller())

    seen = TokenUsage(completion_tokens=2, total_tokens=2)
    assert ends.counted == [(Outcome.FAILED, UsageSource.ESTIMATED, seen)]


async def test_a_cut_stream_counts_the_usage_that_came() -> None:
    """Row 3: as far as known."""
    ends = Ends()
    with pytest.raises(AnswerCut):
        await relay(stream_answer(USAGE_FRAME, UpstreamBroken("a")), ends).run(FakeCaller())

    assert ends.counted == [(Outcome.FAILED, UsageSource.REPORTED, REPORTED)]


async def test_a_cut_after_the_closing_frame_changes_nothing() -> None:
    """The answer was whole by then."""
    answer = stream_answer(USAGE_FRAME, DONE_FRAME, UpstreamBroken("a"))
    caller, ends = FakeCaller(), Ends()

    await relay(answer, ends).run(caller)

    assert caller.received == USAGE_FRAME + DONE_FRAME
    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]


async def test_a_caller_that_leaves_is_counted_from_the_drained_rest() -> None:
    """Row 4: the rest is read for its usage."""
    answer = stream_answer(TEXT_FRAME, TEXT_FRAME, USAGE_FRAME, DONE_FRAME)
    caller, ends, drains = (
        FakeCaller(leaves_after=1),
        Ends(),
        Drains(DrainLimits(most=1, seconds=5)),
    )

    await relay(answer, ends, drains=drains).run(caller)

    assert ends.counted == [(Outcome.DISCONNECTED, UsageSource.REPORTED, REPORTED)]
    assert (answer.times_closed, drains.running) == (1, 0)


@pytest.mark.parametrize(
    ("limits", "running"),
    [
        (DrainLimits(most=0, seconds=5), []),
        (DrainLimits(most=2, seconds=5), ["a", "b"]),
        (DrainLimits(most=4, seconds=5, share_percent=50), ["", ""]),
        (DrainLimits(most=2, seconds=5, share_percent=10), [""]),
    ],
    ids=["none", "all", "share", "least share"],
)
async def test_a_caller_that_leaves_is_estimated_when_there_is_no_drain(
    limits: DrainLimits, running: list[str]
) -> None:
    """Row 5: set to cancel, or as many drains as are allowed run already, or its subject's share."""
    drains = Drains(limits)
    assert [drains.quota.holding(subject).grow(1) for subject in running] == [None] * len(running)
    answer = stream_answer(TEXT_FRAME, TEXT_FRAME, USAGE_FRAME, DONE_FRAME)
    ends = Ends()

    await relay(answer, ends, drains=drains).run(FakeCaller(leaves_after=1))

    seen = TokenUsage(completion_tokens=2, total_tokens=2)
    assert ends.counted == [(Outcome.DISCONNECTED, UsageSource.ESTIMATED, seen)]
    assert (answer.parts_read, answer.times_closed) == (2, 1)


@pytest.mark.parametrize("last", [asyncio.Event(), UpstreamBroken("a")], ids=["hangs", "cut"])
async def test_a_drain_ends_in_bounded_time(last: Part) -> None:
    """What is known by then is what is counted."""
    answer = stream_answer(TEXT_FRAME, TEXT_FRAME, last)
    ends, drains = Ends(), Drains(DrainLimits(most=1, seconds=0.02))

    await relay(answer, ends, drains=drains).run(FakeCaller(leaves_after=0))

    seen = TokenUsage(completion_tokens=2, total_tokens=2)
    assert ends.counted == [(Outcome.DISCONNECTED, UsageSource.ESTIMATED, seen)]
    assert (answer.times_closed, drains.running) == (1, 0)


async def test_a_caller_that_leaves_with_the_answer_complete_was_served() -> None:
    """The closing frame was here before the caller was found gone."""
    answer, ends = stream_answer(TEXT_FRAME + USAGE_FRAME + DONE_FRAME), Ends()

    await relay(answer, ends).run(FakeCaller(leaves_after=1))

    assert ends.counted == [(Outcome.SERVED, UsageSource.REPORTED, REPORTED)]
    assert answer.times_closed == 1


@pytest.mark.parametrize("parts_before", [[], [TEXT_FRAME], [TEXT_FRAME, USAGE_FRAME]])
async def test_a_cancelled_relay_is_counted_once(parts_before: list[bytes]) -> None:
    """A worker that shuts down counts what it knows."""
    answer, ends = stream_answer(*parts_before, asyncio.Event()), Ends()
    task = asyncio.create_task(relay(answer, ends).run(FakeCaller()))
    await answer.is_waiting.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [end.outcome for end in ends.ends] == [Outcome.FAILED]
    assert answer.times_closed == 1


async def test_an_answer_that_cannot_be_closed_is_counted() -> None:
    """Whatever happens to the connection, the event comes."""

    class Stuck(FakeAnswer):
        async def close(self) -> None:
            raise ConnectionError

    ends = Ends()
    with pytest.raises(ConnectionError):
        await relay(Stuck(200, (), [TEXT_FRAME, UpstreamBroken("a")]), ends).run(FakeCaller())

    assert [end.outcome for end in ends.ends] == [Outcome.FAILED]


async def test_a_drain_that_is_cancelled_gives_its_place_back() -> None:
    """And its call is counted."""
    answer, ends = stream_answer(TEXT_FRAME, asyncio.Event()), Ends()
    drains = Drains(DrainLimits(most=1, seconds=5))
    task = asyncio.create_task(relay(answer, ends, drains=drains).run(FakeCaller(leaves_after=0)))
    await answer.is_waiting.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (drains.running, len(ends.ends), answer.times_closed) == (0, 1, 1)


async def test_an_empty_stream_is_counted_once() -> None:
    """It reached a backend."""
    ends = Ends()
    await relay(stream_answer(), ends).run(FakeCaller())

    assert ends.counted == [(Outcome.SERVED, UsageSource.MISSING, NO_USAGE)]


class SlowAnswer(FakeAnswer):
    """An answer that is silent before each of its parts."""

    async def chunks(self, bypass: Bypass | None = None) -> AsyncIterator[bytes]:
        async for chunk in super().chunks(bypass):
            await asyncio.sleep(0.05)
            yield chunk


async def test_long_silences_are_broken_by_comments() -> None:
    """Azure cuts connections that are idle; clients skip comments, and the frames stay whole."""
    answer = SlowAnswer(200, (), (TEXT_FRAME, USAGE_FRAME + DONE_FRAME))
    made, caller = relay(answer, Ends()), FakeCaller()
    made.shared.times = RelayTimes(write_seconds=1, keepalive_seconds=0.01, total_seconds=5)
    await made.run(caller)

    assert caller.received.startswith(b": keep-alive\n\n")
    assert b"\n\n: keep-alive\n\n" in caller.received
    frames = caller.received.replace(b": keep-alive\n\n", b"")
    assert frames == TEXT_FRAME + USAGE_FRAME + DONE_FRAME
