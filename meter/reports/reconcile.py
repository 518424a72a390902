"""Compares counted usage with what Azure Monitor recorded, deployment by deployment.

Callers use public names; Azure records each account's own names. Public names and own deployments
that are connected through the backends, directly or through each other, are compared as one line.

| standing       | meaning                                                              | is judged |
|----------------|----------------------------------------------------------------------|-----------|
| agrees         | prompt, completion and total tokens are within the tolerance         | yes       |
| differs        | at least one of them is not                                          | yes       |
| not ours       | a deployment on our accounts that no backend names: called directly  | yes       |
| ignored        | the same, but the terms ignore it                                    | no        |
| not comparable | some of its calls went to accounts that were not queried             | no        |

Azure Monitor records a call at the time of its processing, the meter at the time of its end, so
hours may differ at their edges. Lines are judged by their sums over the whole range.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from meter.errors import MonitorUnavailable
from meter.ports import RowStore
from meter.reports.query import Grouping, Query, check_order, query_between
from meter.reports.usage import read_usage
from meter.window import Period, Window, window_of

# Metrics arrive minutes late, and an event may wait in the outbox.
SETTLING = timedelta(hours=1)
# https://learn.microsoft.com/azure/azure-monitor/metrics/data-platform-metrics#retention-of-metrics
METRICS_KEPT = timedelta(days=93)
JUDGED_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Tokens and calls of one side; only ours has estimated and missing calls."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    calls: int = 0
    estimated_calls: int = 0
    missing_calls: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        names = [each.name for each in fields(Tally)]
        return Tally(**{name: getattr(self, name) + getattr(other, name) for name in names})


type Hours = Mapping[Window, Tally]


@dataclass(frozen=True, slots=True, order=True)
class OwnDeployment:
    """A deployment by its own name on an account. Azure ignores the case of names."""

    resource_id: str
    name: str

    def __post_init__(self) -> None:
        object.__setattr__(self, "resource_id", self.resource_id.lower())
        object.__setattr__(self, "name", self.name.lower())

    @property
    def label(self) -> str:
        """The account's name and the deployment's."""
        return f"{self.resource_id.rpartition('/')[2]}/{self.name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendNames:
    """A backend's deployments, from public to own names, and its account where that is known."""

    backend: str
    resource_id: str | None
    deployments: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is compared, and when it agrees.

    `query` is in hours. `tolerance` is the share of Azure's tokens by which a deployment may
    differ. `ignored` are own names, in lower case, that others may call. `notes` say how the range
    was cut.
    """

    query: Query
    tolerance: Fraction
    ignored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """What was counted and what Azure recorded."""

    counted: Tally = Tally()
    recorded: Tally = Tally()

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(counted=self.counted + other.counted, recorded=self.recorded + other.recorded)

    def difference(self, name: str) -> int:
        """The counted number less the recorded one."""
        return int(getattr(self.counted, name) - getattr(self.recorded, name))

    @property
    def gap(self) -> int:
        """The largest difference of its tokens, without sign."""
        return max(abs(self.difference(name)) for name in JUDGED_TOKENS)

    def is_within(self, tolerance: Fraction) -> bool:
        """Whether each of its token counts differs from Azure's by the tolerance at most."""
        return all(
            abs(self.difference(name)) <= tolerance * getattr(self.recorded, name)
            for name in JUDGED_TOKENS
        )


class Standing(StrEnum):
    """The result for one line, in the order in which lines are shown."""

    DIFFERS = "differs"
    NOT_OURS = "not ours"
    AGREES = "agrees"
    IGNORED = "ignored"
    NOT_COMPARABLE = "not comparable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Deployments that are compared as one. `reason` says why they are not comparable."""

    names: tuple[str, ...]
    own: tuple[OwnDeployment, ...]
    standing: Standing
    hours: Mapping[Window, Pair]
    reason: str = ""

    @property
    def label(self) -> str:
        """The public names, or Azure's where there are none."""
        return ", ".join(self.names or [own.label for own in self.own])

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


def make_terms(
    *,
    first: Window | None,
    last: Window | None,
    tolerance: Fraction,
    ignored: frozenset[str],
    now: datetime,
) -> Terms:
    """The terms for all hours from the start of `first` to the end of `last` that Azure Monitor has.

    With neither, they are those of yesterday; with `last` alone, those of `last`; with `first`
    alone, those up to the newest complete hour. Raises ValueError for a start after the end,
    MonitorUnavailable for a range without complete hours.
    """
    settled = window_of(now - SETTLING, Period.HOUR).start
    oldest = window_of(now - METRICS_KEPT + _HOUR, Period.HOUR).start
    named = last or first or window_of(now - timedelta(days=1), Period.DAY)
    if first and last:
        check_order(first, last)
    start = (first or named).start
    end = settled if first and not last else named.end
    notes = []
    if end > settled:
        end = settled
        notes.append(f"hours from {_hour(settled)} on are left out: they are not complete yet")
    if start < oldest:
        start = oldest
        notes.append(f"hours before {_hour(oldest)} are left out: metrics are kept for 93 days")
    if start >= end:
        raise MonitorUnavailable(
            f"Azure Monitor has complete hours from {_hour(oldest)} to {_hour(settled - _HOUR)} only"
        )
    return Terms(
        query=query_between(start, end, Period.HOUR, [Grouping.DEPLOYMENT]),
        tolerance=tolerance,
        ignored=ignored,
        notes=tuple(notes),
    )


