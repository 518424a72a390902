"""Answers that are odd, broken or hostile: nothing raises, nothing is lost, nothing is invented."""

import asyncio
import json

import pytest

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.estimate import Estimator
from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.relay import DrainLimits, Drains, Ending, Relays, RelayTimes, StreamRelay
from meter.gateway.answer.sse import FrameCutter, PieceKind
from meter.usage import Outcome, UsageSource, encode_event
from tests.fakes.gateway import FakeAnswer, FakeCaller, json_answer, stream_answer
from tests.support.gateway import DONE_FRAME, SERVED, TEXT_FRAME, USAGE_FRAME, door


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e999"])
async def test_an_event_is_json_whatever_a_backend_says(number: bytes) -> None:
    """Python reads and writes NaN and Infinity, which JSON does not have."""
    made = door(json_answer(200, b'{"usage":{"total_tokens":7,"cost":' + number + b"}}"))
    await made.call()

    document = json.loads(encode_event(made.sink.events[0]), parse_constant=pytest.fail)
    assert document["data"]["usage"]["total_tokens"] == 7
    assert document["data"]["usage_raw"] is None


@pytest.mark.parametrize(
    "usage",
    [
        rb'{"prompt_tokens":3,"completion_tokens":4,"\ud800":1}',
        rb'{"prompt_tokens":3,"completion_tokens":4,"prompt_tokens_details":{"\ud800":1}}',
    ],
)
async def test_usage_with_a_name_that_is_no_text_is_counted(usage: bytes) -> None:
    """JSON can write half of a surrogate pair, which UTF-8 cannot."""
    body = b'{"usage":' + usage + b"}"
    made = door(json_answer(200, body))
    answer = await made.answer()

    document = json.loads(encode_event(made.sink.events[0]))
    assert (answer.status, answer.body) == (200, body)
    assert document["data"]["outcome"] == "served"
    assert document["data"]["usage_source"] == "reported"
    assert document["data"]["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 4,
        "total_tokens": 7,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
    }


async def test_usage_that_is_too_long_goes_without_its_raw_form() -> None:
    """Neither the hub nor a table row could hold it."""
    body = json.dumps({"usage": {"total_tokens": 7, "x": "y" * 1_500_000}}).encode()
    made = door(json_answer(200, body))
    await made.call()

    assert len(encode_event(made.sink.events[0])) < 32_768


@pytest.mark.parametrize("value", ["caf\u00e9 \u2603", "bad\udce9byte", "bell\x07", "tab\there"])
async def test_a_backend_header_of_odd_bytes_is_left_out(value: str) -> None:
    """The Functions host answers 500 for a value that is not printable ASCII."""
    answer = await door(json_answer(200, SERVED, ("openai-note", value))).answer()

    assert (answer.status, answer.body) == (200, SERVED)
    assert "openai-note" not in dict(answer.headers)


async def test_an_event_stream_of_nothing_goes_to_the_next_backend() -> None:
    """200 without a byte: the caller has none yet, so another backend may serve."""
    made = door(stream_answer())
    answer = await made.call(b'{"stream":true}')

    assert answer.status == 502
    assert made.sink.events[0].outcome is Outcome.FAILED


@pytest.mark.parametrize(
    "data", [b'{"type":[],"error":{}}', b'{"type":{},"usage":{"total_tokens":1}}']
)
def test_an_odd_type_never_raises(data: bytes) -> None:
    """A frame's members can be of any type."""
    frame = b"data: " + data + b"\n\n"

    assert StreamReader().feed(frame) == frame


def test_usage_beside_a_null_usage_is_read() -> None:
    """A choice may say `usage: null` in the very frame that reports usage."""
    reader = StreamReader()
    reader.feed(b'data: {"choices":[{"delta":{},"usage":null}],"usage":{"total_tokens":7}}\n\n')

    assert reader.reading.usage is not None


def test_a_closing_frame_with_a_large_output_is_metered_and_held() -> None:
    """`response.completed` repeats the whole output, images included."""
    response = {"output": [{"result": "A" * 1_500_000}], "usage": {"total_tokens": 7}}
    data = json.dumps({"type": "response.completed", "response": response}).encode()
    stream = b"event: response.completed\ndata: " + data + b"\n\n"
    reader = StreamReader()
    relayed = b"".join(
        reader.feed(stream[at : at + 65_536]) for at in range(0, len(stream), 65_536)
    )

    assert relayed == b""
    assert reader.is_complete
    assert reader.reading.usage is not None
    assert reader.take_held() == stream


