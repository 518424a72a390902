"""Exact sums of what has no last digit: what rounding takes from one part, the next one gets."""

from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction

from meter.reports.pricing.money import exact_decimal

_CONTEXT = Context(prec=1_000, rounding=ROUND_HALF_EVEN)
_RATIO_DIGITS = 18


@dataclass(slots=True)
class Amounts:
    """Amounts as decimals: their sum is the exact sum, as `exact_decimal` writes it.

    An amount with a last digit has all its digits. Others are rounded by their running total.
    """

    _endless: Fraction = Fraction(0)
    _given: Decimal = Decimal(0)

    def decimal_of(self, amount: Fraction) -> Decimal:
        """The next amount."""
        shown = exact_decimal(amount)
        if Fraction(shown) == amount:
            return shown
        self._endless += amount
        reached = exact_decimal(self._endless)
        part = _CONTEXT.subtract(reached, self._given)
        self._given = reached
        return part


@dataclass(slots=True)
class Ratios:
    """The parts of a whole as decimals that sum to 1, rounded by their running total."""

    whole: Fraction = Fraction(0)
    _reached: Fraction = Fraction(0)
    _given: int = 0

    def next(self, part: Fraction) -> Decimal | None:
        """The ratio of the next part; None where all parts together are nothing."""
        if not self.whole:
            return None
        self._reached += part
        reached = round(self._reached / self.whole * 10**_RATIO_DIGITS)
        ratio = Decimal(reached - self._given).scaleb(-_RATIO_DIGITS, _CONTEXT)
        self._given = reached
        return ratio
