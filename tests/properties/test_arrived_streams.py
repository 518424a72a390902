"""A stream that is read in one look says the same as one that is read frame by frame."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import AnswerCut
from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.reading.arrived import read_arrived
from meter.gateway.http import Answer
from meter.usage import UsageEvent
from tests.fakes.gateway import FakeCaller, stream_answer
from tests.properties.test_plain_frames import (
    CHUNKS,
    ERRORS,
    FAILURES,
    MODELS,
    OF_CHAT,
    TIERS,
    USAGES,
    Frame,
    changed,
)
from tests.support.gateway import STREAM_BODY, door

DONE = Frame("[DONE]")
FILTERS = Frame({"choices": [], "model": "", "prompt_filter_results": [{"prompt_index": 0}]})
TEXT = {"choices": [{"index": 0, "delta": {"content": "a"}, "finish_reason": None}], "model": "m"}
PLAIN = st.one_of(st.just(TEXT), st.just({**TEXT, "usage": None}), CHUNKS).map(Frame)
REPORTS = Frame(
    {"choices": [], "model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 4}}
)
USAGE = changed(
    {"choices": [], "model": "gpt-4o", "usage": {"prompt_tokens": 3, "completion_tokens": 4}},
    usage=st.one_of(USAGES, st.just({"prompt_tokens": 2, "total_tokens": 2, "more": [1, {}]})),
    choices=st.sampled_from([[{"index": 0, "delta": {}, "finish_reason": "stop"}], None, {}]),
    model=MODELS,
    service_tier=TIERS,
    obfuscation=st.just("aB3"),
    error=ERRORS,
    type=st.sampled_from(["chunk", "response.completed"]),
    output=st.sampled_from([None, [], [{"type": "web_search_call"}]]),
    data=st.sampled_from([None, [{}]]),
    tool_usage=st.sampled_from([None, {}]),
    duration=st.just(3),
).map(Frame)


@st.composite
def streams(draw: st.DrawFn) -> list[bytes]:
    """The frames of a stream of chat: mostly an ordinary one, with one tier, in which something is out of
    order or odd.
    """
    tier = draw(st.sampled_from([{}, {}, {"service_tier": "default"}]))
    frames = [draw(PLAIN) for _ in range(draw(st.integers(0, 4)))]
    ordinary = [FILTERS, *frames, draw(st.one_of(st.just(REPORTS), USAGE))]
    tiered = [
        Frame({**tier, **frame.document}) if isinstance(frame.document, dict) else frame
        for frame in ordinary
    ]
    written = [frame.written(" ") for frame in [*tiered, DONE]]
    odd = draw(st.sampled_from(["", "", "", "frame", "comment", "order", "end"]))
    at = draw(st.integers(0, len(written)))
    match odd:
        case "frame":
            written.insert(at, draw(OF_CHAT).written(draw(st.sampled_from([" ", ""]))))
        case "comment":
            written.insert(
                at, draw(st.sampled_from([b": ping\n\n", b"\n", b"event: x\n", b"id: 1\n\n"]))
            )
        case "order":
            written = draw(st.permutations(written))
        case "end":
            written = [*written[:at]]
    return written


def split(stream: bytes, cuts: Sequence[int]) -> list[bytes]:
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    return [stream[a:b] for a, b in pairwise(places)]


@given(
    streams(),
    st.lists(st.integers(0, 900), max_size=6),
    st.booleans(),
    st.sampled_from(sorted(FAILURES)),
)
@settings(max_examples=600)
def test_one_look_says_what_frame_by_frame_says(
    frames: list[bytes], cuts: list[int], hides: bool, api: str
) -> None:
    """Bytes, usage, model, tier: where a stream is read in one look, however it would have been split."""
    stream = b"".join(frames)
    arrived = read_arrived(stream, hides_usage=hides)
    if arrived is None:
        return
    reader = StreamReader(hides_usage=hides, failure=FAILURES[api]())
    relayed = b"".join([reader.feed(chunk) for chunk in split(stream, cuts)]) + reader.take_rest()

    assert (arrived.relayed, arrived.reading) == (relayed, reader.reading)
    assert arrived.usage == reader.reading.usage
    assert (reader.error, reader.is_complete, reader.is_cut_short) == (None, True, False)


async def answered(stream: bytes, *, has_arrived: bool) -> tuple[object, list[UsageEvent]]:
    """What a caller gets of a stream, and the events."""
    source = stream_answer(stream)
    source.has_arrived = has_arrived
    made = door(source)
    answer = await made.call(STREAM_BODY)
    assert made.is_idle or not isinstance(answer, Answer)
    if isinstance(answer, Answer):
        return (answer.status, answer.headers, answer.body), made.sink.events
    caller, is_cut = FakeCaller(), False
    try:
        await answer.relay.run(caller)
    except AnswerCut:
        is_cut = True
    assert made.is_idle
    got = caller.received if not is_cut else (caller.received, "cut")
    return (answer.status, answer.headers, got), made.sink.events


@given(streams())
@settings(max_examples=200, deadline=None)
def test_a_stream_that_has_arrived_is_answered_as_one_that_arrives(frames: list[bytes]) -> None:
    """The same status, headers and bytes for the caller, and the same event."""

    async def both() -> tuple[object, object]:
        stream = b"".join(frames)
        return await answered(stream, has_arrived=True), await answered(stream, has_arrived=False)

    arrived, relayed = asyncio.run(both())

    assert arrived == relayed
