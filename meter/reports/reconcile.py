"""Compares what was counted with what Azure Monitor recorded, deployment by deployment.

Callers use public names; Azure records each account's own. What cannot be told apart is compared
as one: public names and own deployments that are joined through the backends, directly or by way
of each other, make one line.

| standing       | means                                                                | is judged |
|----------------|----------------------------------------------------------------------|-----------|
| agrees         | prompt, completion and total tokens are within the tolerance         | yes       |
| differs        | one of them is not                                                   | yes       |
| not ours       | a deployment on our accounts that no backend names: called directly  | yes       |
| ignored        | the same, but it was asked to leave it out                           | no        |
| not comparable | some of its calls went where Azure Monitor was not asked             | no        |

Azure Monitor files a call under the time of its processing, the meter under the time of its end:
hours may differ at their edges. So lines are judged by their sums over the whole range.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from fractions import Fraction

from meter.errors import MonitorUnavailable
from meter.ledger.rows import read_sums
from meter.ledger.view import VIEW_TABLES
from meter.ports import RowStore
from meter.window import Period, Window, parse_window, window_of

# Metrics come minutes late, and an event may wait in the outbox.
SETTLING = timedelta(hours=1)
# https://learn.microsoft.com/azure/azure-monitor/metrics/data-platform-metrics#retention-of-metrics
METRICS_KEPT = timedelta(days=93)
JUDGED_TOKENS = ("prompt_tokens", "completion_tokens", "total_tokens")
_HOUR = timedelta(hours=1)
_MOMENT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """Tokens and calls of one side; Azure knows nothing of estimated and missing ones."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    total_tokens: int = 0
    calls: int = 0
    estimated_calls: int = 0
    missing_calls: int = 0

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(
            **{
                each.name: getattr(self, each.name) + getattr(other, each.name)
                for each in fields(Tally)
            }
        )


type Hours = Mapping[Window, Tally]


@dataclass(frozen=True, slots=True, order=True)
class OwnDeployment:
    """A deployment by its own name on an account. Azure's names are the same in any case."""

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
class Served:
    """What one backend serves: public names to own ones, and on which account, if that is known."""

    backend: str
    resource_id: str | None
    deployments: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked: the hours from `first` to `last`, both included.

    `tolerance` is the share of Azure's tokens by which a deployment may differ. `ignored` are own
    names, in lower case, that others may call. `notes` say how the range was cut.
    """

    first: Window
    last: Window
    tolerance: Fraction
    ignored: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """Both sides of one thing."""

    counted: Tally = field(default_factory=Tally)
    recorded: Tally = field(default_factory=Tally)

    def __add__(self, other: "Pair") -> "Pair":
        return Pair(counted=self.counted + other.counted, recorded=self.recorded + other.recorded)

    def difference(self, name: str) -> int:
        """By how much more was counted than recorded."""
        difference: int = getattr(self.counted, name) - getattr(self.recorded, name)
        return difference

    @property
    def gap(self) -> int:
        """The largest difference of its tokens, without sign."""
        return max(abs(self.difference(name)) for name in JUDGED_TOKENS)

    def is_within(self, tolerance: Fraction) -> bool:
        """Whether each of its token counts is as close to Azure's as the tolerance asks."""
        return all(
            abs(self.difference(name)) <= tolerance * getattr(self.recorded, name)
            for name in JUDGED_TOKENS
        )


