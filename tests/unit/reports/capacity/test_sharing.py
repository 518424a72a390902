"""Who pays for the hours of provisioned capacity, with the amounts worked out by hand."""

from decimal import Decimal
from fractions import Fraction

import pytest

from meter.errors import InvalidInput
from meter.reports.capacity.entries import Idle
from meter.reports.capacity.sharing import Tokens, divide
from meter.reports.pricing.money import amount_text
from meter.window import Period, Window
from tests.support.capacity import (
    amounts,
    by,
    by_window,
    entry,
    hours_from,
    shared,
    subject,
    team,
)

ONE = hours_from("2026-11-23T07", 1)
TWO = hours_from("2026-11-23T07", 2)
FOUR_TO_ONE = {
    # (1,500 less 500 cached) + 4 x 250 against 500 + 0
    "2026-11-23T07": {by("alice"): Tokens(1_500, 250, cached=500), by("bob"): Tokens(500)}
}


def test_an_hour_is_shared_by_normalised_tokens() -> None:
    """Cached tokens are free, and completion counts by the model's ratio: 2,000 to 500."""
    found = amounts(shared(entry(), FOUR_TO_ONE, ONE))

    assert found == {"alice": 80, "bob": 20}


def test_a_model_is_found_with_or_without_its_date() -> None:
    """Answers name dated models, in some case; the dated ratio goes first."""
    of = entry(ratios={"gpt-4o": Fraction(4), "gpt-4o-2024-08-06": Fraction(1, 2)})
    used = {
        ONE[0].name: {
            by("alice", model="GPT-4o-2024-11-20"): Tokens(0, 100),
            by("bob", model="gpt-4o-2024-08-06"): Tokens(0, 200),
        }
    }

    assert amounts(shared(of, used, ONE)) == {"alice": 80, "bob": 20}


@pytest.mark.parametrize(
    ("idle", "found"),
    [
        (Idle.BY_USE, {"alice": 160, "bob": 40}),
        (Idle.SEPARATE, {"alice": 80, "bob": 20, "(idle)": 100}),
        (Idle.BY_SHARE, {"alice": 80, "bob": 45, "team:research": 75}),
    ],
)
def test_an_hour_without_use_follows_the_policy(idle: Idle, found: dict[str, int]) -> None:
    """By use it follows the month's use, by share the named shares, else it stands apart."""
    of = entry(idle=idle, shares={team("research"): Fraction(3), subject("bob"): Fraction(1)})

    assert amounts(shared(of, FOUR_TO_ONE, TWO)) == found


@pytest.mark.parametrize(
    ("idle", "found"),
    [
        (Idle.BY_USE, {"alice": 80, "bob": 20}),
        (Idle.SEPARATE, {"alice": 20, "bob": 5, "(idle)": 75}),
        (Idle.BY_SHARE, {"alice": 20, "bob": 5, "team:research": 75}),
    ],
)
def test_with_tokens_per_minute_the_rest_of_an_hour_is_idle(
    idle: Idle, found: dict[str, int]
) -> None:
    """2,500 of the 10,000 tokens that 100 PTUs of 1 2/3 tokens per minute take in an hour."""
    of = entry(
        idle=idle,
        shares={team("research"): Fraction(1)},
        tokens_per_minute={"gpt-4o": Fraction(5, 3)},
    )
    sharing = shared(of, FOUR_TO_ONE, ONE)

    totals = sharing.totals[Window("2026-11")]
    assert [totals.used, totals.idle, totals.utilisation] == [25, 75, Fraction(1, 4)]
    assert amounts(sharing) == found


def test_models_use_capacity_at_their_own_rates() -> None:
    """A quarter of the hour by one model and an eighth by the other."""
    of = entry(
        ratios={},
        tokens_per_minute={"gpt-4o": Fraction(10), "gpt-4o-mini": Fraction(100)},
    )
    used = {
        ONE[0].name: {
            by("alice"): Tokens(15_000),
            by("bob", model="gpt-4o-mini-2024-07-18"): Tokens(75_000),
        }
    }

    totals = shared(of, used, ONE).totals[Window("2026-11")]
    assert totals.utilisation == Fraction(3, 8)


