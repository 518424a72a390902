"""Frames that are too long to hold: relayed as they come, and still read where it matters."""

import asyncio
import json

import pytest

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.answer.follow import StreamReader
from meter.gateway.answer.reading.byte_reader import ByteReader
from meter.gateway.http import StreamingAnswer
from meter.usage import Outcome, UsageSource
from tests.fakes.gateway import FakeCaller, FakeSink, Part, stream_answer
from tests.support.gateway import STREAM_BODY, V1_RESPONSES_PATH, Door, door

MOST = 1_000
USAGE = {"input_tokens": 2, "output_tokens": 3, "total_tokens": 5}
LOOK_ALIKE = {"usage": {"total_tokens": 0}}
ENDS = [b"\n\n", b"\r\n\r\n", b"\r\r"]

HELLO = b'data: {"type":"response.output_text.delta","delta":""}\n\n'


def closing(kind: str = "response.completed", *, event: bool = True, **more: object) -> bytes:
    """A Responses stream's closing frame without its end; it repeats the whole output."""
    response = {"id": "resp_1", "model": "o3", "output": ["A" * 3 * MOST], "usage": USAGE, **more}
    line = b"event: %b\n" % kind.encode() if event else b""
    return line + b"data: " + json.dumps({"type": kind, "response": response}).encode()


def typed(kind: str) -> bytes:
    """A closing frame that carries its usage itself."""
    return (
        b"data: " + json.dumps({"type": kind, "b64_json": "A" * 3 * MOST, "usage": USAGE}).encode()
    )


def chunks(stream: bytes, size: int) -> list[bytes]:
    return [stream[at : at + size] for at in range(0, len(stream), size)]


def read(stream: bytes, *, size: int = 97) -> tuple[StreamReader, bytes]:
    reader = StreamReader(max_frame_bytes=MOST)
    relayed = b"".join([reader.feed(chunk) for chunk in chunks(stream, size)])
    return reader, relayed


async def relayed(made: Door, caller: FakeCaller) -> None:
    answer = await made.call(STREAM_BODY, path=V1_RESPONSES_PATH)
    assert isinstance(answer, StreamingAnswer)
    await answer.relay.run(caller)


@pytest.mark.parametrize("end", ENDS, ids=repr)
@pytest.mark.parametrize("size", [1, 7, 997, 100_000])
@pytest.mark.parametrize(
    "frame",
    [
        closing(),
        closing(event=False),
        closing("response.incomplete"),
        closing("response.failed"),
        typed("image_generation.completed"),
        typed("image_edit.completed"),
        typed("transcript.text.done"),
        typed("speech.audio.done"),
    ],
    ids=lambda frame: frame[:50].decode(),
)
def test_a_long_closing_frame_gives_its_usage_and_closes(
    frame: bytes, size: int, end: bytes
) -> None:
    """Whatever the split: its end is held, all before it is relayed, and nothing is lost."""
    reader, sent = read(frame + end, size=size)

    assert reader.is_complete
    assert reader.reading.reported == USAGE
    assert reader.has_error is (b"response.failed" in frame)
    assert sent + reader.take_held() + reader.take_rest() == frame + end
    assert len(sent) < len(frame + end)


@pytest.mark.parametrize(
    "kind",
    [
        "image_generation.completed",
        "image_edit.completed",
        "transcript.text.done",
        "speech.audio.done",
    ],
)
def test_a_short_closing_frame_is_known_by_its_type(kind: str) -> None:
    """Streams of images and audio have no `[DONE]`."""
    frame = b"data: " + json.dumps({"type": kind, "usage": USAGE}).encode() + b"\n\n"
    reader, sent = read(frame)

    assert (sent, reader.is_complete, reader.reading.reported) == (b"", True, USAGE)


@pytest.mark.parametrize(
    "kind",
    [
        "image_generation.partial_image",
        "speech.audio.delta",
        "transcript.text.delta",
        "response.image_generation_call.partial_image",
    ],
)
def test_other_long_frames_close_nothing(kind: str) -> None:
    """A partial image is as long as the last one."""
    reader, _ = read(typed(kind).replace(b'"usage"', b'"x"') + b"\n\n")

    assert (reader.is_complete, reader.reading.reported) == (False, None)


@pytest.mark.parametrize("kind", [{}, {"type": None}, {"object": "chat.completion.chunk"}])
def test_the_usage_of_a_long_frame_without_a_type_is_read(kind: dict[str, object]) -> None:
    """Chat completions have none; `[DONE]` closes them."""
    document = {**kind, "choices": [{"delta": {"content": "A" * 3 * MOST}}], "usage": USAGE}
    reader, _ = read(b"data: " + json.dumps(document).encode() + b"\n\n")

    assert (reader.is_complete, reader.reading.reported) == (False, USAGE)


def test_a_look_alike_in_a_long_closing_frame_is_not_read() -> None:
    """The caller's own tools are repeated there: it must not choose what it is charged with."""
    for frame in (
        closing(tools=[LOOK_ALIKE], metadata=LOOK_ALIKE),
        closing(tools=[{"type": "response.failed"}]),
    ):
        reader, _ = read(frame + b"\n\n")

        assert (reader.reading.reported, reader.has_error) == (USAGE, False)


