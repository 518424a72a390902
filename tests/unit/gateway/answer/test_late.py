"""Streams that are begun before any backend has answered: comments first, then whatever it said."""

import asyncio
import json
from copy import replace

import pytest

from meter.errors import AnswerCut, CallerGone, UpstreamBroken, UpstreamTimeout
from meter.gateway.http import Answer, StreamingAnswer
from meter.usage import Outcome, UsageSource
from tests.fakes.gateway import (
    FakeAnswer,
    FakeCaller,
    FakeUpstream,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    CHAT_PATH,
    DONE_FRAME,
    SERVED,
    STREAM_BODY,
    TEXT_FRAME,
    USAGE_FRAME,
    Door,
    backend,
    door,
    headers_of,
)

COMMENT = b": keep-alive\n\n"
RESPONSES_PATH = "/openai/v1/responses"


def held(*answers: FakeAnswer | Exception, **parts: object) -> Door:
    """A front door whose backend answers once its gate is opened."""
    made = door(*answers, first_keepalive_seconds=0.001, keepalive_seconds=0.002, **parts)
    made.upstream.gate = asyncio.Event()
    return made


def open_gate(made: Door) -> None:
    assert made.upstream.gate is not None
    made.upstream.gate.set()


async def begun(made: Door, *, path: str = CHAT_PATH) -> StreamingAnswer:
    """The answer that is begun while its backend is still silent."""
    answer = await made.call(STREAM_BODY, path=path)
    assert isinstance(answer, StreamingAnswer)
    return answer


async def relayed(made: Door, caller: FakeCaller, *, path: str = CHAT_PATH) -> None:
    """Comments until the first one has come, then the backend's answer."""
    answer = await begun(made, path=path)
    relaying = asyncio.create_task(answer.relay.run(caller))
    await caller.is_written_to.wait()
    open_gate(made)
    await relaying


def after_comments(caller: FakeCaller) -> bytes:
    received = caller.received
    assert received.startswith(COMMENT)
    while received.startswith(COMMENT):
        received = received.removeprefix(COMMENT)
    return received


async def test_a_stream_that_arrives_at_once_follows_the_comments() -> None:
    """As any other stream, without the frame that only the gateway asked for."""
    source = stream_answer(TEXT_FRAME + USAGE_FRAME + DONE_FRAME)
    source.has_arrived = True
    made, caller = held(source), FakeCaller()

    await relayed(made, caller)

    assert after_comments(caller) == TEXT_FRAME + DONE_FRAME
    assert made.sink.events[0].usage.total_tokens == 7
    assert made.is_idle


async def test_encoded_bytes_cannot_follow_comments() -> None:
    """The answer was begun without their Content-Encoding: an error event says so."""
    source = stream_answer(b"\x0b\x02\x80", headers=(("content-encoding", "br"),))
    made, caller = held(source), FakeCaller()

    with pytest.raises(AnswerCut):
        await relayed(made, caller)

    assert b'"code": "not_a_stream"' in after_comments(caller)
    assert b"\x80" not in caller.received
    assert made.is_idle


async def test_a_silent_backend_is_bridged_by_comments() -> None:
    """200 as an event stream, comments, then the real one; the event is that of any stream."""
    made, caller = held(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME)), FakeCaller()

    await relayed(made, caller)

    assert after_comments(caller) == TEXT_FRAME + DONE_FRAME
    event = made.sink.events[0]
    assert (event.outcome, event.status, event.streaming) == (Outcome.SERVED, 200, True)
    assert (event.usage.total_tokens, len(made.sink.events)) == (7, 1)
    assert made.is_idle


async def test_its_head_says_what_is_known() -> None:
    """An event stream, and the id under which it will be counted."""
    made = held(stream_answer(DONE_FRAME))
    answer = await begun(made)
    open_gate(made)
    await answer.relay.run(FakeCaller())

    assert answer.status == 200
    assert headers_of(answer) == {
        "content-type": "text/event-stream",
        "cache-control": "no-store",
        "x-meter-event-id": str(made.sink.events[0].id),
    }


async def test_a_backend_that_answers_in_time_gets_its_own_head() -> None:
    """Then there is nothing to bridge."""
    made = door(stream_answer(DONE_FRAME, headers=(("x-request-id", "r1"),)))

    answer = await made.stream()

    assert headers_of(answer)["x-request-id"] == "r1"


async def test_a_call_that_is_no_stream_is_never_begun_early() -> None:
    """Its status is still open, and must be the backend's."""
    made = held(json_answer(200, SERVED))
    call = asyncio.create_task(made.call())
    await asyncio.sleep(0.01)
    open_gate(made)

    assert isinstance(await call, Answer)


