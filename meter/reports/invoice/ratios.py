"""Divides a whole into parts exactly: decimal ratios that sum to 1, whole numbers to their sum."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction
from math import lcm

# An amount times a ratio has a last digit. At 18 decimals a ratio is off by less than a cent in ten
# quadrillions, and no digit of the whole is lost or added.
DIGITS = 18
_ONE = 10**DIGITS

type Quantity = int | Fraction


def ratios_of(counted: Sequence[Quantity], billed: Decimal) -> tuple[list[Decimal], Decimal]:
    """Each one's share of the larger of what was billed and what was counted, and what is left.

    All of them sum to 1. Where more was billed than counted, the rest takes what rounding leaves;
    otherwise it is 0 and the largest remainders do. Counts are not negative.
    """
    whole = max(Fraction(billed), Fraction(sum(counted)))
    if not whole:
        return [Decimal(0)] * len(counted), Decimal(1)
    unit = lcm(*(count.denominator for count in counted))
    numerators = [count.numerator * (unit // count.denominator) for count in counted]
    divisor = whole.numerator * unit
    parts = [divmod(each * whole.denominator * _ONE, divisor) for each in numerators]
    units = [part for part, _ in parts]
    left = _ONE - sum(units)
    if whole > sum(counted):
        return [_ratio(each) for each in units], _ratio(left)
    _give(units, [rest for _, rest in parts], left)
    return [_ratio(each) for each in units], Decimal(0)


def apportion(number: int, weights: Sequence[Decimal]) -> list[int]:
    """Divide a whole number by weights; by equal ones where none is above 0."""
    fractions = [max(Fraction(weight), Fraction(0)) for weight in weights]
    whole = sum(fractions) or Fraction(len(weights))
    if not any(fractions):
        fractions = [Fraction(1)] * len(weights)
    exact = [number * each / whole for each in fractions]
    units = [int(each) for each in exact]
    _give(
        units, [each - unit for each, unit in zip(exact, units, strict=True)], number - sum(units)
    )
    return units


def _give(units: list[int], remainders: Sequence[Quantity], left: int) -> None:
    """Give one unit more to those with the largest remainders, the first of equal ones."""
    order = sorted(range(len(units)), key=lambda place: -remainders[place])
    for place in order[:left]:
        units[place] += 1


def _ratio(units: int) -> Decimal:
    return Decimal(units).scaleb(-DIGITS)