def test_a_frame_over_the_limit_is_oversize_whatever_the_split() -> None:
    """Whether a frame is read must not depend on how it arrived."""
    stream = b"data: " + b"x" * 40 + b"\n\n"
    whole, split = FrameCutter(max_frame_bytes=16), FrameCutter(max_frame_bytes=16)
    at_once = whole.feed(stream)
    byte_by_byte = [piece for byte in stream for piece in split.feed(bytes([byte]))]

    assert at_once[-1].kind is byte_by_byte[-1].kind is PieceKind.OVERSIZE_END
    assert {piece.kind for piece in byte_by_byte[:-1]} == {PieceKind.OVERSIZE}


def test_an_empty_chunk_changes_nothing() -> None:
    """The LF belongs to the frame before, also when an empty chunk comes first."""
    cutter = FrameCutter()
    pieces = [piece for chunk in (b"data: x\r\n\r", b"", b"\n") for piece in cutter.feed(chunk)]

    assert [piece.kind for piece in pieces] == [PieceKind.FRAME, PieceKind.TRAILING_LF]


def _relay(answer: FakeAnswer, ends: list[Ending], gate: asyncio.Event | None) -> StreamRelay:
    async def finish(end: Ending) -> None:
        if gate is not None:
            await gate.wait()
        ends.append(end)

    return StreamRelay(
        deadline=asyncio.get_running_loop().time() + 5,
        chunks=answer.chunks(),
        close=answer.close,
        reader=StreamReader(),
        shared=Relays(
            drains=Drains(DrainLimits(most=1, seconds=5)),
            times=RelayTimes(write_seconds=0.05, keepalive_seconds=20, total_seconds=5),
            estimator=Estimator(),
            max_frame_bytes=65_536,
        ),
        prompt=lambda: (),
        end=finish,
    )


async def test_usage_in_an_unfinished_last_frame_counts_after_a_cut() -> None:
    """What is known is counted, also when the blank line never came."""
    ends: list[Ending] = []
    answer = stream_answer(USAGE_FRAME.rstrip(), UpstreamBroken("a"))
    with pytest.raises(AnswerCut):
        await _relay(answer, ends, None).run(FakeCaller())

    assert ends[0].usage_source is UsageSource.REPORTED


async def test_usage_in_an_unfinished_last_frame_counts_after_a_drain() -> None:
    """The same stream is reported when the caller stays."""
    ends: list[Ending] = []
    answer = stream_answer(TEXT_FRAME, TEXT_FRAME, USAGE_FRAME.rstrip())
    await _relay(answer, ends, None).run(FakeCaller(leaves_after=1))

    assert ends[0].usage_source is UsageSource.REPORTED


async def test_a_relay_cancelled_while_it_publishes_still_publishes() -> None:
    """Whoever ends the relay must not take the usage event with it."""
    ends: list[Ending] = []
    gate = asyncio.Event()
    task = asyncio.create_task(
        _relay(stream_answer(USAGE_FRAME, DONE_FRAME), ends, gate).run(FakeCaller())
    )
    await asyncio.sleep(0)
    task.cancel()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert [end.usage_source for end in ends] == [UsageSource.REPORTED]


async def test_a_caller_that_does_not_read_is_taken_for_gone() -> None:
    """Its stream is drained and counted like any other that was left."""

    class Stuck:
        put = None

        async def write(self, data: bytes) -> None:
            await asyncio.Event().wait()

    ends: list[Ending] = []
    await _relay(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME), ends, None).run(Stuck())

    assert [(end.outcome, end.usage_source) for end in ends] == [
        (Outcome.DISCONNECTED, UsageSource.REPORTED)
    ]


async def test_only_pieces_of_the_answer_are_estimated_as_tokens() -> None:
    """A Responses stream has many frames that carry no text of their own."""
    answer = stream_answer(
        b'data: {"type":"response.created","response":{"text":{"format":{"type":"text"}}}}\n\n',
        b'data: {"type":"response.content_part.added","part":{"type":"output_text"}}\n\n',
        b'data: {"type":"response.output_text.delta","delta":"hi"}\n\n',
        b'data: {"type":"response.output_text.done","text":"hi"}\n\n',
        UpstreamBroken("a"),
    )
    ends: list[Ending] = []
    with pytest.raises(AnswerCut):
        await _relay(answer, ends, None).run(FakeCaller())

    assert ends[0].usage.completion_tokens == 1