REFUSAL = b'{"error":{"code":"content_filter","message":"filtered","innererror":{}}}'


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (json_answer(400, REFUSAL), json.loads(REFUSAL)["error"]),
        (json_answer(404, b'{"statusCode":404,"message":"no"}'), {"code": "404"}),
        (json_answer(404, b'{"error":null}'), {"code": "404"}),
        (json_answer(400, b"{}"), {"code": "400"}),
        (json_answer(400, b"no json"), {"code": "not_a_stream"}),
        (json_answer(200, b"no json"), {"code": "not_a_stream"}),
        (
            FakeAnswer(200, (("content-type", "audio/mpeg"),), [b"ab", b"cd"]),
            {"code": "not_a_stream"},
        ),
        (
            FakeAnswer(200, (("content-type", "audio/mpeg"),), [b"a", UpstreamBroken("a")]),
            {"code": "not_a_stream"},
        ),
        (
            json_answer(429, b"{}", ("retry-after", "3")),
            {"code": "429", "type": "rate_limit_error"},
        ),
        (json_answer(500, b"{}"), {"code": "BadGateway"}),
        (UpstreamTimeout("a"), {"code": "GatewayTimeout"}),
    ],
    ids=str,
)
async def test_a_late_error_is_one_error_frame_and_a_cut(
    answer: FakeAnswer | Exception, error: dict[str, object]
) -> None:
    """The status is gone; what the SDK raises on is an event with an `error`."""
    made, caller = held(answer), FakeCaller()

    with pytest.raises(AnswerCut):
        await relayed(made, caller)

    received = after_comments(caller)
    assert (received.count(b"data: "), received[-2:]) == (1, b"\n\n")
    told = json.loads(received.removeprefix(b"data: "))["error"]
    assert told.items() >= error.items()
    assert (len(made.sink.events), made.is_idle) == (1, True)


async def test_a_whole_answer_comes_late_as_one_event() -> None:
    """A backend that does not stream has answered all the same; the stream ends as its API ends them."""
    made, caller = held(json_answer(200, SERVED)), FakeCaller()

    await relayed(made, caller)

    event, end, _ = after_comments(caller).split(b"\n\n")
    assert json.loads(event.removeprefix(b"data: ")) == json.loads(SERVED)
    assert end == b"data: [DONE]"
    assert made.sink.events[0].usage.total_tokens == 46


@pytest.mark.parametrize("status", ["completed", "incomplete", "failed", "cancelled"])
async def test_a_whole_response_comes_late_as_its_closing_event(status: str) -> None:
    """It says of itself how it has ended."""
    error = {"code": "server_error", "message": "x"} if status == "failed" else None
    response = {"id": "resp_1", "object": "response", "status": status, "error": error}
    made, caller = held(json_answer(200, json.dumps(response).encode())), FakeCaller()

    await relayed(made, caller, path=RESPONSES_PATH)

    name, data = after_comments(caller).rstrip(b"\n").split(b"\n")
    assert name == b"event: response.%b" % status.encode()
    assert json.loads(data.removeprefix(b"data: ")) == {
        "type": f"response.{status}",
        "sequence_number": 0,
        "response": response,
    }


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (json_answer(400, REFUSAL), "content_filter"),
        (json_answer(404, b'{"statusCode":404,"message":"no"}'), "404"),
        (
            json_answer(200, b'{"id":"resp_1","object":"response","status":"queued"}'),
            "not_a_stream",
        ),
        (json_answer(200, b"{}"), "not_a_stream"),
        (json_answer(500, b"{}"), "BadGateway"),
        (stream_answer(UpstreamBroken("a")), "BadGateway"),
        (UpstreamTimeout("a"), "GatewayTimeout"),
    ],
    ids=str,
)
async def test_a_late_error_of_a_response_is_its_failed_event_and_a_cut(
    answer: FakeAnswer | Exception, code: str
) -> None:
    """In the API's own form, whatever the backend said."""
    made, caller = held(answer), FakeCaller()

    with pytest.raises(AnswerCut):
        await relayed(made, caller, path=RESPONSES_PATH)

    name, data = after_comments(caller).rstrip(b"\n").split(b"\n")
    event = json.loads(data.removeprefix(b"data: "))
    assert name == b"event: response.failed"
    assert (event["type"], event["sequence_number"]) == ("response.failed", 0)
    assert event["response"]["error"]["code"] == code
    assert (len(made.sink.events), made.is_idle) == (1, True)


