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
                "message": "The backend closed this answer before its end.",
            },
            "incomplete_details": None,
            "output": [],
            "usage": None,
        },
    }
    assert made.sink.events[0].outcome is Outcome.FAILED


def test_a_response_of_which_nothing_was_seen_has_the_id_it_is_given() -> None:
    """And the first number."""
    frame = StreamFailure(response_id="resp_0", has_ends=True).event(ERROR)

    _, event = last_event(b"\n\n" + frame)
    assert event["sequence_number"] == 0
    assert event["response"]["id"] == "resp_0"
    assert event["response"]["error"] == {"code": "too_much", "message": "Too much."}


@pytest.mark.parametrize(
    "data", [b"no JSON", b"[]", b'{"sequence_number":true}', b'{"response":5}']
)
def test_odd_frames_do_not_hinder_it(data: bytes) -> None:
    """Whatever the backend sent."""
    failure = StreamFailure(response_id="resp_0", has_ends=True)
    failure.note(data)

    _, event = last_event(b"\n\n" + failure.event({"error": "odd"}))

    assert (event["sequence_number"], event["response"]["id"]) == (0, "resp_0")
    assert event["response"]["error"]["code"] == "server_error"


@pytest.mark.parametrize(
    ("parts", "is_response"),
    [
        ([TEXT_FRAME, ERROR_FRAME], False),
        ([TEXT_FRAME, ERROR_FRAME, DONE_FRAME], False),
        ([TEXT_FRAME, b'event: error\ndata: {"message":"x"}\n\n'], False),
        ([CREATED, DELTA, responses_frame("error", 42, code="x", message="y")], True),
        ([CREATED, DELTA, ERROR_FRAME], True),
    ],
)
async def test_a_backends_own_error_is_relayed_and_then_cut(
    parts: list[bytes], is_response: bool
) -> None:
    """A clean end behind it is silent in .NET's SDKs. It is told once."""
    received, is_cut, made = await relayed(*parts, is_response=is_response)

    assert (received, is_cut) == (b"".join(parts), True)
    assert made.sink.events[0].outcome is Outcome.FAILED


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


@pytest.mark.parametrize("parts", [[TEXT_FRAME, FINISHED], [TEXT_FRAME, USAGE_FRAME], [FINISHED]])
async def test_a_text_that_has_ended_may_lack_the_closing_frame(parts: list[bytes]) -> None:
    """Its own words say that nothing is missing."""
    received, is_cut, made = await relayed(*parts, is_response=False)

    assert (received.replace(USAGE_FRAME, b""), is_cut) == (
        b"".join(parts).replace(USAGE_FRAME, b""),
        False,
    )
    assert made.sink.events[0].outcome is Outcome.SERVED
