"""The marker row of a call: that it is counted, and what was counted, so that sums can be checked.

| row key       | column | type     | meaning                                                      |
|---------------|--------|----------|--------------------------------------------------------------|
| `c|` event id | At     | DateTime | the call's end                                               |
|               | Call   | String   | JSON, see `_marker`; `usage` leaves zeros out                |

Nothing of what was said in the call is in it.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import datetime

from meter.ledger.keys import call_row_key
from meter.ports import Row
from meter.usage import Outcome, Tier, TokenUsage, UsageEvent, UsageSource


@dataclass(frozen=True, slots=True, kw_only=True)
class CountedCall:
    """What a marker says of its call (see `fold.Call`)."""

    time: datetime
    deployment: str
    model: str | None
    tier: Tier
    outcome: Outcome
    usage: TokenUsage
    usage_source: UsageSource


def marker_rows(events: Iterable[UsageEvent]) -> list[Row]:
    """The rows that mark these calls as counted."""
    return [_marker(event) for event in events]


def read_marker(row: Row) -> CountedCall:
    """What was counted. Raises ValueError when the row is not as it was written."""
    try:
        time, call = row.columns["At"], json.loads(str(row.columns["Call"]))
        if not isinstance(time, datetime):
            raise TypeError(f"At is {time!r}")
        return CountedCall(
            time=time,
            deployment=call["deployment"],
            model=call["model"],
            tier=Tier(call["tier"]),
            outcome=Outcome(call["outcome"]),
            usage=TokenUsage(**{name: int(count) for name, count in call["usage"].items()}),
            usage_source=UsageSource(call["source"]),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise ValueError(f"{row.key} cannot be read: {exc!r}") from exc


def _marker(event: UsageEvent) -> Row:
    call = {
        "deployment": event.deployment,
        "model": event.model,
        "tier": event.tier,
        "backend": event.backend,
        "operation": event.operation,
        "outcome": event.outcome,
        "status": event.status,
        "source": event.usage_source,
        "usage": {name: count for name, count in asdict(event.usage).items() if count},
    }
    text = json.dumps(call, ensure_ascii=False, separators=(",", ":"))
    return Row(key=call_row_key(event.id), columns={"At": event.time, "Call": text})
