"""What telemetry sees of a call: its beginning with its trace, its one end, or its rejection."""

import asyncio
import json
from collections.abc import Sequence

import pytest

from meter.errors import UpstreamUnreachable
from meter.gateway.headers import header
from meter.ports import Headers
from meter.usage import Outcome, encode_event
from tests.fakes.gateway import FakeAnswer, FakeCaller, json_answer, stream_answer
from tests.fakes.telemetry import FakeTelemetry
from tests.support.gateway import (
    DONE_FRAME,
    SERVED,
    TEXT_FRAME,
    USAGE_FRAME,
    Door,
    bearer,
    claims,
    door,
    token,
)
from tests.support.joining import Asker, in_virtual_time, served_after, slow_door

CALLERS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
OURS = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01"
STATE = ("tracestate", "vendor=1")


def sent_trace(made: Door) -> tuple[str | None, str | None]:
    """The headers of the trace that the backend got."""
    headers = made.upstream.requests[0].headers
    return header(headers, "traceparent"), header(headers, "tracestate")


async def called(made: Door, *headers: tuple[str, str]) -> None:
    await made.call(headers=(*bearer(), *headers))


async def test_the_callers_trace_goes_to_the_backend_and_into_the_event() -> None:
    """Untouched, so that the caller finds the backend's work, and the event, in its own trace."""
    made = door(json_answer(200, SERVED))

    await called(made, ("traceparent", CALLERS), STATE)

    assert sent_trace(made) == (CALLERS, STATE[1])
    assert json.loads(encode_event(made.sink.events[0]))["traceparent"] == CALLERS


@pytest.mark.parametrize("parents", [[], ["00-x"], [CALLERS, CALLERS]], ids=repr)
async def test_a_call_without_one_valid_parent_has_no_trace(parents: Sequence[str]) -> None:
    """Neither the backend nor the event gets what is no trace."""
    made = door(json_answer(200, SERVED))

    await called(made, *(("traceparent", parent) for parent in parents), STATE)

    assert sent_trace(made) == (None, None)
    assert "traceparent" not in json.loads(encode_event(made.sink.events[0]))


async def test_where_calls_are_traced_the_backend_and_the_event_get_the_calls_own_place() -> None:
    """The call is a child of the caller's, the backend's work a child of the call."""
    telemetry = FakeTelemetry(parent=OURS)
    made = door(json_answer(200, SERVED), telemetry=telemetry)

    await called(made, ("traceparent", CALLERS), STATE)

    assert header(telemetry.begun[0], "traceparent") == CALLERS
    assert sent_trace(made) == (OURS, STATE[1])
    assert made.sink.events[0].traceparent == OURS


async def test_telemetry_is_never_told_of_an_invalid_parent() -> None:
    """It need not look."""
    telemetry = FakeTelemetry()
    await called(door(json_answer(200, SERVED), telemetry=telemetry), ("traceparent", "x"), STATE)

    assert header(telemetry.begun[0], "traceparent") is None


async def test_a_call_ends_once_for_telemetry_with_its_event() -> None:
    """The event that is published, for the span that began."""
    telemetry = FakeTelemetry(parent=OURS)
    made = door(json_answer(200, SERVED), telemetry=telemetry)

    await called(made)

    assert telemetry.ended_calls == [(1, tuple(made.sink.events))]
    assert telemetry.rejections == []


async def test_a_stream_ends_for_telemetry_when_it_ends() -> None:
    """Not when it begins."""
    telemetry = FakeTelemetry()
    made = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME), telemetry=telemetry)

    answer = await made.stream()
    before = list(telemetry.ended_calls)
    await answer.relay.run(FakeCaller())

    assert before == []
    assert [events[-1].usage.total_tokens for _, events in telemetry.ended_calls] == [7]


async def test_a_call_that_all_backends_failed_ended_and_was_not_rejected() -> None:
    """They have seen it."""
    telemetry = FakeTelemetry()
    made = door(UpstreamUnreachable("a"), telemetry=telemetry)

    await made.call()

    [(_, [event])] = telemetry.ended_calls
    assert (event.outcome, telemetry.rejections) == (Outcome.FAILED, [])


WRONG_AUDIENCE = (("authorization", f"Bearer {token(payload=claims(aud='other'))}"),)


@pytest.mark.parametrize(
    ("headers", "path", "body", "rejection"),
    [
        ((), None, None, (401, "token")),
        (WRONG_AUDIENCE, None, None, (401, "token")),
        (None, "/openai/deployments/other/chat/completions", None, (404, "deployment")),
        (None, "/openai/files", None, (404, "not_found")),
        (None, None, b"{", (400, "bad_request")),
    ],
)
async def test_a_call_that_no_backend_saw_is_rejected(
    headers: Headers | None, path: str | None, body: bytes | None, rejection: tuple[int, str]
) -> None:
    """It makes no event: only this tells of it, by status and kind of error."""
    telemetry = FakeTelemetry()
    made = door(telemetry=telemetry)
    given = {"path": path, "body": body}

    await made.call(headers=headers, **{name: v for name, v in given.items() if v is not None})  # type: ignore[arg-type]  # as the table says

    assert (telemetry.rejections, telemetry.ended_calls) == ([rejection], [])


async def test_a_call_is_rejected_while_all_backends_cool_down() -> None:
    """The first call opened the circuit, and ended."""
    telemetry = FakeTelemetry()
    throttled = FakeAnswer(429, (("retry-after", "30"),), [b"{}"])
    made = door(throttled, telemetry=telemetry)

    await made.call()
    await made.call()

    assert len(telemetry.ended_calls) == 1
    assert telemetry.rejections == [(429, "throttled")]


def test_a_repeat_that_joins_a_call_is_neither_a_call_nor_rejected() -> None:
    """It has no event, and no trace of its own: the call that it joins has."""

    async def run() -> FakeTelemetry:
        telemetry = FakeTelemetry()
        made = slow_door(served_after(150), telemetry=telemetry)
        marked = (("x-ms-client-request-id", "id-1"),)
        first = Asker(made, headers=marked).ask()
        await asyncio.sleep(5)
        await first.leave()
        await Asker(made, headers=marked).ask().whole()
        return telemetry

    found = in_virtual_time(run)
    assert (found.joins, len(found.begun), len(found.ended_calls)) == (1, 1, 1)
    assert found.rejections == []
