"""Reads a message of plain usage events in one step: what is usual on the hub, in a tenth of the time.

msgspec reads and checks JSON by the types below, in C. They accept a part of what the careful reader
accepts, as the very same values. Whatever is not plain, be it invalid, unusual or only unknown here,
leaves the whole message to the careful reader, which alone refuses events.
"""

from datetime import UTC, datetime
from functools import lru_cache
from sys import intern
from typing import Annotated
from uuid import UUID

from msgspec import DecodeError, Meta, Struct, defstruct
from msgspec.json import Decoder
from msgspec.structs import astuple

from meter.ledger.reading.careful import MAX_URI_CHARS, merged
from meter.strict import FIRST_YEAR, MAX_TOKENS
from meter.trace import valid_traceparent
from meter.usage import (
    COUNT_NAMES,
    EVENT_TYPE,
    MANDATORY_COUNTS,
    MAX_NAME_CHARS,
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
    clean_name,
)

MAX_LABELS = 1_024  # of regions, deployment types and tiers, which are few

_Name = Annotated[str, Meta(min_length=1, max_length=MAX_NAME_CHARS)]
_Subject = Annotated[str, Meta(min_length=1, max_length=MAX_SUBJECT_CHARS)]
_Uri = Annotated[str, Meta(min_length=1, max_length=MAX_URI_CHARS)]
_Label = Annotated[str, Meta(max_length=MAX_NAME_CHARS)]
_Count = Annotated[int, Meta(ge=0, le=MAX_TOKENS)]

# Of any other depth or size, the backend's own text is read with care.
_Leaf = bool | Annotated[int, Meta(ge=-MAX_TOKENS, le=MAX_TOKENS)] | float | str | None
_Inner = _Leaf | dict[str, _Leaf] | list[_Leaf]
_Middle = _Leaf | dict[str, _Inner] | list[_Inner]
_Outer = _Leaf | dict[str, _Middle] | list[_Middle]
_Raw = dict[str, _Outer]


class _Plain(Struct, forbid_unknown_fields=True, gc=False):
    """Members that all must be known, or they could mean anything."""


# The mandatory ones have no default. In the order of `TokenUsage`, whose values they are.
_Counts: type[Struct] = defstruct(
    "_Counts",
    [(name, _Count) if name in MANDATORY_COUNTS else (name, _Count, 0) for name in COUNT_NAMES],
    bases=(_Plain,),
    kw_only=True,
    gc=False,
)


class _Attempt(_Plain):
    backend: _Name
    duration_ms: _Count
    status: _Count | None = None


class _Tool(_Plain):
    deployment: _Name
    usage: _Counts  # type: ignore[valid-type]
    model: _Subject | None = None
    deployment_type: _Label | None = None


class _Principal(_Plain):
    issuer: _Uri
    tenant: _Subject | None = None
    object_id: _Subject | None = None
    client_app: _Subject | None = None
    name: _Label | None = None


class _Data(_Plain):
    principal: _Principal
    operation: _Name
    deployment: _Name
    outcome: Outcome
    status: _Count
    streaming: bool
    usage: _Counts  # type: ignore[valid-type]
    usage_source: UsageSource
    attempts: list[_Attempt]
    started_at: _Name
    duration_ms: _Count
    client_retry_count: _Count
    model: _Subject | None = None
    api_version: _Subject | None = None
    backend: _Subject | None = None
    region: _Label | None = None
    deployment_type: _Label | None = None
    tier: Tier | None = None
    service_tier: _Label | None = None
    context: Context | None = None
    spilled_from: _Subject | None = None
    tool_usage: list[_Tool] | None = None
    usage_raw: _Raw | None = None
    time_to_first_byte_ms: _Count | None = None


class _Event(_Plain):
    specversion: str
    type: str
    source: _Uri
    id: UUID
    subject: _Subject
    time: _Name
    data: _Data
    datacontenttype: str | None = None
    traceparent: str | None = None


class _NotPlain(Exception):
    """A member is not plain; not all can be said by a type."""


_MESSAGE = Decoder(list[_Event])
_label = lru_cache(MAX_LABELS)(clean_name)


def read_plain(body: bytes) -> list[UsageEvent]:
    """The events of a message that is a batch of plain ones; nothing for any other message."""
    try:
        return [_usage_event(event, event.data) for event in _MESSAGE.decode(body.decode())]
    except (DecodeError, _NotPlain, ValueError, RecursionError):
        return []


def _usage_event(event: _Event, data: _Data) -> UsageEvent:
    if event.type != EVENT_TYPE or event.specversion != "1.0":
        raise _NotPlain
    return UsageEvent(
        id=event.id,
        source=event.source,
        time=_moment(event.time),
        principal=_principal(event.subject, data.principal),
        operation=data.operation,
        deployment=intern(data.deployment),
        model=None if data.model is None else intern(data.model),
        api_version=data.api_version,
        backend=None if data.backend is None else intern(data.backend),
        region=None if data.region is None else _label(data.region),
        deployment_type=None if data.deployment_type is None else _label(data.deployment_type),
        tier=data.tier or Tier.STANDARD,
        service_tier=None if data.service_tier is None else _label(data.service_tier),
        context=data.context or Context.SHORT,
        spilled_from=data.spilled_from,
        outcome=data.outcome,
        status=data.status,
        streaming=data.streaming,
        usage=TokenUsage._make(astuple(data.usage)),
        tool_usage=_tools(data.tool_usage) if data.tool_usage else (),
        usage_source=data.usage_source,
        usage_raw=data.usage_raw,
        attempts=tuple([_attempt(attempt) for attempt in data.attempts]),
        started_at=_moment(data.started_at),
        duration_ms=data.duration_ms,
        time_to_first_byte_ms=data.time_to_first_byte_ms,
        client_retry_count=data.client_retry_count,
        traceparent=None if event.traceparent is None else valid_traceparent(event.traceparent),
    )


def _principal(subject: str, caller: _Principal) -> Principal:
    return Principal(
        subject=subject,
        issuer=caller.issuer,
        tenant=caller.tenant,
        object_id=caller.object_id,
        client_app=caller.client_app,
        name=None if caller.name is None else clean_name(caller.name),
    )


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is not UTC or moment.year < FIRST_YEAR:
        raise _NotPlain
    return moment


def _tools(tools: list[_Tool]) -> tuple[ToolUsage, ...]:
    found = merged(
        ToolUsage(
            deployment=tool.deployment,
            model=tool.model,
            deployment_type=_label(tool.deployment_type),
            usage=TokenUsage._make(astuple(tool.usage)),
        )
        for tool in tools
    )
    if len(found) > MAX_TOOLS:
        raise _NotPlain
    return found


def _attempt(attempt: _Attempt) -> Attempt:
    return Attempt(backend=attempt.backend, status=attempt.status, duration_ms=attempt.duration_ms)
