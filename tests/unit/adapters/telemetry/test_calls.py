"""A call's metrics and its span: OpenTelemetry's names for generative AI, and our own."""

from datetime import timedelta
from typing import Any

import pytest
from opentelemetry.sdk.metrics.export import HistogramDataPoint
from opentelemetry.trace import SpanKind, StatusCode

from meter.adapters.telemetry import conventions as names
from meter.ports import Headers
from meter.trace import valid_traceparent
from meter.usage import NO_USAGE, Attempt, Outcome, TokenUsage, UsageEvent, UsageSource
from tests.support.events import NOW, usage_event
from tests.support.telemetry import WITH_SUBJECTS, Exported

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
SAMPLED = (("traceparent", PARENT),)
MODELS = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "azure.ai.openai",
    "gen_ai.request.model": "gpt-4o",
    "gen_ai.response.model": "gpt-4o-2024-11-20",
}
COMMON = {**MODELS, "server.address": "east.example", "server.port": 443}


def observed(
    *events: UsageEvent, headers: Headers = SAMPLED, made: Exported | None = None
) -> Exported:
    """What is exported of one call."""
    made = made or Exported()
    made.monitoring.watch([], {"east": "https://east.example"}.get)
    calls, call = made.monitoring.calls, events[-1]
    trace = calls.begin(
        headers,
        started_at=call.started_at,
        operation=call.operation,
        deployment=call.deployment,
    )
    calls.ended(trace, events)
    return made


def chat(**changes: Any) -> UsageEvent:
    return usage_event(operation="chat/completions", **changes)


def test_tokens_are_recorded_by_direction() -> None:
    """`gen_ai.client.token.usage`, with the conventions' attributes."""
    made = observed(chat())

    assert made.points(names.TOKEN_USAGE) == [
        ({**MODELS, "gen_ai.token.type": "input"}, 10),
        ({**MODELS, "gen_ai.token.type": "output"}, 5),
    ]


@pytest.mark.parametrize(
    ("usage", "source", "kinds"),
    [
        (TokenUsage(prompt_tokens=4, total_tokens=4), UsageSource.REPORTED, ["input"]),
        (TokenUsage(completion_tokens=4, total_tokens=4), UsageSource.ESTIMATED, ["output"]),
        (NO_USAGE, UsageSource.REPORTED, []),
        (NO_USAGE, UsageSource.MISSING, []),
    ],
)
def test_only_tokens_that_are_known_are_recorded(
    usage: TokenUsage, source: UsageSource, kinds: list[str]
) -> None:
    """The conventions: without a count the metric must not be reported."""
    made = observed(chat(usage=usage, usage_source=source))

    found = [attributes["gen_ai.token.type"] for attributes, _ in made.points(names.TOKEN_USAGE)]
    assert found == kinds


def test_durations_are_in_seconds_with_the_conventions_boundaries() -> None:
    """As gen-ai-metrics.md advises them."""
    made = observed(chat(streaming=True))

    [duration] = made.raw_points(names.OPERATION_DURATION)
    [first] = made.raw_points(names.TIME_TO_FIRST_TOKEN)
    [tokens, _] = made.raw_points(names.TOKEN_USAGE)
    assert isinstance(duration, HistogramDataPoint)
    assert isinstance(first, HistogramDataPoint)
    assert isinstance(tokens, HistogramDataPoint)
    assert (duration.sum, first.sum) == (1.0, 0.2)
    assert [round(bound, 2) for bound in duration.explicit_bounds] == [
        *(0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64),
        *(1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92),
    ]
    assert (first.explicit_bounds[0], first.explicit_bounds[-1]) == (0.001, 10.0)
    assert (tokens.explicit_bounds[:3], tokens.explicit_bounds[-1]) == ((1, 4, 16), 67108864)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({}, None),
        ({"outcome": Outcome.REFUSED, "status": 400}, "400"),
        ({"outcome": Outcome.FAILED, "status": 503}, "503"),
        ({"outcome": Outcome.FAILED, "status": 200}, "failed"),
        ({"outcome": Outcome.DISCONNECTED, "status": 200}, None),
    ],
)
def test_an_error_is_named_by_its_status(changes: dict[str, object], error: str | None) -> None:
    """`error.type`, on the duration and on the span; a caller that leaves is no error."""
    made = observed(chat(**changes))

    [(attributes, _)] = made.points(names.OPERATION_DURATION)
    [span] = made.spans
    assert attributes.get("error.type") == error
    assert (span.attributes or {}).get("error.type") == error
    assert (span.status.status_code is StatusCode.ERROR) is (error is not None)


