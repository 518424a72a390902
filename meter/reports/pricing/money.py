"""Amounts of money: exact as fractions, as decimal text, and rounded once at the printed line.

A price is a decimal number for a whole number of units, so the price of one unit may have no last
digit (a price for an hour of 3,600 s). Amounts are fractions until they are written; no binary
floating point is on the way.
"""

from collections.abc import Sequence
from decimal import ROUND_HALF_EVEN, Context, Decimal
from fractions import Fraction
from functools import lru_cache

# ISO 4217, list one: the currencies whose minor unit is not a hundredth.
_WITHOUT_MINOR_UNIT = "BIF CLP DJF GNF ISK JPY KMF KRW PYG RWF UGX UYI VND VUV XAF XOF XPF"
_IN_THOUSANDTHS = "BHD IQD JOD KWD LYD OMR TND"
_IN_TEN_THOUSANDTHS = "CLF UYW"
_DIGITS = ((_WITHOUT_MINOR_UNIT, 0), (_IN_THOUSANDTHS, 3), (_IN_TEN_THOUSANDTHS, 4))
# Of an amount that has no last digit.
_ENDLESS_DIGITS = 20
_CONTEXT = Context(prec=1_000, rounding=ROUND_HALF_EVEN)


def minor_digits(currency: str) -> int:
    """How many decimals the currency is paid in (ISO 4217): 2 for most."""
    return next((digits for codes, digits in _DIGITS if currency in codes.split()), 2)


def exact_decimal(amount: Fraction) -> Decimal:
    """The amount with all its digits; one without a last digit is rounded to 20 decimals."""
    return _quantized(amount, _digits_below(amount.denominator))


@lru_cache(maxsize=4_096)  # the amounts of a report have few denominators
def _digits_below(denominator: int) -> int:
    """How many decimals show all digits of what is divided by that number."""
    rest, digits = denominator, 0
    for factor in (2, 5):
        power = 0
        while rest % factor == 0:
            rest, power = rest // factor, power + 1
        digits = max(digits, power)
    return digits if rest == 1 else _ENDLESS_DIGITS


def amount_text(amount: Fraction) -> str:
    """The amount as decimal text, without an exponent and unrounded (see `exact_decimal`)."""
    return f"{exact_decimal(amount):f}"


def rounded(amount: Fraction, currency: str) -> Decimal:
    """The amount in the currency's minor unit, half to even."""
    return _quantized(amount, minor_digits(currency))


def rounding_left(lines: Sequence[Decimal], total: Decimal) -> Decimal:
    """What the closing line must say so that the rounded lines and it add up to the rounded total."""
    left = total
    for line in lines:
        left = _CONTEXT.subtract(left, line)
    return left


def _quantized(amount: Fraction, digits: int) -> Decimal:
    """Half to even, as `round` does, but in whole numbers: no fraction is made on the way."""
    scaled, rest = divmod(amount.numerator * 10**digits, amount.denominator)
    twice = 2 * rest
    if twice > amount.denominator or (twice == amount.denominator and scaled % 2):
        scaled += 1
    return Decimal(scaled).scaleb(-digits, _CONTEXT)
