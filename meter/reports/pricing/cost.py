"""What usage costs by a price book: exact, and with what has no price beside it.

Costs are linear in quantities, so quantities are added up by price, and multiplied once at the end.
Usage that an adjustment takes back altogether leaves no trace: the bill of a sum is the sum of bills.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction
from math import lcm
from typing import NamedTuple

from meter.reports.pricing.book import Price, PriceBook, Use
from meter.reports.pricing.kinds import Kind


class Unpriced(NamedTuple):
    """Usage for which the book has no price."""

    model: str
    kind: Kind
    tier: str
    context: str
    deployment_type: str
    region: str


@dataclass(slots=True)
class Bill:
    """What some usage is charged: quantities by price, and those without one, none of them 0."""

    charged: Counter[Price] = field(default_factory=Counter)
    unpriced: Counter[Unpriced] = field(default_factory=Counter)
    other: Fraction = Fraction(0)
    """Costs that no quantity and price explain: a share of provisioned capacity."""
    has_other: bool = False

    def add(self, book: PriceBook, day: date, use: Use, quantities: Mapping[Kind, int]) -> None:
        """Charge usage of that day. Raises AmbiguousPrice."""
        prices = book.prices_of(day, use)
        for kind, quantity in quantities.items():
            price = prices[kind]
            if price is None:
                _add(self.unpriced, unpriced_of(use, kind), quantity)
            else:
                _add(self.charged, price, quantity)

    def add_other(self, amount: Fraction) -> None:
        """Charge an amount that is no quantity at a price."""
        self.other += amount
        self.has_other = True

    def __iadd__(self, other: "Bill") -> "Bill":
        for price, quantity in other.charged.items():
            _add(self.charged, price, quantity)
        for key, quantity in other.unpriced.items():
            _add(self.unpriced, key, quantity)
        self.other += other.other
        self.has_other = self.has_other or other.has_other
        return self

    @property
    def cost(self) -> Fraction | None:
        """The exact cost of what has a price, in the book's currency; None where nothing has."""
        if not self.charged and not self.has_other:
            return None
        # As whole numbers over one denominator: a fraction finds its greatest divisor at each step.
        above, below = self.other.numerator, self.other.denominator
        for price, quantity in self.charged.items():
            part, of = price.rate.numerator * quantity, price.rate.denominator
            if of != below:
                common = lcm(below, of)
                above, part, below = above * (common // below), part * (common // of), common
            above += part
        return Fraction(above, below)

    @property
    def unpriced_kinds(self) -> list[Kind]:
        """The kinds without a price, in the order of `Kind`."""
        found = {each.kind for each in self.unpriced}
        return [kind for kind in Kind if kind in found]


def unpriced_of(use: Use, kind: Kind) -> Unpriced:
    """How usage without a price is named."""
    return Unpriced(use.model, kind, use.tier, use.context, use.deployment_type, use.region)


def _add[T](counts: Counter[T], key: T, quantity: int) -> None:
    total = counts[key] + quantity
    if total:
        counts[key] = total
    else:
        counts.pop(key, None)