def test_a_whole_answer_has_no_first_token() -> None:
    """Its first byte comes after the last token."""
    assert observed(chat()).points(names.TIME_TO_FIRST_TOKEN) == []


def test_calls_are_counted_by_outcome_and_backend() -> None:
    """And by how they are billed, and where their counts come from."""
    made = observed(chat())

    assert made.points(names.CALLS) == [
        (
            {
                "aoai_meter.outcome": "served",
                "aoai_meter.backend": "east",
                "aoai_meter.deployment": "gpt-4o",
                "aoai_meter.tier": "standard",
                "aoai_meter.usage_source": "reported",
            },
            1,
        )
    ]


def test_each_attempt_is_measured_by_its_outcome() -> None:
    """Also those that failed over, and those without an answer."""
    statuses = [None, 429, 500, 400, 200]
    attempts = tuple(
        Attempt(backend=f"b{number}", status=status, duration_ms=250)
        for number, status in enumerate(statuses)
    )

    found = observed(chat(attempts=attempts)).points(names.ATTEMPT_DURATION)

    outcomes = ["unanswered", "throttled", "error", "refused", "served"]
    assert [attributes["aoai_meter.attempt.outcome"] for attributes, _ in found] == outcomes
    assert [attributes.get("http.response.status_code") for attributes, _ in found] == statuses
    assert {value for _, value in found} == {0.25}


def test_a_rejected_call_is_counted_by_its_error() -> None:
    """It has no event, no span and no backend."""
    made = Exported()
    made.monitoring.calls.rejected(401, "token")
    made.monitoring.calls.joined()

    outcome = {"aoai_meter.outcome": "rejected", "error.type": "token"}
    assert made.points(names.CALLS) == [({**outcome, "http.response.status_code": 401}, 1)]
    assert made.points(names.JOINED) == [({}, 1)]
    assert made.spans == []


def test_tokens_of_a_background_response_are_its_own_events() -> None:
    """The call counts once, and the tokens of both events."""
    response = chat(usage=TokenUsage(prompt_tokens=7, total_tokens=7))
    made = observed(response, chat(usage=NO_USAGE))

    assert [value for _, value in made.points(names.TOKEN_USAGE)] == [7]
    assert [value for _, value in made.points(names.CALLS)] == [1]


def test_a_span_is_the_child_of_the_callers() -> None:
    """Its place goes to the backend and into the event; other headers stay."""
    made = Exported()
    trace = made.monitoring.calls.begin(
        (("accept", "*/*"), ("traceparent", PARENT), ("tracestate", "v=1")),
        started_at=NOW,
        operation="chat/completions",
        deployment="gpt-4o",
    )
    made.monitoring.calls.ended(trace, [chat(time=NOW + timedelta(seconds=2))])

    [span] = made.spans
    assert span.context is not None
    assert span.parent is not None
    own = f"00-{span.context.trace_id:032x}-{span.context.span_id:016x}-01"
    assert trace.headers == (("accept", "*/*"), ("tracestate", "v=1"), ("traceparent", own))
    assert own[:35] == PARENT[:35]
    assert f"{span.parent.span_id:016x}" == PARENT[36:52]
    assert (span.name, span.kind) == ("chat gpt-4o", SpanKind.CLIENT)
    assert span.start_time is not None
    assert span.end_time is not None
    assert span.end_time - span.start_time == 2_000_000_000


