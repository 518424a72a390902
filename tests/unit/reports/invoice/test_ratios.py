"""Ratios: exact, and summing to 1."""

from decimal import Decimal

from meter.reports.invoice.ratios import apportion, ratios_of


def test_ratios_are_of_what_was_billed_where_that_is_more() -> None:
    """The rest is what was not counted."""
    assert ratios_of([300, 333], Decimal(1000)) == (
        [Decimal("0.3"), Decimal("0.333")],
        Decimal("0.367"),
    )


def test_ratios_are_of_what_was_counted_where_that_is_more() -> None:
    """Nothing is left, and nobody pays for what Azure did not bill."""
    ratios, rest = ratios_of([1, 1, 1], Decimal(2))

    assert ratios == [
        Decimal("0.333333333333333334"),
        Decimal("0.333333333333333333"),
        Decimal("0.333333333333333333"),
    ]
    assert rest == 0


def test_the_rest_takes_what_rounding_leaves() -> None:
    """It is nobody's."""
    ratios, rest = ratios_of([1], Decimal(3))

    assert (ratios, rest) == ([Decimal("0.333333333333333333")], Decimal("0.666666666666666667"))


def test_without_any_quantity_all_is_left() -> None:
    """A rounding adjustment has none."""
    assert ratios_of([], Decimal(0)) == ([], Decimal(1))
    assert ratios_of([5], Decimal(-5)) == ([Decimal(1)], Decimal(0))


def test_whole_numbers_are_apportioned_to_their_sum() -> None:
    """The largest remainders get what is left; weights that are not above 0 count as none."""
    assert apportion(10, [Decimal(1), Decimal(1), Decimal(1)]) == [4, 3, 3]
    assert apportion(3, [Decimal(0), Decimal("-1")]) == [2, 1]
    assert apportion(7, [Decimal("0.5"), Decimal(0)]) == [7, 0]
