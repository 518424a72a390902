"""The marker row of a call: it is counted, and with what, so that sums can be checked.

| row key       | column | type     | meaning                                                      |
|---------------|--------|----------|--------------------------------------------------------------|
| `c|` event id `|` subject | At | DateTime | the call's end                                    |
|               | Call   | String   | JSON, see `marker_row`; `usage` omits zeros                     |
|               | Subject | String  | only where the row key has but its hash                         |

An adjustment's marker is the same, with `adjusts` (the call's id) and `reason` in its JSON.

It holds no prompt and no completion.
"""

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType
from msgspec.json import Encoder

from meter.adjustment import Adjustment, Countable, CountedAdjustment
from meter.ledger.keys import call_row_key, is_hashed, subject_key, unescape
from meter.ports import Row
from meter.usage import (
    Context,
    CountedCall,
    Outcome,
    Tier,
    TokenUsage,
    ToolUsage,
    UsageEvent,
    UsageSource,
)

_JSON = Encoder()


class _Names(Struct, kw_only=True, gc=False):
    """The beginning of a marker's JSON, whose members have the order of these fields."""

    app: str | None
    deployment: str
    model: str | None
    backend: str | None
    tier: Tier
    context: Context
    region: str | None
    deployment_type: str | None


class _Call(_Names, kw_only=True, gc=False):
    operation: str
    outcome: Outcome
    status: int
    source: UsageSource
    tools: list[dict[str, object]] | UnsetType
    usage: dict[str, int]


class _Adjustment(_Names, kw_only=True, gc=False):
    adjusts: UUID
    reason: str
    usage: dict[str, int]


def read_marker(row: Row) -> CountedCall | CountedAdjustment:
    """The counts of a marker. Raises ValueError if the row is not as the app writes it."""
    try:
        time, call = row.columns["At"], json.loads(str(row.columns["Call"]))
        if not isinstance(time, datetime):
            raise TypeError(f"At is {time!r}")
        names = {
            "time": time,
            "client_app": call["app"],
            "deployment": call["deployment"],
            "model": call["model"],
            "backend": call["backend"],
            "region": call["region"],
            "deployment_type": call["deployment_type"],
            "tier": Tier(call["tier"]),
            "context": Context(call["context"]),
            "usage": _usage(call["usage"]),
        }
        if "adjusts" in call:
            return CountedAdjustment(**names)
        return CountedCall(
            **names,
            outcome=Outcome(call["outcome"]),
            usage_source=UsageSource(call["source"]),
            tool_usage=tuple(
                ToolUsage(
                    deployment=tool["deployment"],
                    model=tool["model"],
                    deployment_type=tool.get("deployment_type"),
                    usage=_usage(tool["usage"]),
                )
                for tool in call.get("tools", ())
            ),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"{row.key} cannot be read: {exc!r}") from exc


def marker_row(event: Countable) -> Row:
    """The row that marks this call or adjustment as counted."""
    call = _adjustment(event) if isinstance(event, Adjustment) else _call(event)
    text = _JSON.encode(call).decode()
    columns: dict[str, object] = {"At": event.time, "Call": text}
    subject = event.subject
    key = call_row_key(event.id, subject)
    if is_hashed(key):
        columns["Subject"] = subject
    return Row(key=key, columns=columns)


def subject_of(row: Row) -> str:
    """The subject of a marker's call; its key component where only a hash of it is left."""
    key = subject_key(row.key)
    return unescape(key) or str(row.columns.get("Subject", key))


def _call(event: UsageEvent) -> _Call:
    tools = [tool.as_document(tool.usage.nonzero()) for tool in event.tool_usage]
    return _Call(
        app=event.client_app,
        deployment=event.deployment,
        model=event.model,
        backend=event.backend,
        tier=event.tier,
        context=event.context,
        region=event.region,
        deployment_type=event.deployment_type,
        operation=event.operation,
        outcome=event.outcome,
        status=event.status,
        source=event.usage_source,
        tools=tools or UNSET,
        usage=event.usage.nonzero(),
    )


def _adjustment(event: Adjustment) -> _Adjustment:
    return _Adjustment(
        app=event.client_app,
        deployment=event.deployment,
        model=event.model,
        backend=event.backend,
        tier=event.tier,
        context=event.context,
        region=event.region,
        deployment_type=event.deployment_type,
        adjusts=event.refers_to,
        reason=event.reason,
        usage=event.usage.nonzero(),
    )


def _usage(counts: Mapping[str, Any]) -> TokenUsage:
    if not all(type(count) is int for count in counts.values()):
        raise TypeError(f"counts are {counts!r:.200}")
    return TokenUsage(**counts)
