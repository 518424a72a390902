"""Compares counted usage with what Azure Monitor recorded, deployment by deployment.

A line is a deployment of an account under its own name there, with all that is counted under it
(`matching.py`).

| standing       | meaning                                                              | is judged |
|----------------|----------------------------------------------------------------------|-----------|
| agrees         | prompt, completion and total tokens are within the tolerance         | yes       |
| differs        | at least one of them is not                                          | yes       |
| not ours       | a deployment on our accounts that no backend names: called directly  | yes       |
| ignored        | the same, but the terms ignore it                                    | no        |
| not comparable | calls to an account that was not queried                             | no        |

Azure Monitor records a call at the time of its processing, the meter at the time of its end, so
hours may differ at their edges. Lines are judged by their sums over the whole range. How the sums
divide into tiers, and how many calls spilled over, is shown and not judged: not every account's
metrics are split by them.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from meter.ports import RowStore
from meter.reports.matching import BackendNames, Match, match, provisioned_in
from meter.reports.query import Query
from meter.reports.tally import (
    JUDGED_TOKENS,
    CountedUnder,
    Hours,
    OwnDeployment,
    Pair,
    Recorded,
    Tally,
)
from meter.reports.terms import Terms
from meter.reports.usage import read_usage
from meter.usage import Tier
from meter.window import Window

type Counted = Mapping[CountedUnder, Hours]

_PAID_BY_WORD = {"priority": Tier.PRIORITY, "flex": Tier.FLEX}


class Standing(StrEnum):
    """The result for one line, in the order in which lines are shown."""

    DIFFERS = "differs"
    NOT_OURS = "not ours"
    AGREES = "agrees"
    IGNORED = "ignored"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One deployment of an account; several, where any of them may have served spilled calls.

    Without one it is a public name on a `backend`, and `reason` says why it is not comparable.
    `tiers` are the total tokens by tier and `spilled` the calls that spilled over in Azure to this
    deployment; None where Azure's side is not known.
    """

    names: tuple[str, ...]
    own: tuple[OwnDeployment, ...]
    standing: Standing
    hours: Mapping[Window, Pair]
    tiers: Mapping[Tier, Pair] | None = None
    spilled: Pair | None = None
    backend: str = ""
    reason: str = ""

    @property
    def label(self) -> str:
        """Azure's names; where the account is not known, the public name and the backend."""
        if self.own:
            return ", ".join(own.label for own in self.own)
        return f"{', '.join(self.names)} at {self.backend}"

    @property
    def sums(self) -> Pair:
        """All hours added up."""
        return sum(self.hours.values(), Pair())


@dataclass(frozen=True, slots=True, kw_only=True)
class Reconciliation:
    """The lines of a comparison: those that differ first, by the size of the difference."""

    terms: Terms
    lines: tuple[Line, ...]

    @property
    def judged(self) -> tuple[Line, ...]:
        """The lines on which the verdict depends."""
        not_judged = {Standing.IGNORED, Standing.NOT_COMPARABLE}
        return tuple(line for line in self.lines if line.standing not in not_judged)

    @property
    def beyond(self) -> tuple[Line, ...]:
        """The judged lines beyond the tolerance. If there are none, their total is within it too."""
        return tuple(line for line in self.judged if not line.sums.is_within(self.terms.tolerance))

    @property
    def total(self) -> Pair:
        """All judged lines added up."""
        return sum((line.sums for line in self.judged), Pair())

    @property
    def agrees(self) -> bool:
        """The verdict. If nothing was compared, nothing agrees."""
        return bool(self.judged) and not self.beyond


async def read_counted(store: RowStore, query: Query) -> dict[CountedUnder, Hours]:
    """The counted usage by hour, over all subjects and models. Raises StorageUnavailable.

    The query is grouped as `CountedUnder` is.
    """
    counted: defaultdict[CountedUnder, dict[Window, Tally]] = defaultdict(dict)
    async for row in read_usage(store, query):
        assert row.window is not None
        sums = row.sums
        counted[CountedUnder(*row.names)][row.window] = Tally(
            **{name: getattr(sums.tokens, name) for name in JUDGED_TOKENS},
            calls=sums.calls,
            estimated_calls=sums.estimated_calls,
            missing_calls=sums.missing_calls,
        )
    return dict(counted)