METADATA = {f"key-{n}": "\u0438" * 512 for n in range(32)}  # 98 KB as `\uXXXX`


@pytest.mark.parametrize("size", [97, 65_536])
@pytest.mark.parametrize(
    "behind",
    [METADATA, {"x": '"\\' * 50_000}, {"x": [{"usage": {"total_tokens": 0}}] * 2_000}],
    ids=["escaped letters", "escaped quotes", "look-alikes"],
)
def test_usage_is_found_however_much_stands_behind_it(behind: object, size: int) -> None:
    """Callers choose what a response repeats of them."""
    reader, _ = read(closing(metadata=behind) + b"\n\n", size=size)
    document = json.dumps({"usage": USAGE, "data": "A" * 9 * MOST, "x": behind}).encode()
    long = ByteReader(reports_usage=True)
    for chunk in chunks(document, size):
        long.feed(chunk)

    assert reader.reading.reported == long.reading.reported == USAGE
    assert len(long._members._text) < 70_000


def test_the_frame_after_a_long_one_is_read_anew() -> None:
    """Nothing of a long frame is taken for the next one's."""
    partial = typed("image_generation.partial_image") + b"\n\n"
    done = b'data: {"type":"image_generation.completed","usage":{"total_tokens":9}}\n\n'
    reader, _ = read(partial + partial + done)

    assert (reader.is_complete, reader.reading.reported) == (True, {"total_tokens": 9})


@pytest.mark.parametrize("line", [b"data: ", b": ", b"\x00"])
def test_an_endless_line_does_not_grow_memory(line: bytes) -> None:
    """It is let through as it comes."""
    reader = StreamReader(max_frame_bytes=MOST)
    reader.feed(line)
    for _ in range(1_000):
        reader.feed(b"A" * 10_000)

    assert reader._oversize is not None
    kept = len(reader._cutter._buffer) + len(reader._oversize._text) + len(reader._oversize_head)
    assert kept < 70_000
    assert not reader.take_held()


def test_no_comment_is_put_into_a_long_frame() -> None:
    """It would become a part of the frame."""
    reader = StreamReader(max_frame_bytes=MOST)
    reader.feed(b"data: " + b"A" * 2 * MOST)
    inside = reader.takes_comments
    reader.feed(b"\n\n")

    assert (inside, reader.takes_comments) == (False, True)


async def test_a_long_closing_frame_is_held_until_its_event_is_safe() -> None:
    """At least its end: nobody has a whole stream that is not counted."""
    frame = closing() + b"\n\n"
    source = stream_answer(HELLO, *chunks(frame, 100))
    caller, seen = FakeCaller(), []

    class Looking(FakeSink):
        async def publish(self, event: object) -> None:
            seen.append(caller.received)

    made = door(source, sink=Looking(), max_frame_bytes=MOST)
    await relayed(made, caller)

    assert caller.received == HELLO + frame
    assert [0 < len(caller.received) - len(before) < 200 for before in seen] == [True]
    assert made.is_idle


@pytest.mark.parametrize("size", [100, 100_000])
async def test_a_long_closing_frame_without_a_blank_line_counts(size: int) -> None:
    """The end of the stream ends it too, and the caller gets the line that clients wait for."""
    made = door(stream_answer(*chunks(closing(), size)), max_frame_bytes=MOST)
    caller = FakeCaller()
    await relayed(made, caller)

    event = made.sink.events[0]
    assert (event.usage.total_tokens, event.outcome) == (5, Outcome.SERVED)
    assert caller.received == closing() + b"\n\n"


CUTS: dict[str, list[Part]] = {
    "long": [*chunks(closing(), 500)],
    "short": [b'data: {"type":"response.completed","response":{"usage":{"total_tokens":5}}}'],
    "done": [b"data: [DONE]"],
}


@pytest.mark.parametrize("parts", CUTS.values(), ids=list(CUTS))
async def test_a_closing_frame_that_is_cut_is_no_clean_end(parts: list[Part]) -> None:
    """Its blank line never came, so the caller's parser does not have it: an error frame, a cut."""
    made = door(stream_answer(HELLO, *parts, UpstreamBroken("a")), max_frame_bytes=MOST)
    caller = FakeCaller()

    with pytest.raises(AnswerCut):
        await relayed(made, caller)

    assert b'"code": "upstream_cut"' in caller.received
    event = made.sink.events[0]
    assert event.outcome is Outcome.FAILED
    if parts != CUTS["done"]:
        assert (event.usage.total_tokens, event.usage_source) == (5, UsageSource.REPORTED)


async def test_a_stream_that_stays_open_after_its_end_is_whole() -> None:
    """A backend that does not close: the caller has had the closing frame, and no error follows."""
    frame = b'data: {"type":"response.completed","response":{"usage":{"total_tokens":5}}}\n\n'
    made = door(stream_answer(frame, asyncio.Event()), total_timeout_seconds=0.05)
    caller = FakeCaller()

    await relayed(made, caller)

    assert (caller.received, made.sink.events[0].outcome) == (frame, Outcome.SERVED)
