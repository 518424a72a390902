"""The marker row of a call: it is counted, and with what, so that sums can be checked.

| row key       | column | type     | meaning                                                      |
|---------------|--------|----------|--------------------------------------------------------------|
| `c|` event id | At     | DateTime | the call's end                                               |
|               | Call   | String   | JSON, see `marker_row`; `usage` omits zeros                     |

An adjustment's marker is the same, with `adjusts` (the call's id) and `reason` in its JSON.

It holds no prompt and no completion.
"""

import json
from datetime import datetime

from meter.adjustment import Adjustment, Countable, Counted, CountedAdjustment
from meter.ledger.keys import call_row_key
from meter.ports import Row
from meter.usage import CountedCall, Outcome, Tier, TokenUsage, UsageSource


def read_marker(row: Row) -> Counted:
    """The counts of a marker. Raises ValueError if the row is not as the app writes it."""
    try:
        time, call = row.columns["At"], json.loads(str(row.columns["Call"]))
        if not isinstance(time, datetime):
            raise TypeError(f"At is {time!r}")
        usage = TokenUsage(**{name: int(count) for name, count in call["usage"].items()})
        deployment, model, tier = call["deployment"], call["model"], Tier(call["tier"])
        if "adjusts" in call:
            return CountedAdjustment(
                time=time, deployment=deployment, model=model, tier=tier, usage=usage
            )
        return CountedCall(
            time=time,
            deployment=deployment,
            model=model,
            tier=tier,
            outcome=Outcome(call["outcome"]),
            usage=usage,
            usage_source=UsageSource(call["source"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"{row.key} cannot be read: {exc!r}") from exc


def marker_row(event: Countable) -> Row:
    """The row that marks this call or adjustment as counted."""
    call = {
        "deployment": event.deployment,
        "model": event.model,
        "tier": event.tier,
        **_details(event),
        "usage": {name: count for name, count in event.usage.as_document().items() if count},
    }
    text = json.dumps(call, ensure_ascii=False, separators=(",", ":"))
    return Row(key=call_row_key(event.id), columns={"At": event.time, "Call": text})


def _details(event: Countable) -> dict[str, object]:
    if isinstance(event, Adjustment):
        return {"adjusts": str(event.refers_to), "reason": event.reason}
    return {
        "backend": event.backend,
        "operation": event.operation,
        "outcome": event.outcome,
        "status": event.status,
        "source": event.usage_source,
    }
