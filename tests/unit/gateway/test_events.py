"""Each call that reached a backend makes one event, complete and right; no other call makes one."""

import json
import logging

import pytest

from meter.errors import AnswerCut, UpstreamBroken, UpstreamError, UpstreamTimeout
from meter.gateway.answer.relay import DrainLimits, Drains
from meter.usage import (
    NO_USAGE,
    Attempt,
    Outcome,
    Principal,
    Tier,
    TokenUsage,
    UsageEvent,
    UsageSource,
    encode_event,
)
from tests.fakes.gateway import (
    START,
    FakeAnswer,
    FakeCaller,
    FakeClock,
    FakeUpstream,
    json_answer,
    stream_answer,
)
from tests.support.gateway import (
    CHAT_BODY,
    DONE_FRAME,
    ISSUER,
    SERVED,
    STREAM_BODY,
    TEXT_FRAME,
    USAGE_FRAME,
    V1_RESPONSES_PATH,
    Door,
    backend,
    bearer,
    door,
    token,
)

PRINCIPAL = Principal(
    subject="alice",
    issuer=ISSUER,
    tenant="tenant-1",
    object_id="object-1",
    client_app="app-1",
)


def two_backends(first: FakeAnswer | UpstreamTimeout, second: FakeAnswer) -> Door:
    """A provisioned backend, then a standard one; each takes a quarter of a second to answer."""
    clock = FakeClock()
    upstream = FakeUpstream({"a": [first], "b": [second]}, clock, seconds_per_send=0.25)
    return Door(upstream, [backend("a"), backend("b", priority=2)], clock)


async def only_event(made: Door, body: bytes = CHAT_BODY) -> UsageEvent:
    await made.call(body)
    assert len(made.sink.events) == 1
    return made.sink.events[0]


async def test_a_served_call_is_told_in_full() -> None:
    """Every field of the event."""
    made = two_backends(json_answer(429, b"{}"), json_answer(200, SERVED))
    await made.call(headers=(*bearer(), ("x-stainless-retry-count", "2")))

    event = made.sink.events[0]
    assert (event.id.version, event.source, event.principal) == (7, "/aoai-meter/test", PRINCIPAL)
    assert (event.operation, event.deployment) == ("chat/completions", "gpt")
    assert (event.model, event.api_version) == ("gpt-4o-2024", "2024-10-21")
    assert (event.backend, event.tier, event.spilled_from) == ("b", Tier.STANDARD, "a")
    assert (event.outcome, event.status, event.streaming) == (Outcome.SERVED, 200, False)
    assert (event.usage_source, event.usage) == (
        UsageSource.REPORTED,
        TokenUsage(
            prompt_tokens=12,
            completion_tokens=34,
            total_tokens=46,
            cached_tokens=5,
            reasoning_tokens=6,
        ),
    )
    assert event.usage_raw == {"usage": json.loads(SERVED)["usage"]}
    assert event.attempts == (
        Attempt(backend="a", status=429, duration_ms=250),
        Attempt(backend="b", status=200, duration_ms=250),
    )
    assert (event.started_at, event.duration_ms, event.time_to_first_byte_ms) == (START, 500, 500)
    assert (event.time - START).total_seconds() == 0.5
    assert event.client_retry_count == 2


async def test_a_provisioned_backends_call_is_of_its_tier() -> None:
    """Unless the resource spilled it over."""
    event = await only_event(door(json_answer(200, SERVED)))

    assert (event.tier, event.spilled_from) == (Tier.PROVISIONED, None)


async def test_a_call_that_spilled_over_is_of_the_standard_tier() -> None:
    """It is billed at the standard rate; where it came from is kept."""
    spilled = json_answer(200, SERVED, ("x-ms-spillover-from-deployment", "gpt-ptu"))

    event = await only_event(door(spilled))

    assert (event.tier, event.spilled_from) == (Tier.STANDARD, "gpt-ptu")


@pytest.mark.parametrize("named", ["x" * 65, "a b", "\udce9", ""])
async def test_a_spillover_from_what_is_no_deployment_is_none(named: str) -> None:
    """A backend's header is hostile input, and this one is stored."""
    spilled = json_answer(200, SERVED, ("x-ms-spillover-from-deployment", named))

    event = await only_event(door(spilled))

    assert (event.tier, event.spilled_from) == (Tier.PROVISIONED, None)


