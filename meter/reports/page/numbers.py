"""How the page writes numbers: whole ones in groups of three, money in the currency's minor unit."""

from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from meter.reports.pricing.money import exact_decimal, rounded, rounding_left

NOT_KNOWN = "-"


def money(amount: Fraction | None, currency: str | None) -> str:
    """The amount, rounded once; a sign for what is not known."""
    if amount is None or currency is None:
        return NOT_KNOWN
    return f"{rounded(amount, currency):,}"


def percent(part: Fraction | int | None, whole: Fraction | int | None) -> str:
    """The part of the whole with one decimal; a sign where that means nothing."""
    if part is None or not whole:
        return NOT_KNOWN
    return f"{tenths(100 * Fraction(part) / whole)}%"


def tenths(value: Fraction) -> Decimal:
    """The value with one decimal, half to even."""
    return exact_decimal(round(value, 1)).quantize(Decimal("0.1"))


def closing(
    lines: Sequence[Fraction | None], total: Fraction | None, currency: str | None
) -> Decimal:
    """What printed lines lack of the printed total; 0 where they add up, or there is no money."""
    if total is None or currency is None:
        return Decimal(0)
    shown = [rounded(each, currency) for each in lines if each is not None]
    return rounding_left(shown, rounded(total, currency))
