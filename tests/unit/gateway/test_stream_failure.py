"""An event stream that cannot be finished says so in its API's own form, and never ends cleanly."""

import json
from typing import Any

import pytest

from meter.errors import AnswerCut, UpstreamBroken
from meter.gateway.http import StreamingAnswer, error_document
from meter.gateway.stream_failure import StreamFailure
from meter.usage import Outcome
from tests.fakes.gateway import FakeCaller, Part, stream_answer
from tests.support.gateway import DONE_FRAME, TEXT_FRAME, USAGE_FRAME, Door, door

RESPONSES = b'{"model":"gpt","input":"x","stream":true}'
ERROR = error_document("Too much.", code="too_much")
FINISHED = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n'
ERROR_FRAME = b'data: {"error":{"code":"server_error","message":"x"}}\n\n'


def responses_frame(kind: str, number: int, **members: object) -> bytes:
    data = {"type": kind, "sequence_number": number, **members}
    return b"event: %b\ndata: %b\n\n" % (kind.encode(), json.dumps(data).encode())


CREATED = responses_frame(
    "response.created",
    0,
    response={
        "id": "resp_1",
        "object": "response",
        "created_at": 5,
        "model": "gpt-5",
        "instructions": "long",
        "status": "in_progress",
    },
)
DELTA = responses_frame("response.output_text.delta", 41, delta='"sequence_number":7')
FAILED = responses_frame(
    "response.failed", 42, response={"id": "resp_1", "error": {"code": "x", "message": "y"}}
)
COMPLETED = responses_frame(
    "response.completed", 42, response={"id": "resp_1", "usage": {"input_tokens": 1}}
)


async def relayed(*parts: Part, is_response: bool) -> tuple[bytes, bool, Door]:
    """What the caller got, and whether it ended in a cut."""
    made = door(stream_answer(*parts))
    answer = await (
        made.call(path="/openai/v1/responses", body=RESPONSES) if is_response else made.stream()
    )
    assert isinstance(answer, StreamingAnswer)
    caller = FakeCaller()
    try:
        await answer.relay.run(caller)
    except AnswerCut:
        return caller.received, True, made
    return caller.received, False, made


def last_event(received: bytes) -> tuple[str, Any]:
    name, data = received.rstrip(b"\n").rsplit(b"\n\n", 1)[-1].split(b"\n")
    return name.decode(), json.loads(data.removeprefix(b"data: "))


async def test_a_responses_stream_fails_with_its_own_event() -> None:
    """The id and what else was seen of the response, code and message, the next sequence number."""
    received, is_cut, made = await relayed(CREATED, DELTA, UpstreamBroken("a"), is_response=True)

    name, event = last_event(received)
    assert is_cut
    assert received.startswith(CREATED + DELTA)
    assert name == "event: response.failed"
    assert event == {
        "type": "response.failed",
        "sequence_number": 42,
        "response": {
            "id": "resp_1",
            "object": "response",
            "created_at": 5,
            "model": "gpt-5",
            "status": "failed",
            "error": {
                "code": "upstream_cut",
                "message": "The answer was broken off: the backend closed it, or the call took too long.",
            },
            "incomplete_details": None,
            "output": [],
            "usage": None,
        },
    }
    assert made.sink.events[0].outcome is Outcome.FAILED


def test_a_response_of_which_nothing_was_seen_has_the_id_it_is_given() -> None:
    """And the first number."""
    frame = StreamFailure(response_id="resp_0").event(ERROR)

    _, event = last_event(b"\n\n" + frame)
    assert event["sequence_number"] == 0
    assert event["response"]["id"] == "resp_0"
    assert event["response"]["error"] == {"code": "too_much", "message": "Too much."}


@pytest.mark.parametrize(
    "data", [b"no JSON", b"[]", b'{"sequence_number":true}', b'{"response":5}']
)
def test_odd_frames_do_not_hinder_it(data: bytes) -> None:
    """Whatever the backend sent."""
    failure = StreamFailure(response_id="resp_0")
    failure.note(data, is_named=True)

    _, event = last_event(b"\n\n" + failure.event({"error": "odd"}))

    assert (event["sequence_number"], event["response"]["id"]) == (0, "resp_0")
    assert event["response"]["error"]["code"] == "server_error"


