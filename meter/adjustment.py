"""A signed adjustment of a counted call, as a value and on the wire (CloudEvents 1.0 JSON).

History is not edited: the call stays as it was counted, and the adjustment is counted once, in
columns of its own.
"""

from copy import replace
from uuid import UUID

from meter.usage import CountedCall, CountedUsage, UsageEvent, encode_envelope, usage_document

ADJUSTMENT_TYPE = "aoai.meter.adjustment.v1"
MAX_REASON_CHARS = 500


class CountedAdjustment(CountedUsage, frozen=True, kw_only=True, gc=False):
    """What is counted of an adjustment: signed counts, under the dimensions of its call."""

    client_app: str | None


class Adjustment(CountedAdjustment, frozen=True, kw_only=True, gc=False):
    """One adjustment; `refers_to` is the event id of the call."""

    id: UUID
    source: str
    subject: str
    refers_to: UUID
    reason: str


type Countable = UsageEvent | Adjustment
"""What arrives to be counted."""
type Counted = UsageEvent | CountedCall | CountedAdjustment
"""What is counted of it; its marker gives the latter two back."""


def encode_adjustment(adjustment: Adjustment) -> bytes:
    """Write one adjustment as CloudEvents 1.0 JSON, UTF-8, every field present."""
    data = {
        "refers_to": str(adjustment.refers_to),
        "reason": adjustment.reason,
        "client_app": adjustment.client_app,
        "deployment": adjustment.deployment,
        "model": adjustment.model,
        "backend": adjustment.backend,
        "tier": adjustment.tier,
        "context": adjustment.context,
        "usage": usage_document(adjustment.usage),
    }
    each = adjustment
    return encode_envelope(ADJUSTMENT_TYPE, each.source, each.id, each.subject, each.time, data)


def beside(adjustment: Adjustment, call: Counted) -> Adjustment:
    """The adjustment under the dimensions and at the place of its call, whatever its producer says."""
    return replace(
        adjustment,
        client_app=call.client_app,
        deployment=call.deployment,
        model=call.model,
        backend=call.backend,
        region=call.region,
        deployment_type=call.deployment_type,
        tier=call.tier,
        context=call.context,
    )
