"""`meter.ports.Telemetry` by OpenTelemetry: a call's metrics and its span, made at its one end.

A span begins with the call, since its id goes to the backend. All else is read off the call's event.
A fault in here is logged once, and never reaches a call.
"""

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime

from opentelemetry.context import Context
from opentelemetry.metrics import CallbackOptions, Meter, Observation
from opentelemetry.trace import (
    NonRecordingSpan,
    Span,
    SpanContext,
    SpanKind,
    Status,
    StatusCode,
    TraceFlags,
    Tracer,
    set_span_in_context,
)

from meter.adapters.telemetry import conventions as names
from meter.adapters.telemetry.distributions import Distributions
from meter.ports import Headers, Trace
from meter.usage import UsageEvent, UsageSource

TRACEPARENT = "traceparent"
# Of what metrics have too, what is not known when the span begins.
_LATER = ("gen_ai.response.model", "server.address", "server.port")

log = logging.getLogger(__name__)


class OpenTelemetryCalls:
    """Observes the calls of one process. `url_of` gives a backend's address, if it is known.

    `sampler` says by its `traceparent` whether a call gets a span; None leaves that to the SDK.
    """

    def __init__(
        self,
        meter: Meter,
        distributions: Distributions,
        tracer: Tracer | None,
        *,
        names_subjects: bool,
        sampler: Callable[[str | None], bool] | None = None,
    ) -> None:
        made = distributions.histogram
        durations, firsts = names.DURATION_BOUNDARIES, names.FIRST_TOKEN_BOUNDARIES
        self._tokens = made(names.TOKEN_USAGE, "{token}", names.TOKEN_BOUNDARIES)
        self._durations = made(names.OPERATION_DURATION, "s", durations)
        self._first_tokens = made(names.TIME_TO_FIRST_TOKEN, "s", firsts)
        self._attempts = made(names.ATTEMPT_DURATION, "s", durations)
        self._calls: Counter[names.Attributes] = Counter()  # read at each export
        self._joined = 0
        meter.create_observable_counter(names.CALLS, [self._read_calls], "{call}", "Calls.")
        # Always has a value, beside which `distributions` are exported.
        meter.create_observable_counter(
            names.JOINED, [self._read_joined], "{call}", "Joined calls."
        )
        self._tracer = tracer
        self._sampler = sampler
        self._names_subjects = names_subjects
        self._has_failed = False
        self.url_of: Callable[[str], str | None] = lambda _backend: None

    def begin(
        self, headers: Headers, *, started_at: datetime, operation: str, deployment: str
    ) -> Trace:
        """The call's span begins; the backend's work will be its child."""
        if self._tracer is None:
            return Trace(headers)
        try:
            parent = next((value for name, value in headers if name == TRACEPARENT), None)
            if self._sampler is not None and not self._sampler(parent):
                return Trace(headers)
            span = self._tracer.start_span(
                f"{names.operation_name(operation)} {deployment}",
                context=_parent(parent),
                kind=SpanKind.CLIENT,
                attributes=dict(names.call_attributes(operation, deployment, None, None)),
                start_time=_nanoseconds(started_at),
            )
            own = _traceparent(span.get_span_context())
        except Exception:
            self._log_fault()
            return Trace(headers)
        if own is None:
            return Trace(headers)
        others = [each for each in headers if each[0] != TRACEPARENT]
        return Trace((*others, (TRACEPARENT, own)), span)

    def ended(self, trace: Trace, events: Sequence[UsageEvent]) -> None:
        """The call's metrics, and the end of its span."""
        try:
            event = events[-1]
            url = None if event.backend is None else self.url_of(event.backend)
            common = names.call_attributes(event.operation, event.deployment, event.model, url)
            for each in events:
                self._count_tokens(each)
            self._measure(event, common)
            if isinstance(trace.span, Span):
                self._end(trace.span, event, common)
        except Exception:
            self._log_fault()

    def rejected(self, status: int, reason: str) -> None:
        """A call without a backend."""
        try:
            outcome = (names.OUTCOME, names.REJECTED)
            self._calls[outcome, (names.STATUS, status), (names.ERROR_TYPE, str(reason))] += 1
        except Exception:
            self._log_fault()

    def joined(self) -> None:
        """A repeat that joined a call."""
        self._joined += 1

    def _read_calls(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(count, dict(key)) for key, count in list(self._calls.items())]

    def _read_joined(self, _options: CallbackOptions) -> list[Observation]:
        return [Observation(self._joined)]

    def _count_tokens(self, event: UsageEvent) -> None:
        if event.usage_source is UsageSource.MISSING:
            return
        call, usage = (event.operation, event.deployment, event.model), event.usage
        for kind, count in (("input", usage.prompt_tokens), ("output", usage.completion_tokens)):
            if count:
                self._tokens.record(count, names.token_attributes(*call, kind))

    def _measure(self, event: UsageEvent, common: names.Attributes) -> None:
        error = names.error_type(event)
        attributes = common if error is None else (*common, (names.ERROR_TYPE, error))
        self._durations.record(event.duration_ms / 1000, attributes)
        if event.streaming and error is None and event.time_to_first_byte_ms is not None:
            self._first_tokens.record(event.time_to_first_byte_ms / 1000, common)
        backend = event.backend or ""
        counted = names.ending_attributes(
            event.outcome, backend, event.deployment, event.tier, event.usage_source
        )
        self._calls[counted] += 1
        for attempt in event.attempts:
            found = names.attempt_attributes(attempt.backend, attempt.status)
            self._attempts.record(attempt.duration_ms / 1000, found)

    def _end(self, span: Span, event: UsageEvent, common: names.Attributes) -> None:
        if span.is_recording():
            error, usage = names.error_type(event), event.usage
            found: dict[str, str | int] = {
                **{name: value for name, value in common if name in _LATER},
                "gen_ai.request.stream": event.streaming,
                "aoai_meter.event_id": str(event.id),
                names.OUTCOME: event.outcome.value,
                names.TIER: event.tier.value,
                names.USAGE_SOURCE: event.usage_source.value,
                names.STATUS: event.status,
                "aoai_meter.attempts": len(event.attempts),
            }
            if event.backend is not None:
                found[names.BACKEND] = event.backend
            if event.usage_source is not UsageSource.MISSING:
                found["gen_ai.usage.input_tokens"] = usage.prompt_tokens
                found["gen_ai.usage.output_tokens"] = usage.completion_tokens
                found["gen_ai.usage.cache_read.input_tokens"] = usage.cached_tokens
                found["gen_ai.usage.reasoning.output_tokens"] = usage.reasoning_tokens
            if self._names_subjects:
                found["enduser.id"] = event.subject
            if error is not None:
                found[names.ERROR_TYPE] = error
                span.set_status(Status(StatusCode.ERROR))
            span.set_attributes(found)
        span.end(_nanoseconds(event.time))

    def _log_fault(self) -> None:
        if not self._has_failed:
            self._has_failed = True
            log.exception("telemetry_failed_unexpectedly")


def _parent(parent: str | None) -> Context:
    """The caller's span, or none: never one of whatever runs here."""
    context = Context()
    if parent is None:
        return context
    _, trace_id, span_id, flags = parent.split("-")[:4]
    caller = SpanContext(
        trace_id=int(trace_id, 16),
        span_id=int(span_id, 16),
        is_remote=True,
        trace_flags=TraceFlags(int(flags, 16)),
    )
    return set_span_in_context(NonRecordingSpan(caller), context)


def _traceparent(span: SpanContext) -> str | None:
    if not span.is_valid:
        return None
    return f"00-{span.trace_id:032x}-{span.span_id:016x}-{span.trace_flags:02x}"


def _nanoseconds(moment: datetime) -> int:
    return round(moment.timestamp() * 1e6) * 1_000