@pytest.mark.parametrize("is_broken", [False, True], ids=["ended", "broken"])
@pytest.mark.parametrize(
    "parts",
    [
        [TEXT_FRAME, ERROR_FRAME],
        [TEXT_FRAME, ERROR_FRAME, DONE_FRAME],
        [TEXT_FRAME, b'event: error\ndata: {"message":"x"}\n\n'],
    ],
)
async def test_a_backends_own_error_is_relayed_and_then_cut(
    parts: list[Part], is_broken: bool
) -> None:
    """A clean end behind it is silent in .NET's SDKs. It is told once."""
    broken = [UpstreamBroken("a")] if is_broken and parts[-1] != DONE_FRAME else []
    received, is_cut, made = await relayed(*parts, *broken, is_response=False)

    assert (received, is_cut) == (b"".join(p for p in parts if isinstance(p, bytes)), True)
    assert made.sink.events[0].outcome is Outcome.FAILED


@pytest.mark.parametrize("is_broken", [False, True], ids=["ended", "broken"])
@pytest.mark.parametrize(
    ("error", "code", "number"),
    [
        (responses_frame("error", 42, code="server_error", message="x"), "server_error", 43),
        (ERROR_FRAME, "server_error", 42),
        (b'event: error\ndata: {"error":{"code":429,"message":"x"}}\n\n', "429", 42),
    ],
)
async def test_behind_a_backends_own_error_a_response_fails_too(
    error: bytes, code: str, number: int, is_broken: bool
) -> None:
    """With the same words: some agents read `response.failed` alone."""
    broken = [UpstreamBroken("a")] if is_broken else []
    received, is_cut, made = await relayed(CREATED, DELTA, error, *broken, is_response=True)

    name, event = last_event(received)
    assert is_cut
    assert received.startswith(CREATED + DELTA + error)
    assert (name, event["sequence_number"]) == ("event: response.failed", number)
    assert event["response"]["error"] == {"code": code, "message": "x"}
    assert made.sink.events[0].outcome is Outcome.FAILED


async def test_a_response_that_fails_by_itself_fails_once() -> None:
    """Azure sends the error, and then the event that ends the stream."""
    error = responses_frame("error", 41, code="x", message="y")
    received, is_cut, _ = await relayed(CREATED, DELTA, error, FAILED, is_response=True)

    assert (received, is_cut) == (CREATED + DELTA + error + FAILED, False)


@pytest.mark.parametrize("is_named", [False, True])
async def test_an_added_event_has_a_name_where_the_others_have(is_named: bool) -> None:
    """Some readers take no line that the stream did not have before."""
    frames = [CREATED, DELTA] if is_named else [f.partition(b"\n")[2] for f in (CREATED, DELTA)]
    received, _, _ = await relayed(*frames, is_response=True)

    last = received.rstrip(b"\n").rsplit(b"\n\n", 1)[-1]
    assert last.startswith(b"event: response.failed\ndata: " if is_named else b"data: {")


@pytest.mark.parametrize("end", [FAILED, COMPLETED])
async def test_a_response_that_ends_by_its_own_event_ends_cleanly(end: bytes) -> None:
    """Also one that failed: the API ends it so."""
    received, is_cut, _ = await relayed(CREATED, DELTA, end, is_response=True)

    assert (received, is_cut) == (CREATED + DELTA + end, False)


@pytest.mark.parametrize(
    ("parts", "is_response"),
    [
        ([TEXT_FRAME], False),
        ([TEXT_FRAME, TEXT_FRAME[:-20]], False),
        ([TEXT_FRAME, USAGE_FRAME], False),
        ([FINISHED, b'data: {"choices":[{"index":1,"delta":{"co'], False),
        ([CREATED], True),
        ([CREATED, DELTA], True),
    ],
)
async def test_a_clean_end_without_a_closing_frame_is_a_cut(
    parts: list[bytes], is_response: bool
) -> None:
    """Every SDK would take half an answer for a whole one."""
    received, is_cut, made = await relayed(*parts, is_response=is_response)

    _, _, ending = received.rpartition(b"data: ")
    assert is_cut
    assert b"upstream_cut" in ending
    assert made.sink.events[0].outcome is Outcome.FAILED


@pytest.mark.parametrize("parts", [[TEXT_FRAME, FINISHED], [FINISHED, USAGE_FRAME], [FINISHED]])
async def test_a_text_that_has_ended_may_lack_the_closing_frame(parts: list[bytes]) -> None:
    """Its own words say that nothing is missing."""
    received, is_cut, made = await relayed(*parts, is_response=False)

    assert (received.replace(USAGE_FRAME, b""), is_cut) == (
        b"".join(parts).replace(USAGE_FRAME, b""),
        False,
    )
    assert made.sink.events[0].outcome is Outcome.SERVED