def reconcile(
    terms: Terms,
    backends: Sequence[BackendNames],
    *,
    counted: Counted,
    recorded: Mapping[OwnDeployment, Recorded],
) -> Reconciliation:
    """Compare. `recorded` is of the accounts of all backends that have one."""
    capacity = provisioned_in(backends)
    lines = []
    for found in match(backends, counted, recorded):
        azure = [recorded[own] for own in found.own if own in recorded]
        hours = _paired((counted[each] for each in found.counted), (each.hours for each in azure))
        sums = sum(hours.values(), Pair())
        # Without tokens: stored responses of an unknown deployment, or others' refused requests.
        if not (sums.has_tokens or found.is_configured):
            continue
        line = Line(
            names=found.names,
            own=found.own,
            standing=_standing(terms, found, sums),
            hours=hours,
            tiers=_tiers(found, counted, recorded, capacity),
            spilled=_spilled(found, counted, azure),
            backend=found.backend,
            reason=found.reason,
        )
        lines.append(line)
    order = list(Standing)
    lines.sort(key=lambda line: (order.index(line.standing), -line.sums.gap, line.label))
    return Reconciliation(terms=terms, lines=tuple(lines))


def _standing(terms: Terms, found: Match, sums: Pair) -> Standing:
    if not found.own:
        return Standing.NOT_COMPARABLE
    if not found.is_configured and all(own.name in terms.ignored for own in found.own):
        return Standing.IGNORED
    if not found.names:
        return Standing.NOT_OURS
    return Standing.AGREES if sums.is_within(terms.tolerance) else Standing.DIFFERS


def _tiers(
    found: Match,
    counted: Counted,
    recorded: Mapping[OwnDeployment, Recorded],
    capacity: frozenset[OwnDeployment],
) -> dict[Tier, Pair] | None:
    """Total tokens by tier, in the tiers' order; None where Azure's are not split for all of them."""
    pairs: defaultdict[Tier, Pair] = defaultdict(Pair)
    for own in found.own:
        words = recorded[own].tiers if own in recorded else None
        if words is None:
            return None
        usual = Tier.PROVISIONED if own in capacity else Tier.STANDARD
        for word, tokens in words.items():
            tally = Tally(total_tokens=tokens)
            pairs[_PAID_BY_WORD.get(word, usual)] += Pair(recorded=tally)
    for under in found.counted:
        tokens = sum(tally.total_tokens for tally in counted[under].values())
        pairs[_tier(under.tier)] += Pair(counted=Tally(total_tokens=tokens))
    kept = {tier: pairs[tier] for tier in Tier if pairs[tier] != Pair()}
    return kept if found.own else None


def _tier(text: str) -> Tier:
    return Tier(text) if text in tuple(Tier) else Tier.STANDARD


def _spilled(found: Match, counted: Counted, azure: Sequence[Recorded]) -> Pair | None:
    known = [each.spilled_calls for each in azure if each.spilled_calls is not None]
    if not known:
        return None
    calls = sum(tally.calls for under in found.spilled for tally in counted[under].values())
    return Pair(counted=Tally(calls=calls), recorded=Tally(calls=sum(known)))


def _paired(counted: Iterable[Hours], recorded: Iterable[Hours]) -> dict[Window, Pair]:
    pairs: defaultdict[Window, Pair] = defaultdict(Pair)
    for hours in counted:
        for window, tally in hours.items():
            pairs[window] += Pair(counted=tally)
    for hours in recorded:
        for window, tally in hours.items():
            pairs[window] += Pair(recorded=tally)
    return dict(sorted(pairs.items()))
