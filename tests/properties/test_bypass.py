"""Whatever takes the bypass, the caller gets the same bytes and the event counts the same tokens."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import cycle, repeat

from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.http import StreamingAnswer
from meter.usage import Outcome, TokenUsage, UsageSource
from tests.fakes.gateway import FakeCaller, Part, stream_answer
from tests.support.gateway import DONE_FRAME, TEXT_FRAME, USAGE_FRAME, door

CHAT, RESPONSES = "/openai/v1/chat/completions", "/openai/v1/responses"
BODY = b'{"model":"gpt-4o","stream":true,"messages":[],"input":"x"}'
SAID = [TEXT_FRAME.replace(b"hi", word) for word in (b"a", b"two words", rb"\"usage\"", b"usage")]
FINISH = TEXT_FRAME.replace(b'"choices":[{', b'"choices":[{"finish_reason":"stop",')
ERROR = b'data: {"error":{"code":"500","message":"x"}}\n\n'
CREATED = (
    b'event: response.created\ndata: {"type":"response.created","response":{"id":"resp_1"}}\n\n'
)
DELTAS = [
    b'event: response.output_text.delta\ndata: {"type":"response.output_text.delta",'
    b'"sequence_number":%d,"delta":"%b"}\n\n' % (number, word)
    for number, word in enumerate((b"a", rb"\"encrypted_content\":\"x\"", b".done"))
]
ENDED = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1",'
    b'"usage":{"input_tokens":3,"output_tokens":4,"total_tokens":7}}}\n\n'
)


@dataclass(frozen=True)
class Sent:
    """A backend's stream in parts, and how often its caller has room."""

    path: str
    parts: Sequence[Part]
    room: Sequence[bool]
    leaves_after: int | None


@st.composite
def streams(draw: st.DrawFn) -> Sent:
    """Frames by themselves, some cut in two or joined; ended or broken off."""
    if draw(st.booleans()):
        path, frames = (
            CHAT,
            draw(st.lists(st.sampled_from([*SAID, USAGE_FRAME, ERROR, b": c\n\n"]))),
        )
        frames += draw(st.sampled_from([[], [FINISH], [FINISH, USAGE_FRAME, DONE_FRAME]]))
    else:
        path, frames = RESPONSES, [CREATED, *draw(st.lists(st.sampled_from(DELTAS)))]
        frames += draw(st.sampled_from([[], [ENDED]]))
    parts: list[Part] = []
    for frame in frames:
        cut = draw(st.sampled_from([0, 0, 0, len(frame) // 2, len(frame) - 1]))
        parts += [frame[:cut], frame[cut:]] if cut else [frame]
    parts += draw(st.sampled_from([[], [UpstreamBroken("a")]]))
    return Sent(
        path,
        parts,
        room=draw(st.lists(st.booleans(), min_size=1)),
        leaves_after=draw(st.one_of(st.none(), st.integers(0, 8))),
    )


type Counted = list[tuple[Outcome, UsageSource, TokenUsage, str | None]]


async def relayed(sent: Sent, room: Iterator[bool]) -> tuple[bytes, bool, Counted] | None:
    """What the caller got, whether it was cut, and what was counted; None if nothing was streamed."""
    made = door(stream_answer(*sent.parts))
    answer = await made.call(BODY, path=sent.path, query="")
    if not isinstance(answer, StreamingAnswer):
        return None
    caller, is_cut = FakeCaller(leaves_after=sent.leaves_after, room=room), False
    try:
        await answer.relay.run(caller)
    except AnswerCut:
        is_cut = True
    events = [(e.outcome, e.usage_source, e.usage, e.model) for e in made.sink.events]
    return caller.received, is_cut, events


@settings(max_examples=200)
@given(streams())
def test_a_bypass_changes_nothing(sent: Sent) -> None:
    """Not for a caller that leaves, not for a stream that breaks off, wherever the parts are cut."""
    through = asyncio.run(relayed(sent, repeat(False)))

    assert asyncio.run(relayed(sent, cycle(sent.room))) == through
    assert asyncio.run(relayed(sent, repeat(True))) == through