def test_more_tokens_than_the_units_take_are_a_full_hour() -> None:
    """Utilisation is at most 1, and nothing is idle then."""
    of = entry(tokens_per_minute={"gpt-4o": Fraction(1, 1_000)})
    sharing = shared(of, FOUR_TO_ONE, ONE)

    assert sharing.totals[Window("2026-11")].utilisation == 1
    assert amounts(sharing) == {"alice": 80, "bob": 20}


@pytest.mark.parametrize("idle", [Idle.BY_USE, Idle.SEPARATE])
def test_without_any_use_the_cost_is_idle(idle: Idle) -> None:
    """By use, there is nobody to follow."""
    assert amounts(shared(entry(idle=idle), {}, TWO)) == {"(idle)": 200}


def test_hours_without_use_follow_their_own_month() -> None:
    """A month's bill does not change with the other months of a report."""
    hours = [*hours_from("2026-10-31T22", 2), *hours_from("2026-11-01T00", 2)]
    used = {
        "2026-10-31T23": {by("alice"): Tokens(10)},
        "2026-11-01T00": {by("bob"): Tokens(10)},
    }
    sharing = shared(entry(idle=Idle.BY_USE), used, hours)

    assert by_window(sharing) == {("2026-10", "alice"): 200, ("2026-11", "bob"): 200}


def test_windows_of_a_day_add_up_to_the_month() -> None:
    """The unused day's cost follows the month, in a row of that day."""
    hours = [*hours_from("2026-11-23T07", 1), *hours_from("2026-11-24T00", 24)]
    sharing = shared(entry(idle=Idle.BY_USE), FOUR_TO_ONE, hours, Period.DAY)

    assert by_window(sharing) == {
        ("2026-11-23", "alice"): 80,
        ("2026-11-23", "bob"): 20,
        ("2026-11-24", "alice"): 1_920,
        ("2026-11-24", "bob"): 480,
    }
    assert sharing.totals[Window("2026-11-24")].utilisation == 0


def test_an_adjustment_below_nothing_is_no_use() -> None:
    """What is left of an hour may be negative; nobody is paid for that, nor charged more for it."""
    used = {ONE[0].name: {by("alice"): Tokens(-900), by("bob"): Tokens(10)}}

    assert amounts(shared(entry(), used, ONE)) == {"bob": 100}


def test_a_model_without_a_ratio_is_named() -> None:
    """Any ratio that we took would be invented: every model is named, and the entry."""
    used = {
        ONE[0].name: {
            by("alice", model="o3"): Tokens(1, 1),
            by("alice", model="gpt-4.1"): Tokens(1, 1),
            by("alice", model="no-completion"): Tokens(1),
        }
    }

    with pytest.raises(InvalidInput) as caught:
        shared(entry(), used, ONE)
    assert str(caught.value) == (
        "capacity.toml, line 1: capacity[1].ratios has no number for models that backend ptu served: "
        "gpt-4.1, o3; add each by name, with or without its date"
    )


def test_a_model_without_tokens_per_minute_is_named() -> None:
    """Where one model has a rate, all need one."""
    of = entry(tokens_per_minute={"o3": Fraction(1)})

    with pytest.raises(
        InvalidInput, match=r"tokens_per_minute has no number .* gpt-4o-2024-11-20;"
    ):
        shared(of, FOUR_TO_ONE, ONE)


def test_amounts_add_up_as_they_are_printed() -> None:
    """A third of 100 has no last digit, yet three of them are 100."""
    used = {ONE[0].name: {by(name): Tokens(1) for name in "abc"}}
    printed = [amount_text(amount) for amount in amounts(shared(entry(), used, ONE)).values()]

    assert printed == [
        "33.33333333333333333333",
        "33.33333333333333333334",
        "33.33333333333333333333",
    ]
    assert sum(map(Decimal, printed)) == 100


def test_a_price_without_a_last_digit_stays_exact() -> None:
    """A price for 3 hours makes thirds; the sum is still hours x PTUs x price."""
    found = amounts(shared(entry(price=Fraction(1, 3)), FOUR_TO_ONE, TWO))

    assert sum(found.values()) == Fraction(200, 3)


def test_parts_do_not_depend_on_the_order_they_are_read_in() -> None:
    """The same data gives the same report, to the last digit."""
    weights = {by("alice"): 1, by("bob"): 1, by("carol"): 1}
    backwards = dict(reversed(weights.items()))

    assert dict(divide(10, weights)) == dict(divide(10, backwards))
