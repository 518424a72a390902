"""Amounts: exact as text, rounded once, and closed to the last unit."""

from decimal import Decimal
from fractions import Fraction

import pytest

from meter.reports.pricing.money import (
    amount_text,
    exact_decimal,
    minor_digits,
    rounded,
    rounding_left,
)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Fraction(0), "0"),
        (Fraction(3), "3"),
        (Fraction(1_000_000), "1000000"),
        (Fraction("2.505"), "2.505"),
        (Fraction("-0.000001"), "-0.000001"),
        (Fraction(1, 2**40), "0.0000000000009094947017729282379150390625"),
        (Fraction(10**30) + Fraction(1, 10**25), f"{10**30}.0000000000000000000000001"),
        (Fraction(1, 3), "0.33333333333333333333"),
        (Fraction(-2, 3), "-0.66666666666666666667"),
        (Fraction(1, 3 * 10**30), "0.00000000000000000000"),
    ],
)
def test_an_amount_is_written_with_all_its_digits(amount: Fraction, text: str) -> None:
    """Without an exponent; 20 decimals where there is no last digit."""
    assert amount_text(amount) == text
    assert Decimal(text) == exact_decimal(amount)


@pytest.mark.parametrize(
    ("amount", "currency", "printed"),
    [
        ("0.005", "USD", "0.00"),
        ("0.015", "USD", "0.02"),
        ("0.025", "EUR", "0.02"),
        ("0.0250001", "EUR", "0.03"),
        ("-0.005", "USD", "0.00"),
        ("-0.015", "USD", "-0.02"),
        ("2", "USD", "2.00"),
        ("0.5", "JPY", "0"),
        ("1.5", "JPY", "2"),
        ("1234.0005", "KWD", "1234.000"),
        ("1234.0015", "KWD", "1234.002"),
    ],
)
def test_a_printed_line_is_rounded_half_to_even(amount: str, currency: str, printed: str) -> None:
    """To the currency's minor unit, also below 0; 0 has no sign."""
    assert str(rounded(Fraction(amount), currency)) == printed


@pytest.mark.parametrize(
    ("currency", "digits"),
    [
        ("USD", 2),
        ("EUR", 2),
        ("JPY", 0),
        ("KRW", 0),
        ("CLP", 0),
        ("UYI", 0),
        ("BHD", 3),
        ("TND", 3),
        ("UYW", 4),
    ],
)
def test_currencies_have_the_minor_units_of_iso_4217(currency: str, digits: int) -> None:
    """Two decimals, but for those of its list."""
    assert minor_digits(currency) == digits


@pytest.mark.parametrize(
    ("lines", "total", "left"),
    [
        (["0.33", "0.33", "0.33"], "1.00", "0.01"),
        (["0.67", "0.67"], "1.33", "-0.01"),
        ([], "0.00", "0.00"),
        (["1.00"], "1.00", "0.00"),
    ],
)
def test_the_closing_line_makes_the_lines_add_up(lines: list[str], total: str, left: str) -> None:
    """It has the difference between the rounded total and the rounded lines."""
    found = rounding_left([Decimal(line) for line in lines], Decimal(total))

    assert str(found) == left
