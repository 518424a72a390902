"""Reads events from parsed JSON member by member, and says what is wrong with one.

It decides what an event is. `shortcut.py` reads most messages, and no event otherwise than here.
"""

from collections.abc import Iterable

from meter.adjustment import MAX_REASON_CHARS, Adjustment
from meter.strict import MAX_TOKENS, Fields
from meter.trace import valid_traceparent
from meter.usage import (
    COUNT_NAMES,
    MANDATORY_COUNTS,
    MAX_SUBJECT_CHARS,
    MAX_TOOLS,
    Attempt,
    Context,
    Outcome,
    Principal,
    Tier,
    TokenUsage,
    ToolUsage,
    UsageEvent,
    UsageSource,
)

MAX_URI_CHARS = 1024
_COUNTS, _MANDATORY = frozenset(COUNT_NAMES), sorted(MANDATORY_COUNTS, key=COUNT_NAMES.index)


def read_adjustment(fields: Fields) -> Adjustment:
    """An adjustment's CloudEvent as a value. Raises Invalid."""
    fields.exactly("specversion", "1.0")
    data = fields.part("data")
    return Adjustment(
        id=fields.uuid("id"),
        source=fields.text("source", most=MAX_URI_CHARS),
        time=fields.moment("time"),
        subject=fields.text("subject", most=MAX_SUBJECT_CHARS),
        refers_to=data.uuid("refers_to"),
        reason=data.text("reason", most=MAX_REASON_CHARS),
        client_app=data.optional_text("client_app"),
        deployment=data.text("deployment"),
        model=data.optional_text("model"),
        backend=data.optional_text("backend"),
        tier=data.choice("tier", Tier),
        context=data.choice("context", Context, absent=Context.SHORT),
        usage=_usage(data.part("usage"), least=-MAX_TOKENS),
    )


def read_usage_event(fields: Fields) -> UsageEvent:
    """A usage event's CloudEvent as a value. Raises Invalid."""
    fields.exactly("specversion", "1.0")
    data = fields.part("data")
    return UsageEvent(
        id=fields.uuid("id"),
        source=fields.text("source", most=MAX_URI_CHARS),
        time=fields.moment("time"),
        principal=_principal(fields, data.part("principal")),
        operation=data.text("operation"),
        deployment=data.text("deployment"),
        model=data.optional_text("model"),
        api_version=data.optional_text("api_version"),
        backend=data.optional_text("backend"),
        region=data.label("region"),
        deployment_type=data.label("deployment_type"),
        tier=data.choice("tier", Tier, absent=Tier.STANDARD),
        service_tier=data.label("service_tier"),
        context=data.choice("context", Context, absent=Context.SHORT),
        spilled_from=data.optional_text("spilled_from"),
        outcome=data.choice("outcome", Outcome),
        status=data.count("status"),
        streaming=data.flag("streaming"),
        usage=_usage(data.part("usage")),
        tool_usage=_tools(data),
        usage_source=data.choice("usage_source", UsageSource),
        usage_raw=data.optional_object("usage_raw"),
        attempts=tuple(_attempt(attempt) for attempt in data.parts("attempts")),
        started_at=data.moment("started_at"),
        duration_ms=data.count("duration_ms"),
        time_to_first_byte_ms=data.optional_count("time_to_first_byte_ms"),
        client_retry_count=data.count("client_retry_count"),
        traceparent=valid_traceparent(fields.members.get("traceparent")),
    )


def _principal(fields: Fields, caller: Fields) -> Principal:
    return Principal(
        subject=fields.text("subject", most=MAX_SUBJECT_CHARS),
        issuer=caller.text("issuer", most=MAX_URI_CHARS),
        tenant=caller.optional_text("tenant"),
        object_id=caller.optional_text("object_id"),
        client_app=caller.optional_text("client_app"),
        name=caller.label("name"),
    )


def _usage(usage: Fields, *, least: int = 0) -> TokenUsage:
    counts = {n: usage.count(n, least=least) for n in usage.members if n in _COUNTS}
    counts |= {n: usage.count(n, least=least) for n in _MANDATORY if n not in counts}  # refused
    return TokenUsage(**counts)


def _tools(data: Fields) -> tuple[ToolUsage, ...]:
    tools = merged(
        ToolUsage(
            deployment=tool.text("deployment"),
            model=tool.optional_text("model"),
            deployment_type=tool.label("deployment_type"),
            usage=_usage(tool.part("usage")),
        )
        for tool in data.optional_parts("tool_usage")
    )
    if len(tools) > MAX_TOOLS:
        raise data.refused("tool_usage", f"must be of {MAX_TOOLS} deployments at most")
    return tools


def merged(tools: Iterable[ToolUsage]) -> tuple[ToolUsage, ...]:
    """Usage of other models; that of one deployment and model is one, of the type stated last."""
    found: dict[tuple[str, str | None], ToolUsage] = {}
    for tool in tools:
        names = tool.deployment, tool.model
        before = found.get(names)
        if before is not None:
            tool = ToolUsage(
                deployment=tool.deployment,
                model=tool.model,
                deployment_type=tool.deployment_type or before.deployment_type,
                usage=before.usage + tool.usage,
            )
        found[names] = tool
    return tuple(found.values())


def _attempt(attempt: Fields) -> Attempt:
    return Attempt(
        backend=attempt.text("backend"),
        status=attempt.optional_count("status"),
        duration_ms=attempt.count("duration_ms"),
    )
