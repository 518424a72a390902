"""Decimals whose sums are exact, though their parts have no last digit."""

from decimal import Decimal, localcontext
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.reports.focus.exact import Amounts, Ratios
from meter.reports.pricing.money import exact_decimal

AMOUNTS = st.fractions(min_value=-1_000, max_value=1_000, max_denominator=3_600)


def exactly(amounts: list[Decimal]) -> Decimal:
    with localcontext(prec=200):
        return sum(amounts, Decimal(0))


def test_an_amount_with_a_last_digit_has_all_its_digits() -> None:
    """Whatever was before it."""
    amounts = Amounts()
    amounts.decimal_of(Fraction(2, 3))

    assert amounts.decimal_of(Fraction(1, 8)) == Decimal("0.125")


@settings(max_examples=50)
@given(st.lists(AMOUNTS, max_size=12))
@example([Fraction(1, 3)] * 3)
@example([Fraction(1, 3), Fraction(1, 2), Fraction(-1, 3)])
def test_decimals_sum_to_the_sum_of_the_amounts(parts: list[Fraction]) -> None:
    """To the last digit that the sum is written with; each is off by less than that digit."""
    amounts = Amounts()
    shown = [amounts.decimal_of(part) for part in parts]

    assert exactly(shown) == exact_decimal(sum(parts, Fraction(0)))
    assert all(
        abs(Fraction(one) - part) < Fraction(2, 10**20)
        for one, part in zip(shown, parts, strict=True)
    )


@settings(max_examples=50)
@given(st.lists(AMOUNTS, max_size=12))
@example([Fraction(1), Fraction(1), Fraction(1)])
@example([Fraction(5), Fraction(-5)])
def test_ratios_sum_to_1(parts: list[Fraction]) -> None:
    """Without a sum that is not 0 there are none."""
    ratios = Ratios(sum(parts, Fraction(0)))
    found = [ratios.next(part) for part in parts]

    if sum(parts, Fraction(0)):
        assert exactly([each for each in found if each is not None]) == 1
    else:
        assert set(found) <= {None}
