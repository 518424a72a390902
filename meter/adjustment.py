"""A signed correction of a counted call, as a value and on the wire (CloudEvents 1.0 JSON).

History is not edited: the call stays as it was counted, and the correction is counted beside it,
once, in columns of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from datetime import datetime
from typing import cast
from uuid import UUID

from meter.usage import Tier, TokenUsage, UsageEvent, encode_document, format_time

ADJUSTMENT_TYPE = "aoai.meter.adjustment.v1"
MAX_REASON_CHARS = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Correction:
    """What is counted of an adjustment: signed counts, and the sums that they belong to."""

    time: datetime
    deployment: str
    model: str | None
    tier: Tier
    usage: TokenUsage


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment(Correction):
    """One adjustment. `time` decides the window it counts in, `refers_to` is the call's event id."""

    id: UUID
    source: str
    subject: str
    refers_to: UUID
    reason: str


type Countable = UsageEvent | Adjustment


def encode_adjustment(adjustment: Adjustment) -> bytes:
    """Write one adjustment as CloudEvents 1.0 JSON, UTF-8, every field present."""
    return encode_document(
        {
            "specversion": "1.0",
            "type": ADJUSTMENT_TYPE,
            "source": adjustment.source,
            "id": str(adjustment.id),
            "subject": adjustment.subject,
            "time": format_time(adjustment.time),
            "datacontenttype": "application/json",
            "data": {
                "refers_to": str(adjustment.refers_to),
                "reason": adjustment.reason,
                "deployment": adjustment.deployment,
                "model": adjustment.model,
                "tier": adjustment.tier,
                "usage": usage_document(adjustment.usage),
            },
        }
    )


def usage_document(usage: TokenUsage) -> Mapping[str, int]:
    """The counts by name."""
    return {each.name: cast(int, getattr(usage, each.name)) for each in fields(TokenUsage)}