class Standing(StrEnum):
    """What became of a line."""

    AGREES = "agrees"
    DIFFERS = "differs"
    NOT_OURS = "not ours"
    IGNORED = "ignored"
    NOT_COMPARABLE = "not comparable"

    @property
    def is_judged(self) -> bool:
        """Whether the verdict depends on such lines."""
        return self not in {Standing.IGNORED, Standing.NOT_COMPARABLE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """Deployments that are compared as one. `reason` says why they cannot be."""

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
    """The lines: first those that differ, the largest difference first."""

    question: Question
    lines: tuple[Line, ...]

    @property
    def judged(self) -> tuple[Line, ...]:
        """The lines that the verdict depends on."""
        return tuple(line for line in self.lines if line.standing.is_judged)

    @property
    def beyond(self) -> tuple[Line, ...]:
        """The judged lines beyond the tolerance. Where there are none, their sum is within it too."""
        return tuple(
            line for line in self.judged if not line.sums.is_within(self.question.tolerance)
        )

    @property
    def total(self) -> Pair:
        """All judged lines added up."""
        return sum((line.sums for line in self.judged), Pair())

    @property
    def agrees(self) -> bool:
        """The verdict. Nothing compared is no agreement."""
        return bool(self.judged) and not self.beyond


def make_question(
    *, first: str | None, last: str | None, tolerance: str, ignored: str, now: datetime
) -> Question:
    """Read the command's words. Raises ValueError for words, MonitorUnavailable for hours without metrics.

    Without `first` and `last` it is yesterday. Without `first` it is the window `last` alone;
    without `last` it goes on to the newest hour that has settled.
    """
    settled = window_of(now - SETTLING, Period.HOUR).start
    oldest = window_of(now - METRICS_KEPT + _HOUR, Period.HOUR).start
    named = last or first or window_of(now - timedelta(days=1), Period.DAY).name
    start = parse_window(first or named).start
    end = settled if first and not last else parse_window(named).end
    if start >= end and last:
        raise ValueError(f"--from {first} is after --to {last}")
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
    return Question(
        first=window_of(start, Period.HOUR),
        last=window_of(end - _MOMENT, Period.HOUR),
        tolerance=_share(tolerance),
        ignored=frozenset(name.strip().lower() for name in ignored.split(",") if name.strip()),
        notes=tuple(notes),
    )


async def read_counted(store: RowStore, question: Question) -> dict[str, Hours]:
    """The view by public name and hour, over all subjects. Raises StorageUnavailable."""
    counted: defaultdict[str, defaultdict[Window, Tally]]
    counted = defaultdict(lambda: defaultdict(Tally))
    rows = store.scan(
        VIEW_TABLES[Period.HOUR],
        first_partition=question.first.name,
        last_partition=question.last.name,
    )
    async for partition, row in rows:
        sums = read_sums(row.columns)
        counted[str(row.columns.get("Deployment", ""))][Window(partition)] += Tally(
            prompt_tokens=sums.tokens.prompt_tokens,
            completion_tokens=sums.tokens.completion_tokens,
            total_tokens=sums.tokens.total_tokens,
            calls=sums.calls,
            estimated_calls=sums.estimated_calls,
            missing_calls=sums.missing_calls,
        )
    return dict(counted)


def reconcile(
    question: Question,
    served: Sequence[Served],
    *,
    counted: Mapping[str, Hours],
    recorded: Mapping[OwnDeployment, Hours],
) -> Reconciliation:
    """Compare. `counted` is by public name, `recorded` by own deployment of the accounts asked."""
    lines = []
    for names, own in _groups(served, counted):
        hours = _paired((counted.get(n, {}) for n in names), (recorded.get(o, {}) for o in own))
        reason = "; ".join(_reasons(served, names))
        sums = sum(hours.values(), Pair())
        if not sums.gap and not any(each.deployments.keys() & set(names) for each in served):
            continue  # calls that cost nothing, of stored responses that nobody knew the maker of
        if reason:
            standing = Standing.NOT_COMPARABLE
        else:
            within = sums.is_within(question.tolerance)
            standing = Standing.AGREES if within else Standing.DIFFERS
        lines.append(Line(names=names, own=own, standing=standing, hours=hours, reason=reason))
    ours = {own for line in lines for own in line.own}
    for stranger in sorted(recorded.keys() - ours):
        hours = _paired((), [recorded[stranger]])
        if any(pair.gap for pair in hours.values()):
            is_ignored = stranger.name in question.ignored
            standing = Standing.IGNORED if is_ignored else Standing.NOT_OURS
            lines.append(Line(names=(), own=(stranger,), standing=standing, hours=hours))
    return Reconciliation(question=question, lines=tuple(sorted(lines, key=_order)))


def _groups(
    served: Sequence[Served], counted: Iterable[str]
) -> list[tuple[tuple[str, ...], tuple[OwnDeployment, ...]]]:
    """The connected parts of the graph whose edges lead from public names to own deployments."""
    edges: dict[str, set[OwnDeployment]] = {name: set() for name in counted}
    for each in served:
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
    return [(tuple(sorted(names)), tuple(sorted(own))) for names, own in groups]


def _reasons(served: Sequence[Served], names: Sequence[str]) -> Iterable[str]:
    for name in names:
        if not any(name in each.deployments for each in served):
            yield f"no backend serves {name} now"
    unknown = [
        each.backend
        for each in served
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


_ORDER = (
    Standing.DIFFERS,
    Standing.NOT_OURS,
    Standing.AGREES,
    Standing.IGNORED,
    Standing.NOT_COMPARABLE,
)


def _order(line: Line) -> tuple[int, int, str]:
    return _ORDER.index(line.standing), -line.sums.gap, line.label


def _share(text: str) -> Fraction:
    try:
        percent = Fraction(text.strip().removesuffix("%").strip())
    except (ValueError, ZeroDivisionError):
        percent = Fraction(-1)
    if not 0 <= percent <= 100:
        raise ValueError(f"--tolerance is a percentage from 0 to 100, like 0.5%; got {text!r}")
    return percent / 100


def _hour(moment: datetime) -> str:
    return window_of(moment, Period.HOUR).name
