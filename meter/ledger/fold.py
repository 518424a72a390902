"""Adds up calls; the result does not depend on their order or grouping."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from meter.adjustment import Counted, CountedAdjustment
from meter.ledger.keys import Dimensions, SumKey
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageSource
from meter.window import windows_of

UNKNOWN_MODEL = "unknown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """The counts under one key.

    Adjustments are apart, so that the metered counts stay visible; `adjusted` may be negative.
    """

    calls: int = 0
    failed_calls: int = 0
    estimated_calls: int = 0
    missing_calls: int = 0
    tokens: TokenUsage = NO_USAGE
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None
    adjustments: int = 0
    adjusted: TokenUsage = NO_USAGE

    def __add__(self, other: "Sums") -> "Sums":
        return Sums(
            calls=self.calls + other.calls,
            failed_calls=self.failed_calls + other.failed_calls,
            estimated_calls=self.estimated_calls + other.estimated_calls,
            missing_calls=self.missing_calls + other.missing_calls,
            tokens=self.tokens + other.tokens,
            first_call_at=min(
                filter(None, (self.first_call_at, other.first_call_at)), default=None
            ),
            last_call_at=max(filter(None, (self.last_call_at, other.last_call_at)), default=None),
            adjustments=self.adjustments + other.adjustments,
            # Adjustments are rare, and this runs for every call.
            adjusted=self.adjusted + other.adjusted if other.adjustments else self.adjusted,
        )


def sums_of(call: Counted) -> Sums:
    """The counts of one call or one adjustment."""
    if isinstance(call, CountedAdjustment):
        return Sums(adjustments=1, adjusted=call.usage)
    return Sums(
        calls=1,
        failed_calls=int(call.outcome in {Outcome.REFUSED, Outcome.FAILED}),
        estimated_calls=int(call.usage_source is UsageSource.ESTIMATED),
        missing_calls=int(call.usage_source is UsageSource.MISSING),
        tokens=call.usage,
        first_call_at=call.time,
        last_call_at=call.time,
    )


def sum_keys_of(subject: str, call: Counted) -> tuple[SumKey, SumKey, SumKey]:
    """The three sums the call counts in: its hour, its day, its month."""
    hour, day, month = windows_of(call.time)
    dimensions = Dimensions(
        subject=subject,
        deployment=call.deployment,
        model=call.model or UNKNOWN_MODEL,
        tier=str(call.tier),
    )
    return SumKey(hour, dimensions), SumKey(day, dimensions), SumKey(month, dimensions)


def fold(subject: str, calls: Iterable[Counted]) -> dict[SumKey, Sums]:
    """The sums of one subject's calls. A call that is given twice counts twice."""
    hours: dict[SumKey, tuple[tuple[SumKey, SumKey, SumKey], Sums]] = {}
    for call in calls:
        keys, counted = sum_keys_of(subject, call), sums_of(call)
        known = hours.get(keys[0])
        hours[keys[0]] = keys, counted if known is None else known[1] + counted
    sums: dict[SumKey, Sums] = {}
    for keys, counted in hours.values():
        for key in keys:
            total = sums.get(key)
            sums[key] = counted if total is None else total + counted
    return sums
