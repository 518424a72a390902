"""Builders of usage events, of their documents and of the hub messages that carry them.

All have defaults, so that a test states only what matters to it.
"""

import json
from copy import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

from meter.adjustment import Adjustment, Countable, encode_adjustment
from meter.ledger.decode import Message
from meter.usage import (
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
    clean_name,
    encode_batch,
    encode_event,
    new_event_id,
)

NOW = datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
RETENTION = timedelta(days=100)
PRINCIPAL = Principal(
    subject="alice",
    issuer="https://login.example/tenant/v2.0",
    tenant="tenant",
    object_id="object",
    client_app="app",
)
USAGE = TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15)
EVENT = UsageEvent(
    id=new_event_id(NOW, bytes(10)),
    source="/aoai-meter/test",
    time=NOW,
    principal=PRINCIPAL,
    operation="chat",
    deployment="gpt-4o",
    model="gpt-4o-2024-11-20",
    api_version="2024-10-21",
    backend="east",
    tier=Tier.STANDARD,
    outcome=Outcome.SERVED,
    status=200,
    streaming=False,
    usage=USAGE,
    usage_source=UsageSource.REPORTED,
    usage_raw={"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
    attempts=(Attempt(backend="east", status=200, duration_ms=700),),
    started_at=NOW - timedelta(seconds=1),
    duration_ms=1000,
    time_to_first_byte_ms=200,
)


def event_id(number: int) -> UUID:
    """An id made from a number; ids sort as the numbers do."""
    return new_event_id(NOW, number.to_bytes(10))


def usage_event(number: int = 1, *, subject: str = "alice", **changes: Any) -> UsageEvent:
    """An event with an id of its own. `changes` are fields of UsageEvent."""
    principal = replace(PRINCIPAL, subject=subject)
    return replace(EVENT, **{"id": event_id(number), "principal": principal, **changes})


def document(event: UsageEvent = EVENT, **members: Any) -> dict[str, Any]:
    """The event's CloudEvent. `members` replace top-level ones; a value of `...` removes one."""
    whole: dict[str, Any] = json.loads(encode_event(event))
    return _changed(whole, members)


def document_with_data(**members: Any) -> dict[str, Any]:
    """A CloudEvent whose `data` has other members; a value of `...` removes one."""
    whole = document()
    return {**whole, "data": _changed(whole["data"], members)}


def adjustment(number: int = 1, *, subject: str = "alice", **changes: Any) -> Adjustment:
    """An adjustment of the event of that number. `changes` are fields of Adjustment."""
    made = Adjustment(
        id=event_id(1_000_000 + number),
        source="/aoai-meter/adjust",
        time=NOW,
        subject=subject,
        refers_to=event_id(number),
        reason="the backend was billed twice",
        client_app=EVENT.client_app,
        deployment=EVENT.deployment,
        model=EVENT.model,
        backend=EVENT.backend,
        tier=EVENT.tier,
        usage=TokenUsage(prompt_tokens=-4, completion_tokens=-1, total_tokens=-5),
    )
    return replace(made, **changes)


def message(*events: Countable, sequence_number: int = 1) -> Message:
    """A hub message that holds the events as a batch."""
    return raw_message(encode_batch(map(encoded, events)), sequence_number=sequence_number)


def encoded(event: Countable) -> bytes:
    """The event as a message on the hub."""
    return encode_adjustment(event) if isinstance(event, Adjustment) else encode_event(event)


def raw_message(body: bytes, *, sequence_number: int = 1) -> Message:
    """A hub message with any body."""
    return Message(body=body, hub_partition="0", sequence_number=sequence_number, enqueued_at=NOW)


def json_message(value: object, *, sequence_number: int = 1) -> Message:
    """A hub message whose body is that JSON value."""
    return raw_message(json.dumps(value).encode(), sequence_number=sequence_number)


def texts(most: int) -> st.SearchStrategy[str]:
    """Texts of 1 to `most` characters of any kind that UTF-8 can write."""
    return st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=most)


def token_usages(most: int = 10**12) -> st.SearchStrategy[TokenUsage]:
    """Any token counts."""
    counts = st.integers(0, most)
    return st.builds(TokenUsage, **dict.fromkeys(TokenUsage._fields, counts))


def usage_events() -> st.SearchStrategy[UsageEvent]:
    """Any event the front door could publish."""
    moments = st.datetimes(datetime(2000, 1, 2), datetime(2100, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001  # hypothesis requires naive bounds
    counts, names = st.integers(0, 10**12), texts(128)
    wide_names = st.none() | texts(255)
    labels = st.none() | texts(128).map(clean_name)
    tools = st.builds(
        ToolUsage,
        deployment=names,
        model=wide_names,
        deployment_type=labels,
        usage=token_usages(),
    )
    return st.builds(
        UsageEvent,
        id=st.uuids(),
        source=texts(200),
        time=moments,
        principal=st.builds(
            Principal,
            subject=texts(255),
            issuer=texts(200),
            tenant=wide_names,
            object_id=wide_names,
            client_app=wide_names,
            name=labels,
        ),
        operation=names,
        deployment=names,
        model=wide_names,
        api_version=wide_names,
        backend=wide_names,
        region=labels,
        deployment_type=labels,
        tier=st.sampled_from(Tier),
        service_tier=labels,
        context=st.sampled_from(Context),
        spilled_from=wide_names,
        outcome=st.sampled_from(Outcome),
        status=counts,
        streaming=st.booleans(),
        usage=token_usages(),
        tool_usage=st.lists(
            tools, max_size=MAX_TOOLS, unique_by=lambda tool: (tool.deployment, tool.model)
        ).map(tuple),
        usage_source=st.sampled_from(UsageSource),
        usage_raw=st.none()
        | st.dictionaries(texts(20), counts | texts(20) | st.none(), max_size=5),
        attempts=st.lists(
            st.builds(Attempt, backend=names, status=st.none() | counts, duration_ms=counts),
            max_size=3,
        ).map(tuple),
        started_at=moments,
        duration_ms=counts,
        time_to_first_byte_ms=st.none() | counts,
        client_retry_count=counts,
        traceparent=st.none() | traceparents(),
    )


def traceparents() -> st.SearchStrategy[str]:
    """Any valid parent of version 00."""
    ids = st.tuples(st.integers(1, 2**128 - 1), st.integers(1, 2**64 - 1), st.integers(0, 255))
    return ids.map(lambda each: f"00-{each[0]:032x}-{each[1]:016x}-{each[2]:02x}")


def _changed(whole: dict[str, Any], members: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**whole, **members}.items() if value is not ...}
