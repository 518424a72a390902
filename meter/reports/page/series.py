"""Tokens and money over time: one line per window of the chart, and the same as numbers to draw."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from fractions import Fraction

from meter.reports.page.numbers import closing, money
from meter.reports.page.tally import Tally
from meter.reports.pricing.money import rounded
from meter.window import Period, Window

_NAMES = {Period.HOUR: "hour", Period.DAY: "day", Period.MONTH: "month"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """One window as texts: its counts, its cost, and what the month has cost up to its end."""

    window: str
    calls: str
    uncached: str
    cached: str
    completion: str
    total: str
    cost: str
    month_to_date: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """The windows of the range in order. `drawn` is the same as numbers, for the eye alone."""

    period: str
    moments: Sequence[Moment]
    drawn: Mapping[str, object]
    rounding: str


def series_of(
    windows: Sequence[Window],
    found: Mapping[Window, Tally],
    *,
    currency: str | None,
    budget: Decimal | None,
    as_of: datetime | None = None,
) -> Series:
    """The usage of these windows. Corrections have no place in time, and are not in it.

    What a month has cost is not known of windows after `as_of`.
    """
    nothing = Tally()
    tallies = [found.get(window, nothing) for window in windows]
    costs = [tally.cost for tally in tallies]
    reached = _by_month(windows, costs)
    known = [cost for cost in costs if cost is not None]
    left = closing(known, sum(known, Fraction(0)), currency) if known else Decimal(0)
    drawn: dict[str, object] = {
        "windows": [window.name for window in windows],
        "uncached": [tally.prompt - tally.cached for tally in tallies],
        "cached": [tally.cached for tally in tallies],
        "completion": [tally.completion for tally in tallies],
    }
    if currency is not None:
        drawn["cost"] = [_height(cost, currency) for cost in costs]
        drawn["reached"] = [
            None if as_of is not None and window.start > as_of else _height(cost, currency)
            for window, cost in zip(windows, reached, strict=True)
        ]
        drawn["budget"] = None if budget is None else f"{budget:f}"
    return Series(
        period=_NAMES[windows[0].period],
        moments=[
            _moment(*each, currency) for each in zip(windows, tallies, costs, reached, strict=True)
        ],
        drawn=drawn,
        rounding=f"{left:,}" if left else "",
    )


def _moment(
    window: Window,
    tally: Tally,
    cost: Fraction | None,
    reached: Fraction,
    currency: str | None,
) -> Moment:
    return Moment(
        window=window.name.replace("T", " ") + (":00" if "T" in window.name else ""),
        calls=f"{tally.calls:,}",
        uncached=f"{tally.prompt - tally.cached:,}",
        cached=f"{tally.cached:,}",
        completion=f"{tally.completion:,}",
        total=f"{tally.total:,}",
        cost=money(cost, currency),
        month_to_date=money(reached, currency),
    )


def _by_month(windows: Sequence[Window], costs: Sequence[Fraction | None]) -> list[Fraction]:
    """What each month has cost up to the end of each window."""
    reached: list[Fraction] = []
    for place, window in enumerate(windows):
        is_same = place > 0 and windows[place - 1].month == window.month
        before = reached[-1] if is_same else Fraction(0)
        reached.append(before + (costs[place] or 0))
    return reached


def _height(cost: Fraction | None, currency: str) -> str:
    """How high to draw an amount. Nothing is computed from it: the other texts have the amounts."""
    return f"{rounded(cost or Fraction(0), currency):f}"