def choice_frame(index: int, reason: str | None = None, **members: object) -> bytes:
    choice = {"index": index, "delta": {"content": "a"}, "finish_reason": reason, **members}
    return b"data: %b\n\n" % json.dumps({"choices": [choice]}).encode()


FILTERED = choice_frame(0, content_filter_offsets={"check_offset": 1})
COUNTED = b'data: {"choices":[{"delta":{"content":"a"}}],"usage":{"prompt_tokens":1}}\n\n'


@pytest.mark.parametrize(
    ("parts", "is_whole"),
    [
        ([choice_frame(0), choice_frame(0, "stop"), *[FILTERED] * 3], True),
        (
            [choice_frame(0), choice_frame(1), choice_frame(1, "stop"), choice_frame(0, "stop")],
            True,
        ),
        ([choice_frame(0), choice_frame(1), choice_frame(0, "stop")], False),
        ([choice_frame(0), choice_frame(1), choice_frame(1, "stop")], False),
        ([COUNTED, COUNTED], False),
        ([choice_frame(0, "stop"), choice_frame(1, "stop"), choice_frame(2)], False),
    ],
    ids=["filtered later", "two", "one of two", "the other", "counted each time", "one of three"],
)
async def test_a_text_has_ended_when_each_choice_has(parts: list[bytes], is_whole: bool) -> None:
    """Content filters may comment on one afterwards; counts in a frame with text say nothing."""
    received, is_cut, _ = await relayed(*parts, is_response=False)

    assert (is_cut, b"upstream_cut" in received) == (not is_whole, not is_whole)


@pytest.mark.parametrize("is_response", [False, True])
@pytest.mark.parametrize("left_out", [1, 2, 9, 30])
async def test_the_error_stands_alone_behind_a_frame_that_was_cut(
    is_response: bool, left_out: int
) -> None:
    """A parser would join the two, and see neither. No client takes an event without its blank line."""
    frame = DELTA if is_response else TEXT_FRAME
    received, is_cut, _ = await relayed(
        *([CREATED] if is_response else []), frame, frame[:-left_out], is_response=is_response
    )

    *_, event = received.rstrip(b"\n").split(b"\n\n")
    data = event.split(b"\n")[-1].removeprefix(b"data: ")
    assert is_cut
    assert event.startswith(b"event: response.failed\n" if is_response else b'data: {"error": {')
    assert json.loads(data)


@pytest.mark.parametrize(
    "kind", ["response.completed", "response.incomplete", "response.cancelled"]
)
async def test_an_event_may_name_its_type_last(kind: str) -> None:
    """As serializers do that sort names; without usage, too."""
    data = {"response": {"id": "resp_1", "output": ["x" * 300]}, "type": kind}
    end = b"data: %b\n\n" % json.dumps(data).encode()

    received, is_cut, _ = await relayed(CREATED, DELTA, end, is_response=True)

    assert (received, is_cut) == (CREATED + DELTA + end, False)


async def test_a_response_that_is_read_again_has_the_id_that_is_read() -> None:
    """Also where its first events are left out (`starting_after`)."""
    made = door(stream_answer(DELTA))
    answer = await made.call(
        method="GET", path="/openai/v1/responses/resp_7", query="stream=true", body=b""
    )
    assert isinstance(answer, StreamingAnswer)
    caller = FakeCaller()

    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    assert last_event(caller.received)[1]["response"]["id"] == "resp_7"


async def test_the_response_may_be_named_after_another_event() -> None:
    """The first event that holds one tells its id."""
    ping = b'data: {"type":"keepalive","sequence_number":0}\n\n'

    received, _, _ = await relayed(ping, CREATED, DELTA, is_response=True)

    assert last_event(received)[1]["response"]["id"] == "resp_1"


LONG = "x" * 5_000_000
LONG_CREATED = responses_frame(
    "response.created", 0, response={"id": "resp_1", "model": "gpt-5", "instructions": LONG}
)
LONG_TEXT = responses_frame("response.output_text.done", 42, text=LONG)
LONG_END = responses_frame("response.completed", 43, response={"id": "resp_1", "output": [LONG]})


