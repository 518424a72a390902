"""Numbers of a cost export, read strictly, and arithmetic that loses no digit."""

import re
from collections.abc import Iterable
from decimal import Clamped, Context, Decimal, Inexact, InvalidOperation, Overflow, Underflow

# Beyond what any export has, and few enough that no sum or product meets the bound of EXACT.
_MOST_CHARS = 60
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?")
_TRAPS = [Inexact, InvalidOperation, Overflow, Underflow, Clamped]

EXACT = Context(prec=1_000, traps=_TRAPS)
"""Arithmetic whose results have all their digits; it raises rather than round."""

ZERO, ONE = Decimal(0), Decimal(1)


def parse_amount(text: str) -> Decimal:
    """The number with all its digits. Raises ValueError that says what is accepted."""
    text = text.strip()
    if len(text) <= _MOST_CHARS and _NUMBER.fullmatch(text):
        return Decimal(text)
    raise ValueError(
        "must be a number like 1234.56, with a decimal point and without separators of thousands; "
        f"got {text[:40]!r}"
    )


def plain(amount: Decimal) -> str:
    """The number as decimal text without an exponent, and without zeros that say nothing."""
    text = f"{amount:f}"
    if "." in text:
        text = text.rstrip("0").removesuffix(".")
    return "0" if text in ("-0", "") else text


def total(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum."""
    found = ZERO
    for amount in amounts:
        found = EXACT.add(found, amount)
    return found


def is_whole(amount: Decimal) -> bool:
    """Whether the number has no decimals that say something."""
    return amount == amount.to_integral_value(context=EXACT)
