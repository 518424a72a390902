"""Adds up calls; the result does not depend on their order or grouping."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime

from msgspec import Struct

from meter.adjustment import Counted, CountedAdjustment
from meter.ledger.keys import Dimensions, SumKey
from meter.usage import NO_USAGE, Context, Outcome, Tier, TokenUsage, UsageSource, total_usage
from meter.window import windows_of

UNKNOWN = "unknown"

type Place = tuple[str, str]
"""A region and a deployment type, empty where they are not known."""
NO_PLACE: Place = ("", "")


class Sums(Struct, frozen=True, kw_only=True, cache_hash=True, gc=False):
    """The counts under one key.

    Adjustments are apart, so that the metered counts stay visible; `adjusted` may be negative.
    `place` is that of the latest call: the same for all of a backend's deployment, until that moves.
    """

    calls: int = 0
    failed_calls: int = 0
    estimated_calls: int = 0
    missing_calls: int = 0
    tokens: TokenUsage = NO_USAGE
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None
    place: Place = NO_PLACE
    adjustments: int = 0
    adjusted: TokenUsage = NO_USAGE

    def __add__(self, other: "Sums") -> "Sums":
        return total_sums((self, other))


def total_sums(parts: Sequence[Sums]) -> Sums:
    """All of them added up."""
    if len(parts) == 1:
        return parts[0]
    calls = failed_calls = estimated_calls = missing_calls = adjustments = 0
    first: datetime | None = None
    last: tuple[datetime, Place] | None = None
    for each in parts:  # by hand, since this runs for every event and every sum
        calls += each.calls
        failed_calls += each.failed_calls
        estimated_calls += each.estimated_calls
        missing_calls += each.missing_calls
        adjustments += each.adjustments
        if (begun := each.first_call_at) is not None and (first is None or begun < first):
            first = begun
        if (ended := each.last_call_at) is not None and (
            last is None or (ended, each.place) > last
        ):
            last = ended, each.place
    return Sums(
        calls=calls,
        failed_calls=failed_calls,
        estimated_calls=estimated_calls,
        missing_calls=missing_calls,
        tokens=total_usage([each.tokens for each in parts]),
        first_call_at=first,
        last_call_at=last[0] if last else None,
        place=last[1] if last else max((each.place for each in parts), default=NO_PLACE),
        adjustments=adjustments,
        adjusted=total_usage([each.adjusted for each in parts]) if adjustments else NO_USAGE,
    )


def sums_of(call: Counted) -> Sums:
    """The counts of one call, without those of its tools, or of one adjustment."""
    if isinstance(call, CountedAdjustment):
        return Sums(place=_place_of(call), adjustments=1, adjusted=call.usage)
    return Sums(
        calls=1,
        failed_calls=int(call.outcome is Outcome.REFUSED or call.outcome is Outcome.FAILED),
        estimated_calls=int(call.usage_source is UsageSource.ESTIMATED),
        missing_calls=int(call.usage_source is UsageSource.MISSING),
        tokens=call.usage,
        first_call_at=call.time,
        last_call_at=call.time,
        place=_place_of(call),
    )


def dimensions_of(subject: str, call: Counted) -> Dimensions:
    """What the call, or the adjustment of a call, counts under."""
    values = (
        subject,
        call.client_app or UNKNOWN,
        call.deployment,
        call.model or UNKNOWN,
        call.backend or UNKNOWN,
        str(call.tier),
        str(call.context),
    )
    return tuple.__new__(Dimensions, values)  # half the time of its constructor, which is in Python


def parts_of(subject: str, call: Counted) -> list[tuple[Dimensions, Sums]]:
    """What is counted of a call, by dimensions: the call, and the tokens of other models for it.

    A tool's model is bought by the token, whatever tier the call has, and has no long context.
    """
    dimensions = dimensions_of(subject, call)
    parts = [(dimensions, sums_of(call))]
    if isinstance(call, CountedAdjustment):
        return parts
    for tool in call.tool_usage:
        own = dimensions._replace(
            deployment=tool.deployment,
            model=tool.model or UNKNOWN,
            tier=str(Tier.STANDARD),
            context=str(Context.SHORT),
        )
        region, deployment_type = _place_of(call)
        place = region, tool.deployment_type or deployment_type
        parts.append((own, Sums(tokens=tool.usage, place=place)))
    return parts


type Entry = tuple[tuple[SumKey, SumKey, SumKey], Sums]
"""What is added to these sums: of an hour, its day and its month, under the same dimensions."""


def entries_of(subject: str, call: Counted) -> list[Entry]:
    """What a call, or an adjustment, adds: to its hour, its day and its month."""
    hour, day, month = windows_of(call.time)
    return [
        ((SumKey(hour, found), SumKey(day, found), SumKey(month, found)), sums)
        for found, sums in parts_of(subject, call)
    ]


def keys_of(entries: Iterable[Entry]) -> set[SumKey]:
    """The sums that these are added to."""
    return {key for keys, _ in entries for key in keys}


def compacted(entries: Iterable[Entry]) -> list[Entry]:
    """The same in fewer entries: one for each hour and dimensions."""
    hours: dict[SumKey, tuple[tuple[SumKey, SumKey, SumKey], list[Sums]]] = {}
    for keys, sums in entries:
        if (known := hours.get(keys[0])) is None:
            hours[keys[0]] = keys, [sums]
        else:
            known[1].append(sums)
    return [(keys, total_sums(parts)) for keys, parts in hours.values()]


def add_up(entries: Iterable[Entry]) -> dict[SumKey, Sums]:
    """The sums of these entries. One that is given twice counts twice."""
    found: defaultdict[SumKey, list[Sums]] = defaultdict(list)
    for keys, sums in compacted(entries):
        for key in keys:
            found[key].append(sums)
    return {key: total_sums(parts) for key, parts in found.items()}


def fold(subject: str, calls: Iterable[Counted]) -> dict[SumKey, Sums]:
    """The sums of one subject's calls. A call that is given twice counts twice."""
    return add_up(entry for call in calls for entry in entries_of(subject, call))


def _place_of(call: Counted) -> Place:
    return call.region or "", call.deployment_type or ""