async def test_a_late_stream_that_is_cut_is_cut() -> None:
    """Like any other."""
    made, caller = held(stream_answer(TEXT_FRAME, UpstreamBroken("a"))), FakeCaller()

    with pytest.raises(AnswerCut):
        await relayed(made, caller)

    assert caller.received.endswith(b'"code": "upstream_cut"}}\n\n')
    assert made.is_idle


async def test_failover_goes_on_behind_the_comments() -> None:
    """No byte of an answer has been sent, so the next backend may still serve."""
    upstream = FakeUpstream(
        {"a": [json_answer(500, b"{}")], "b": [stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME)]}
    )
    made = replace(held(), upstream=upstream, backends=[backend("a"), backend("b", priority=2)])
    upstream.gate = asyncio.Event()
    caller = FakeCaller()

    await relayed(made, caller)

    assert after_comments(caller) == TEXT_FRAME + DONE_FRAME
    assert upstream.order == ["a", "b"]


@pytest.mark.parametrize("leaves_after", [0, 1])
async def test_a_caller_that_leaves_meanwhile_is_counted(leaves_after: int) -> None:
    """The answer is read to its usage, as for any stream that was left."""
    made = held(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME))
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(FakeCaller(leaves_after=leaves_after)))
    await asyncio.sleep(0.02)
    open_gate(made)
    await relaying

    event = made.sink.events[0]
    assert (event.outcome, event.usage_source) == (Outcome.DISCONNECTED, UsageSource.REPORTED)
    assert (event.usage.total_tokens, made.is_idle) == (7, True)


async def test_a_caller_that_leaves_before_an_error_is_counted() -> None:
    """Nobody reads the error frame; the event is there."""
    made = held(json_answer(500, b"{}"))
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(FakeCaller(leaves_after=0)))
    await asyncio.sleep(0.01)
    open_gate(made)
    with pytest.raises(AnswerCut):
        await relaying

    assert (made.sink.events[0].outcome, made.is_idle) == (Outcome.FAILED, True)


async def test_a_caller_that_does_not_read_comments_is_taken_for_gone() -> None:
    """The write's time limit holds for comments too."""

    class Stuck:
        put = None

        async def write(self, data: bytes) -> None:
            await asyncio.Event().wait()

    made = held(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME), write_seconds=0.01)
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(Stuck()))
    await asyncio.sleep(0.03)
    open_gate(made)
    await relaying

    assert made.sink.events[0].outcome is Outcome.DISCONNECTED


@pytest.mark.parametrize("fault", [asyncio.CancelledError, RuntimeError])
async def test_a_late_relay_that_is_broken_off_counts_its_call_first(
    fault: type[BaseException],
) -> None:
    """Cancelled as the server ends, or by a fault of it: the call is cut, and all is given back."""

    class Breaking:
        put = None

        async def write(self, data: bytes) -> None:
            raise fault

    made = held(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME))
    answer = await begun(made)
    with pytest.raises(fault):
        await answer.relay.run(Breaking())

    event = made.sink.events[0]
    assert (event.outcome, event.status, event.backend) == (Outcome.FAILED, 503, "a")
    assert made.is_idle


async def test_the_call_has_its_place_until_it_ends() -> None:
    """Behind the comments it still runs."""
    made = held(stream_answer(DONE_FRAME), max_concurrent_calls=1)
    answer = await begun(made)

    refused = await made.call(STREAM_BODY)
    open_gate(made)
    await answer.relay.run(FakeCaller())

    assert (refused.status, made.is_idle) == (503, True)


async def test_a_call_that_takes_too_long_ends_in_an_error_frame() -> None:
    """The limit for the whole call holds behind the comments."""
    made, caller = held(stream_answer(DONE_FRAME), total_timeout_seconds=0.02), FakeCaller()
    answer = await begun(made)

    with pytest.raises(AnswerCut):
        await answer.relay.run(caller)

    assert b'"code": "GatewayTimeout"' in caller.received
    assert made.is_idle


async def test_a_caller_that_is_gone_is_written_to_once() -> None:
    """Comments go on for those who listen only."""
    tries = 0

    class Leaving:
        put = None

        async def write(self, data: bytes) -> None:
            nonlocal tries
            tries += 1
            raise CallerGone

    made = held(stream_answer(TEXT_FRAME, DONE_FRAME))
    answer = await begun(made)
    relaying = asyncio.create_task(answer.relay.run(Leaving()))
    await asyncio.sleep(0.02)
    open_gate(made)
    await relaying

    assert tries == 1