@pytest.mark.parametrize(
    ("parts", "number"),
    [
        ([LONG_CREATED, DELTA], 42),
        ([CREATED, DELTA, LONG_TEXT], 43),
        ([CREATED, LONG_TEXT[:-200]], 43),
        ([CREATED, LONG_TEXT, LONG_END[:-200]], 44),
        ([LONG_CREATED], 1),
    ],
    ids=["first", "last", "cut within", "cut within the end", "alone"],
)
@pytest.mark.parametrize("ending", [[], [UpstreamBroken("x")]], ids=["clean", "broken"])
async def test_frames_too_long_to_hold_tell_what_a_failure_says(
    parts: list[bytes], number: int, ending: list[Part]
) -> None:
    """The response's id, the next number, and that the stream is not at its end."""
    received, is_cut, made = await relayed(*parts, *ending, is_response=True)

    name, event = last_event(received)
    assert is_cut
    assert name == "event: response.failed"
    assert event["sequence_number"] in {number, number - 1}
    assert event["response"]["id"] == "resp_1"
    assert made.sink.events[0].outcome is Outcome.FAILED


async def test_a_closing_frame_too_long_to_hold_ends_the_stream() -> None:
    """Cleanly."""
    received, is_cut, made = await relayed(CREATED, LONG_END, is_response=True)

    assert (received, is_cut) == (CREATED + LONG_END, False)
    assert made.sink.events[0].outcome is Outcome.SERVED


def typed(kind: str, **members: object) -> bytes:
    return b"data: %b\n\n" % json.dumps({"type": kind, **members}).encode()


PARTIAL = typed("image_generation.partial_image", b64_json="AA")
IMAGE = typed("image_generation.completed", b64_json="AA", usage={"input_tokens": 1})
WORD = typed("transcript.text.delta", delta="a")
SEGMENT = typed("transcript.text.segment", text="a")
TRANSCRIPT = typed("transcript.text.done", text="a")
SPEECH = typed("speech.audio.delta", audio="AA")


@pytest.mark.parametrize(
    ("parts", "is_whole"),
    [
        ([PARTIAL], False),
        ([PARTIAL, IMAGE], True),
        ([PARTIAL, IMAGE, PARTIAL], False),
        ([PARTIAL, IMAGE, PARTIAL, IMAGE, DONE_FRAME], True),
        ([WORD], False),
        ([SEGMENT], False),
        ([WORD, SEGMENT, TRANSCRIPT], True),
        ([WORD, typed("transcript.text.done", logprobs=["x" * 300])], True),
        ([SPEECH], False),
        ([SPEECH, typed("speech.audio.done")], True),
        ([typed("a.kind.of.tomorrow")], False),
        ([typed("a.kind.of.tomorrow"), typed("tomorrow.done")], True),
        ([b"data: words\n\n"], False),
    ],
    ids=range(13),
)
async def test_streams_of_images_and_sound_end_by_their_own_events(
    parts: list[bytes], is_whole: bool
) -> None:
    """At least one, whatever its kind is called."""
    made = door(stream_answer(*parts))
    answer = await made.call(
        b'{"model":"gpt","prompt":"x","stream":true}',
        path="/openai/deployments/gpt/images/generations",
    )
    assert isinstance(answer, StreamingAnswer)
    caller = FakeCaller()

    if is_whole:
        await answer.relay.run(caller)
        assert caller.received == b"".join(parts)
    else:
        with pytest.raises(AnswerCut):
            await answer.relay.run(caller)
        assert b'data: {"error": {' in caller.received


@pytest.mark.parametrize("missing", [b"\n\n", b"\n"])
@pytest.mark.parametrize(
    ("parts", "is_response"),
    [
        ([TEXT_FRAME, DONE_FRAME], False),
        ([TEXT_FRAME, FINISHED], False),
        ([CREATED, COMPLETED], True),
    ],
)
async def test_a_last_event_gets_the_blank_line_that_it_lacks(
    parts: list[bytes], is_response: bool, missing: bytes
) -> None:
    """Nearly every client drops an event without one: a response would never be completed."""
    *before, last = parts
    received, is_cut, made = await relayed(
        *before, last.removesuffix(missing), is_response=is_response
    )

    assert (received, is_cut) == (b"".join(parts), False)
    assert made.sink.events[0].outcome is Outcome.SERVED


async def test_as_many_texts_must_end_as_were_asked_for() -> None:
    """One that never began is missing, too."""
    made = door(stream_answer(choice_frame(0), choice_frame(0, "stop")))
    answer = await made.call(b'{"model":"gpt","stream":true,"n":2,"messages":[]}')
    assert isinstance(answer, StreamingAnswer)
    with pytest.raises(AnswerCut):
        await answer.relay.run(FakeCaller())