def parse_tolerance(text: str) -> Fraction:
    """Read a percentage as a share. Raises ValueError that says what is accepted."""
    try:
        percent = Fraction(text.strip().removesuffix("%").strip())
    except (ValueError, ZeroDivisionError):
        percent = Fraction(-1)
    if not 0 <= percent <= 100:
        raise ValueError(f"a tolerance is a percentage from 0 to 100, like 0.5%; got {text!r}")
    return percent / 100


def parse_names(text: str) -> frozenset[str]:
    """Read a comma-separated list of own names, in any case."""
    return frozenset(name.strip().lower() for name in text.split(",") if name.strip())


async def read_counted(store: RowStore, query: Query) -> dict[str, Hours]:
    """The counted usage by public name and hour, over all subjects. Raises StorageUnavailable."""
    counted: defaultdict[str, dict[Window, Tally]] = defaultdict(dict)
    async for row in read_usage(store, query):
        assert row.window is not None
        (name,), sums = row.names, row.sums
        counted[name][row.window] = Tally(
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
    counted: Mapping[str, Hours],
    recorded: Mapping[OwnDeployment, Hours],
) -> Reconciliation:
    """Compare. `counted` is by public name, `recorded` by own deployment of the queried accounts."""
    lines = []
    for names, own in _groups(backends, counted, recorded):
        hours = _paired((counted.get(n, {}) for n in names), (recorded.get(o, {}) for o in own))
        reason = "; ".join(_reasons(backends, names))
        sums = sum(hours.values(), Pair())
        # Without tokens: stored responses of an unknown deployment, or others' refused requests.
        if not sums.gap and not any(each.deployments.keys() & set(names) for each in backends):
            continue
        if not names:
            standing = Standing.IGNORED if own[0].name in terms.ignored else Standing.NOT_OURS
        elif reason:
            standing = Standing.NOT_COMPARABLE
        else:
            within = sums.is_within(terms.tolerance)
            standing = Standing.AGREES if within else Standing.DIFFERS
        lines.append(Line(names=names, own=own, standing=standing, hours=hours, reason=reason))
    order = list(Standing)
    lines.sort(key=lambda line: (order.index(line.standing), -line.sums.gap, line.label))
    return Reconciliation(terms=terms, lines=tuple(lines))


def _groups(
    backends: Sequence[BackendNames], counted: Iterable[str], recorded: Iterable[OwnDeployment]
) -> list[tuple[tuple[str, ...], tuple[OwnDeployment, ...]]]:
    """The connected parts of the graph whose edges lead from public names to own deployments.

    A recorded deployment that no edge leads to is a part by itself.
    """
    edges: dict[str, set[OwnDeployment]] = {name: set() for name in counted}
    for each in backends:
        for name, own_name in each.deployments.items():
            own = edges.setdefault(name, set())
            if each.resource_id is not None:
                own.add(OwnDeployment(each.resource_id, own_name))
    groups: list[tuple[set[str], set[OwnDeployment]]] = []
    for name, own in edges.items():
        names, joined = {name}, set(own)
        for group in [group for group in groups if group[1] & own]:
            groups.remove(group)
            names |= group[0]
            joined |= group[1]
        groups.append((names, joined))
    ours = set().union(*edges.values())
    groups += [(set(), {own}) for own in sorted(recorded) if own not in ours]
    return [(tuple(sorted(names)), tuple(sorted(own))) for names, own in groups]


def _reasons(backends: Sequence[BackendNames], names: Sequence[str]) -> Iterable[str]:
    for name in names:
        if not any(name in each.deployments for each in backends):
            yield f"no backend serves {name} now"
    unknown = [
        each.backend
        for each in backends
        if each.resource_id is None and not each.deployments.keys().isdisjoint(names)
    ]
    if unknown:
        yield f"no resource_id for backend {', '.join(unknown)}"


def _paired(counted: Iterable[Hours], recorded: Iterable[Hours]) -> dict[Window, Pair]:
    pairs: defaultdict[Window, Pair] = defaultdict(Pair)
    for hours in counted:
        for window, tally in hours.items():
            pairs[window] += Pair(counted=tally)
    for hours in recorded:
        for window, tally in hours.items():
            pairs[window] += Pair(recorded=tally)
    return dict(sorted(pairs.items()))


def _hour(moment: datetime) -> str:
    return window_of(moment, Period.HOUR).name
