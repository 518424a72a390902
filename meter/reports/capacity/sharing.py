"""Shares the cost of one capacity entry, hour by hour, among those who used it. Exact.

An hour's cost is divided in proportion to normalised tokens, (prompt less cached) + ratio x completion.
A third of an amount has no last digit, so shares are rounded at the 20th decimal, in such a way that
they add up to the amount: also as printed, and whatever they are grouped by.

| policy     | used part of an hour  | idle part of an hour with use | hour without use               |
|------------|-----------------------|-------------------------------|--------------------------------|
| `by-use`   | the hour's use        | the hour's use                | the month's use, within range  |
| `by-share` | the hour's use        | the named shares              | the named shares               |
| `separate` | the hour's use        | the idle line                 | the idle line                  |

Without any use in the month, `by-use` has nobody to follow: the cost stands on the idle line.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from meter.errors import InvalidInput
from meter.ledger.keys import Dimensions
from meter.reports.capacity.entries import Entry, Holder, Idle, Payer, of_model
from meter.window import Period, Window, window_of

_QUANTA = 10**20


class Tokens(NamedTuple):
    """The counts that normalised tokens are made of; `cached` are part of the prompt."""

    prompt: int
    completion: int = 0
    cached: int = 0


@dataclass(slots=True)
class Totals:
    """What an entry cost in a window. `utilisation` is of PTU-hours: 1 where all were used."""

    hours: int = 0
    hours_with_use: int = 0
    cost: Fraction = Fraction(0)
    used: Fraction = Fraction(0)
    used_hours: Fraction = Fraction(0)

    @property
    def idle(self) -> Fraction:
        """The cost of what was not used, whoever pays for it."""
        return self.cost - self.used

    @property
    def utilisation(self) -> Fraction:
        """The used share of the hours; 0 where there are none."""
        return self.used_hours / self.hours if self.hours else Fraction(0)

    def __add__(self, other: "Totals") -> "Totals":
        return Totals(
            hours=self.hours + other.hours,
            hours_with_use=self.hours_with_use + other.hours_with_use,
            cost=self.cost + other.cost,
            used=self.used + other.used,
            used_hours=self.used_hours + other.used_hours,
        )


class Sharing[K]:
    """Shares one entry's cost over windows of a period. Hours are added in order, each once.

    `prices` are those of a PTU-hour by day. Amounts are added up under what `name_of` makes of
    their payer; the shares themselves do not depend on it.
    """

    def __init__(
        self,
        entry: Entry,
        *,
        prices: Mapping[date, Fraction],
        period: Period,
        name_of: Callable[[Payer], K],
    ) -> None:
        self.entry = entry
        self.totals: dict[Window, Totals] = {}
        self._period = period
        self._name_of = name_of
        costs = {day: price * entry.ptus for day, price in prices.items()}
        self._unit = lcm(_QUANTA, *(cost.denominator for cost in costs.values()))
        self._costs = {day.isoformat(): int(cost * self._unit) for day, cost in costs.items()}
        self._weights = _Weights(entry)
        self._amounts: dict[Window, Counter[K]] = {}
        self._month: Window | None = None
        self._month_use: Counter[Dimensions] = Counter()
        self._unused: Counter[tuple[Window, int]] = Counter()

    def add(self, hour: Window, tokens: Mapping[Dimensions, Tokens]) -> None:
        """Share the hour. `tokens` are those that the entry served in it, adjustments included."""
        if hour.month != self._month:
            self._end_month()
            self._month = hour.month
        window = window_of(hour.start, self._period)
        cost = self._costs[hour.name[:10]]
        use = self._weights.of(tokens)
        share = self._weights.utilisation(use)
        used = cost * share.numerator // share.denominator
        self._count(window, cost, used, share)
        if self.entry.idle is not Idle.BY_USE:
            self._charge(window, used, use)
            self._charge_idle(window, cost - used)
        elif use:
            self._charge(window, cost, use)
            self._month_use.update(use)
        else:
            self._unused[window, cost] += 1

    def close(self) -> None:
        """Share what had to wait for the last hour. Raises InvalidInput, naming every model."""
        self._end_month()
        self._weights.check()

    def amounts(self) -> Iterator[tuple[Window, K, Fraction]]:
        """The amounts by window and name, once closed. They add up to hours x PTUs x price."""
        for window, amounts in self._amounts.items():
            for name, amount in amounts.items():
                yield window, name, Fraction(amount, self._unit)

    def _count(self, window: Window, cost: int, used: int, share: Fraction) -> None:
        totals = self.totals.setdefault(window, Totals())
        totals.hours += 1
        totals.hours_with_use += share > 0
        totals.cost += Fraction(cost, self._unit)
        totals.used += Fraction(used, self._unit)
        totals.used_hours += share

    def _charge(
        self, window: Window, amount: int, weights: Mapping[Dimensions, int], times: int = 1
    ) -> None:
        found = self._amounts.setdefault(window, Counter())
        for payer, part in divide(amount, weights):
            found[self._name_of(payer)] += part * times

    def _charge_idle(self, window: Window, amount: int) -> None:
        found = self._amounts.setdefault(window, Counter())
        if self.entry.idle is Idle.BY_SHARE:
            for holder, part in divide(amount, self._weights.shares):
                found[self._name_of(holder)] += part
        elif amount:
            found[self._name_of(None)] += amount

    def _end_month(self) -> None:
        for (window, cost), hours in self._unused.items():
            if self._month_use:
                self._charge(window, cost, self._month_use, hours)
            else:
                self._charge_idle(window, cost * hours)
        self._unused.clear()
        self._month_use.clear()


class _Weights:
    """An entry's numbers as whole ones, and what they make of an hour's tokens."""

    def __init__(self, entry: Entry) -> None:
        self._entry = entry
        self._unit = lcm(*(ratio.denominator for ratio in entry.ratios.values()))
        unit = lcm(*(share.denominator for share in entry.shares.values()))
        self.shares = {holder: int(share * unit) for holder, share in entry.shares.items()}
        self._ratios: dict[str, int | None] = {}
        self._without_ratio: set[str] = set()
        self._without_rate: set[str] = set()

    def of(self, tokens: Mapping[Dimensions, Tokens]) -> dict[Dimensions, int]:
        """The normalised tokens above 0, in units of their own.

        Adjustments may leave less than nothing of an hour: nobody is paid for that.
        """
        found = {}
        for dimensions, (prompt, completion, cached) in tokens.items():
            weight = (prompt - cached) * self._unit
            if completion:
                ratio = self._ratio_of(dimensions.model)
                if ratio is None:
                    self._without_ratio.add(dimensions.model)
                    continue
                weight += completion * ratio
            if weight > 0:
                found[dimensions] = weight
        return found

    def _ratio_of(self, model: str) -> int | None:
        if model not in self._ratios:
            ratio = of_model(self._entry.ratios, model)
            self._ratios[model] = None if ratio is None else int(ratio * self._unit)
        return self._ratios[model]

    def utilisation(self, use: Mapping[Dimensions, int]) -> Fraction:
        """The used share of an hour's units, at most 1; without tokens per minute, 1 for any use."""
        rates = self._entry.tokens_per_minute
        if not rates:
            return Fraction(1 if use else 0)
        by_model: Counter[str] = Counter()
        for dimensions, weight in use.items():
            by_model[dimensions.model] += weight
        share = Fraction(0)
        for model, weight in by_model.items():
            rate = of_model(rates, model)
            if rate is None:
                self._without_rate.add(model)
            else:
                share += Fraction(weight, self._unit) / (rate * 60 * self._entry.ptus)
        return min(share, Fraction(1))

    def check(self) -> None:
        """Raise InvalidInput for models without a number: any that we took would be invented."""
        missing = {"ratios": self._without_ratio, "tokens_per_minute": self._without_rate}
        problems = [
            f"{self._entry.place}.{table} has no number for models that {self._entry.label} served: "
            f"{', '.join(sorted(models))}; add each by name, with or without its date"
            for table, models in missing.items()
            if models
        ]
        if problems:
            raise InvalidInput(problems)


def divide[K: (Dimensions, Holder)](
    amount: int, weights: Mapping[K, int]
) -> Iterator[tuple[K, int]]:
    """The amount in parts, in proportion to weights above 0. They add up to it.

    Running totals are rounded, not parts, so each part is within 1 of its share. The same weights give
    the same parts, whatever order they were read in.
    """
    whole = sum(weights.values())
    reached = given = 0
    for payer, weight in sorted(weights.items()):
        reached += weight
        upto = (2 * amount * reached + whole) // (2 * whole)
        yield payer, upto - given
        given = upto
