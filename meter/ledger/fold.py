"""Adds calls up: counts that can be added in any order and grouping, with the same result."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from meter.adjustment import Correction
from meter.ledger.keys import SumKey
from meter.usage import NO_USAGE, Outcome, TokenUsage, UsageSource
from meter.window import windows_of

UNKNOWN_MODEL = "unknown"


class Call(Protocol):
    """What is counted of a call: of its usage event, or of the marker that the ledger keeps."""

    @property
    def time(self) -> datetime:
        """The call's end."""
        ...

    @property
    def deployment(self) -> str:
        """The public name that was called."""
        ...

    @property
    def model(self) -> str | None:
        """The model, where an answer named one."""
        ...

    @property
    def tier(self) -> str:
        """How the capacity is bought."""
        ...

    @property
    def outcome(self) -> Outcome:
        """How the call ended."""
        ...

    @property
    def usage(self) -> TokenUsage:
        """Its tokens."""
        ...

    @property
    def usage_source(self) -> UsageSource:
        """Where the token counts come from."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sums:
    """What was counted under one key. Tokens are added field by field.

    Corrections are apart, so that what was metered can always be told: `adjusted` may be negative.
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
            tokens=_added(self.tokens, other.tokens),
            first_call_at=_earlier(self.first_call_at, other.first_call_at),
            last_call_at=_later(self.last_call_at, other.last_call_at),
            adjustments=self.adjustments + other.adjustments,
            # Seldom more than nothing, and this runs for every call.
            adjusted=_added(self.adjusted, other.adjusted) if other.adjustments else self.adjusted,
        )


def sums_of(call: Call | Correction) -> Sums:
    """What one call, or one correction of a call, counts."""
    if isinstance(call, Correction):
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


def sum_keys_of(call: Call | Correction) -> tuple[SumKey, SumKey, SumKey]:
    """The three sums it counts in: its hour, its day, its month."""
    hour, day, month = windows_of(call.time)
    names = call.deployment, call.model or UNKNOWN_MODEL, str(call.tier)
    return SumKey(hour, *names), SumKey(day, *names), SumKey(month, *names)


def fold(calls: Iterable[Call | Correction]) -> dict[SumKey, Sums]:
    """The sums of some calls of one subject. Each counts once for each time it is given."""
    sums: dict[SumKey, Sums] = {}
    for call in calls:
        counted = sums_of(call)
        for key in sum_keys_of(call):
            known = sums.get(key)
            sums[key] = counted if known is None else known + counted
    return sums


def _added(left: TokenUsage, right: TokenUsage) -> TokenUsage:
    return TokenUsage(
        prompt_tokens=left.prompt_tokens + right.prompt_tokens,
        completion_tokens=left.completion_tokens + right.completion_tokens,
        total_tokens=left.total_tokens + right.total_tokens,
        cached_tokens=left.cached_tokens + right.cached_tokens,
        reasoning_tokens=left.reasoning_tokens + right.reasoning_tokens,
        audio_tokens=left.audio_tokens + right.audio_tokens,
        image_tokens=left.image_tokens + right.image_tokens,
        seconds=left.seconds + right.seconds,
    )


def _earlier(left: datetime | None, right: datetime | None) -> datetime | None:
    if left is None or right is None:
        return right if left is None else left
    return min(left, right)


def _later(left: datetime | None, right: datetime | None) -> datetime | None:
    if left is None or right is None:
        return right if left is None else left
    return max(left, right)