async def test_a_refused_call_is_counted_as_refused() -> None:
    """It reached a backend and cost no tokens that we know of."""
    event = await only_event(door(json_answer(400, b'{"error":{}}')))

    assert (event.outcome, event.status) == (Outcome.REFUSED, 400)
    assert (event.usage, event.usage_source) == (NO_USAGE, UsageSource.MISSING)


async def test_a_failed_call_is_counted_as_failed() -> None:
    """With every attempt, under the backend that was tried last."""
    made = two_backends(UpstreamTimeout("a"), json_answer(503, b"{}"))

    event = await only_event(made)

    assert (event.outcome, event.status, event.backend) == (Outcome.FAILED, 503, "b")
    assert [(attempt.backend, attempt.status) for attempt in event.attempts] == [
        ("a", None),
        ("b", 503),
    ]
    assert (event.usage_source, event.usage_raw, event.model) == (UsageSource.MISSING, None, None)
    assert event.time_to_first_byte_ms is None


@pytest.mark.parametrize(
    "body",
    [
        b'{"error":{"code":"content_filter","message":"x"}}',
        b'{"code":"400","message":"x"}',
        b'{"choices":[],"error":{"type":"invalid_request_error"}}',
    ],
)
async def test_the_callers_mistake_in_an_answer_of_200_is_counted_as_failed(
    body: bytes,
) -> None:
    """It is relayed as it is, and no tokens are charged."""
    made = door(json_answer(200, body))

    answer = await made.answer()
    event = made.sink.events[0]

    assert (answer.status, answer.body) == (200, body)
    assert "total-tokens" not in dict(answer.headers)
    assert (event.outcome, event.status) == (Outcome.FAILED, 200)
    assert (event.usage.total_tokens, event.usage_source) == (0, UsageSource.MISSING)


async def test_a_response_that_has_failed_is_counted_as_failed() -> None:
    """It is stored under its id, so it is relayed: whoever asks for it later gets the same."""
    body = b'{"id":"resp_1","object":"response","status":"failed","error":{"code":"server_error"}}'
    made = two_backends(json_answer(200, body), json_answer(200, SERVED))

    answer = await made.call(path=V1_RESPONSES_PATH)
    event = made.sink.events[0]

    assert (answer.status, made.upstream.order) == (200, ["a"])
    assert (event.outcome, event.usage_source) == (Outcome.FAILED, UsageSource.MISSING)


async def test_an_error_beside_usage_is_charged() -> None:
    """Another backend would be paid once more."""
    body = b'{"error":{"code":429},"usage":{"prompt_tokens":3,"total_tokens":3}}'
    made = two_backends(json_answer(200, body), json_answer(200, SERVED))

    answer = await made.answer()
    event = made.sink.events[0]

    assert (answer.body, made.upstream.order) == (body, ["a"])
    assert (event.usage.total_tokens, event.usage_source) == (3, UsageSource.REPORTED)


async def test_a_stream_is_counted_when_it_ends_and_not_before() -> None:
    """Its time is the call's end."""
    made = door(stream_answer(TEXT_FRAME, USAGE_FRAME, DONE_FRAME))
    answer = await made.stream()
    before = len(made.sink.events)
    made.clock.advance(90)

    await answer.relay.run(FakeCaller())

    event = made.sink.events[0]
    assert (before, len(made.sink.events), event.streaming) == (0, 1, True)
    assert (event.duration_ms, event.time_to_first_byte_ms) == (90_000, 0)
    assert (event.outcome, event.model, event.usage.total_tokens) == (Outcome.SERVED, "gpt-4o", 7)


@pytest.mark.parametrize(
    ("most_drains", "source", "total"),
    [(1, UsageSource.REPORTED, 7), (0, UsageSource.ESTIMATED, 2)],
)
async def test_a_caller_that_leaves_is_counted_as_disconnected(
    most_drains: int, source: UsageSource, total: int
) -> None:
    """From the drained rest, or estimated."""
    made = door(
        stream_answer(TEXT_FRAME, TEXT_FRAME, USAGE_FRAME, DONE_FRAME),
        drains=Drains(DrainLimits(most=most_drains, seconds=5)),
    )
    answer = await made.stream()

    await answer.relay.run(FakeCaller(leaves_after=1))

    event = made.sink.events[0]
    assert (event.outcome, event.usage_source) == (Outcome.DISCONNECTED, source)
    assert event.usage.total_tokens == total


