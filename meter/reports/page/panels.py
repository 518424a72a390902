"""The panels of the page: who and what the usage is of, the largest first, adding up to the total."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from meter.reports.page.numbers import closing, money, percent, tenths
from meter.reports.page.tally import Tally
from meter.reports.query import Grouping
from meter.terminal import printable

MOST_LINES = 10
_TITLES = {
    Grouping.SUBJECT: "Subjects",
    Grouping.TEAM: "Teams",
    Grouping.COST_CENTRE: "Cost centres",
    Grouping.CLIENT_APP: "Client apps",
    Grouping.MODEL: "Models",
    Grouping.DEPLOYMENT: "Deployments",
    Grouping.TIER: "Tiers",
    Grouping.BACKEND: "Backends",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line of a panel; `width` is the length of its bar, of 100."""

    name: str
    note: str = ""
    calls: str
    tokens: str
    cost: str
    share: str
    width: str
    is_others: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """The usage by one grouping; `rounding` makes its printed amounts add up, if they do not."""

    key: str
    title: str
    count: int
    lines: Sequence[Line]
    rounding: str


def panels_of(
    by_group: dict[Grouping, dict[str, Tally]],
    total: Tally,
    currency: str | None,
    notes: dict[str, str],
) -> list[Panel]:
    """The panels that say something: a grouping with nothing known of it has none.

    `notes` are the names of subjects.
    """
    return [
        _panel(group, title, by_group[group], total, currency, notes)
        for group, title in _TITLES.items()
        if by_group[group] and not _is_unknown(group, by_group[group])
    ]


def _is_unknown(group: Grouping, found: dict[str, Tally]) -> bool:
    return group in {Grouping.TEAM, Grouping.COST_CENTRE} and all(
        name.startswith("(") for name in found
    )


def _panel(
    group: Grouping,
    title: str,
    found: dict[str, Tally],
    total: Tally,
    currency: str | None,
    notes: dict[str, str],
) -> Panel:
    ranked = sorted(found.items(), key=lambda each: (*_rank(each[1]), each[0]))
    # A line for a single other one would say less than the one itself.
    most = MOST_LINES if len(ranked) > MOST_LINES + 1 else len(ranked)
    shown: list[tuple[str, str, Tally]] = []
    for text, tally in ranked[:most]:
        note = notes.get(text, "") if group is Grouping.SUBJECT else ""
        shown.append((note or text, text if note else "", tally))
    lines = [_line(*each, total, currency) for each in shown]
    costs = [tally.cost for *_, tally in shown]
    if rest := ranked[most:]:
        others = merged(tally for _, tally in rest)
        costs.append(others.cost)
        lines.append(_line(f"{len(rest):,} others", "", others, total, currency, is_others=True))
    left = closing(costs, total.cost, currency)
    return Panel(
        key=group.value,
        title=title,
        count=len(found),
        lines=lines,
        rounding=f"{left:,}" if left else "",
    )


def merged(parts: Iterable[Tally]) -> Tally:
    """All of them added up."""
    whole = Tally()
    for each in parts:
        whole.merge(each)
    return whole


def _rank(tally: Tally) -> tuple[Fraction, int, int]:
    return (-(tally.cost or Fraction(0)), -tally.total, -tally.calls)


def _line(
    name: str,
    note: str,
    tally: Tally,
    total: Tally,
    currency: str | None,
    *,
    is_others: bool = False,
) -> Line:
    part: Fraction | int | None = tally.total
    whole: Fraction | int | None = total.total
    if currency is not None and total.cost:
        part, whole = tally.cost, total.cost
    share = max(Fraction(0), Fraction(part) / whole) if part is not None and whole else Fraction(0)
    return Line(
        name=printable(name),
        note=printable(note),
        calls=f"{tally.calls:,}",
        tokens=f"{tally.total:,}",
        cost=money(tally.cost, currency),
        share=percent(part, whole),
        width=str(tenths(100 * min(share, Fraction(1)))),
        is_others=is_others,
    )