def test_a_call_without_a_trace_begins_one() -> None:
    """The backend's work is then in it, too."""
    made = Exported()
    traces = [
        made.monitoring.calls.begin(
            (), started_at=NOW, operation="embeddings", deployment="embed"
        ).headers
        for _ in range(2_000)
    ]

    found = [headers for headers in traces if headers]
    assert 0 < len(found) < 200  # one in fifty
    [(name, value)] = found[0]
    assert (name, valid_traceparent(value)) == ("traceparent", value)


@pytest.mark.parametrize(
    ("trace_id", "flags", "spans"),
    [
        ("f" * 32, "01", 1),
        ("f" * 32, "00", 0),
        ("f" * 16 + "0" * 15 + "1", "00", 1),
    ],
)
def test_of_calls_that_their_caller_did_not_sample_some_have_a_span(
    trace_id: str, flags: str, spans: int
) -> None:
    """One in fifty, by their trace: the Functions host marks all calls so that come without one."""
    parent = f"00-{trace_id}-b7ad6b7169203331-{flags}"
    made = observed(chat(), headers=(("traceparent", parent),))

    assert len(made.spans) == spans
    assert len(made.points(names.CALLS)) == 1


def test_a_span_tells_usage_and_billing() -> None:
    """As gen-ai-spans.md names them, and with our own names."""
    usage = TokenUsage(
        prompt_tokens=10,
        completion_tokens=5,
        total_tokens=15,
        cached_tokens=4,
        reasoning_tokens=2,
    )
    call = chat(usage=usage, streaming=True)

    [span] = observed(call).spans

    assert span.attributes == {
        **COMMON,
        "gen_ai.request.stream": True,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 5,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.reasoning.output_tokens": 2,
        "http.response.status_code": 200,
        "aoai_meter.event_id": str(call.id),
        "aoai_meter.outcome": "served",
        "aoai_meter.backend": "east",
        "aoai_meter.tier": "standard",
        "aoai_meter.usage_source": "reported",
        "aoai_meter.attempts": 1,
    }


def test_a_subject_is_named_only_where_a_setting_allows_it() -> None:
    """On spans alone: metrics would have a series for each."""
    made = observed(chat(), made=Exported(WITH_SUBJECTS))

    [allowed], [usual] = made.spans, observed(chat()).spans
    assert (allowed.attributes or {})["enduser.id"] == "alice"
    assert "alice" not in str(usual.attributes)
    assert "alice" not in str(made.points(names.CALLS) + made.points(names.TOKEN_USAGE))


def test_without_traces_the_callers_trace_goes_on() -> None:
    """Metrics are recorded all the same."""
    made = Exported(has_traces=False)
    headers = (("traceparent", PARENT),)
    trace = made.monitoring.calls.begin(
        headers, started_at=NOW, operation="embeddings", deployment="embed"
    )
    made.monitoring.calls.ended(trace, [chat()])

    assert trace.headers == headers
    assert len(made.points(names.CALLS)) == 1


@pytest.mark.parametrize("operation", ["chat/completions", "responses"])
def test_text_from_a_conversation_is_chat(operation: str) -> None:
    """Operations that the conventions name have that name; others keep ours."""
    assert names.operation_name(operation) == "chat"
    assert names.operation_name("completions") == "text_completion"
    assert names.operation_name("audio/speech") == "audio/speech"


def test_a_fault_of_telemetry_reaches_no_call(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged once."""
    made = Exported()

    def fault(_backend: str) -> str:
        raise RuntimeError("a defect")

    made.monitoring.watch([], fault)
    for _ in range(2):
        made.monitoring.calls.ended(
            made.monitoring.calls.begin(
                (), started_at=NOW, operation="embeddings", deployment="embed"
            ),
            [chat()],
        )

    assert caplog.messages == ["telemetry_failed_unexpectedly"]