async def test_a_cut_stream_is_counted_as_failed() -> None:
    """Its status was 200 when it began."""
    made = door(stream_answer(TEXT_FRAME, UpstreamBroken("a")))
    answer = await made.stream()
    with pytest.raises(AnswerCut):
        await answer.relay.run(FakeCaller())

    event = made.sink.events[0]
    assert (event.outcome, event.status) == (Outcome.FAILED, 200)
    assert event.usage_source is UsageSource.ESTIMATED


async def test_a_call_nobody_could_take_makes_no_event() -> None:
    """All benched: no backend was reached."""
    made = door(json_answer(429, b"{}", ("retry-after", "30")))
    await made.call()

    answer = await made.call()

    assert (answer.status, len(made.sink.events)) == (429, 1)


@pytest.mark.parametrize(
    ("text", "count"),
    [("0", 0), ("7", 7), ("999", 999), ("1000", 0), ("-1", 0), ("x", 0), ("", 0), ("\u0663", 0)],
)
async def test_a_retry_count_that_is_none_is_zero(text: str, count: int) -> None:
    """The SDK's own header; anything may stand there."""
    made = door(json_answer(200, SERVED))
    await made.call(headers=(*bearer(), ("x-stainless-retry-count", text)))

    assert made.sink.events[0].client_retry_count == count


async def test_events_have_ids_of_their_own() -> None:
    """The id is minted when the call starts, from the time and the dice."""
    made = door(json_answer(200, SERVED), json_answer(200, SERVED))
    await made.call()
    made.clock.advance(0.001)
    await made.call()

    first, second = made.sink.events
    assert first.id < second.id


async def test_the_answer_waits_for_the_acknowledgement() -> None:
    """The event is safe before the caller has the end of the answer."""
    made = door(json_answer(200, SERVED))
    order: list[str] = []

    class Slow:
        async def publish(self, event: UsageEvent) -> None:
            order.append("acknowledged")

    made.front_door.instance.sink = Slow()
    await made.call()
    order.append("answered")

    assert order == ["acknowledged", "answered"]


@pytest.mark.parametrize(
    "answers",
    [
        [json_answer(200, SERVED)],
        [json_answer(400, b'{"error":{"message":"secret prompt"}}')],
        [json_answer(500, b'{"error":{"message":"secret prompt"}}')],
        [json_answer(401, b"secret prompt")],
        [UpstreamTimeout("a")],
    ],
    ids=["served", "refused", "failed", "credentials", "timeout"],
)
async def test_nothing_secret_is_stored_or_logged(
    answers: list[FakeAnswer], caplog: pytest.LogCaptureFixture
) -> None:
    """No token, key, prompt or completion in the event or in any log record, at any level."""
    caplog.set_level(logging.DEBUG)
    made = door(*answers)

    event = await only_event(made)

    shown = encode_event(event).decode() + "".join(str(vars(r)) for r in caplog.records)
    secrets = ["secret prompt", "secret completion", "key-of-a", *token().split(".")]
    assert [secret for secret in secrets if secret in shown] == []


async def test_nothing_secret_of_a_stream_is_stored_or_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor of one that breaks off."""
    caplog.set_level(logging.DEBUG)
    text = b'data: {"choices":[{"delta":{"content":"secret completion"}}]}\n\n'
    made = door(stream_answer(text, UpstreamBroken("a")))
    answer = await made.stream(STREAM_BODY)
    with pytest.raises(AnswerCut):
        await answer.relay.run(FakeCaller())

    event = encode_event(made.sink.events[0]).decode()
    shown = event + "".join(str(vars(r)) for r in caplog.records)
    assert "secret completion" not in shown


async def test_a_call_that_left_its_provisioned_backend_spilled_over() -> None:
    """Billed at the standard rate, and it says whose capacity was missing."""
    answers: dict[str, list[FakeAnswer | UpstreamError]] = {
        "ptu": [json_answer(429, b"{}", ("retry-after", "9"))],
        "paygo": [json_answer(200, SERVED)],
    }
    made = Door(FakeUpstream(answers), backends=[backend("ptu"), backend("paygo", priority=2)])
    await made.call()

    event = made.sink.events[0]
    assert (event.backend, event.tier, event.spilled_from) == ("paygo", Tier.STANDARD, "ptu")
