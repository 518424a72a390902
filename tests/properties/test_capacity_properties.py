"""Shares of provisioned capacity add up to hours x PTUs x price, for any use, policy and numbers."""

from dataclasses import replace
from datetime import date
from decimal import Decimal
from fractions import Fraction

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.reports.capacity.entries import Entry, Idle
from meter.reports.capacity.sharing import Tokens, Totals
from meter.reports.pricing.money import amount_text
from meter.window import Period, Window
from tests.support.capacity import (
    HourUse,
    amounts,
    by,
    entry,
    hours_from,
    shared,
    subject,
    team,
)

MODELS = ("gpt-4o-2024-11-20", "o3")
HOURS = hours_from("2026-10-31T21", 6)  # two months
COUNTS = st.one_of(st.just(0), st.integers(-1_000, 10**12))
NUMBERS = st.decimals("0.001", "1000", places=3).map(Fraction)
PRICES = st.one_of(
    st.decimals("0", "10", places=4).map(Fraction), st.fractions(0, 10, max_denominator=3_600)
)
POLICIES = st.sampled_from(Idle)


@st.composite
def entries(draw: st.DrawFn) -> Entry:
    """Entries of any policy, with and without tokens per minute."""
    rates = st.fixed_dictionaries({"gpt-4o": NUMBERS, "o3": NUMBERS})
    return entry(
        ptus=draw(st.integers(1, 100_000)),
        price=draw(PRICES),
        idle=draw(POLICIES),
        ratios=draw(rates),
        tokens_per_minute=draw(st.one_of(st.just({}), rates)),
        shares={team("research"): draw(NUMBERS), subject("bob"): draw(NUMBERS)},
    )


USES = st.builds(
    Tokens, COUNTS, st.one_of(st.just(0), COUNTS), cached=st.one_of(st.just(0), COUNTS)
)
PAYERS = st.builds(by, st.sampled_from(["alice", "bob", "carol"]), model=st.sampled_from(MODELS))
USED = st.dictionaries(
    st.sampled_from([hour.name for hour in HOURS]), st.dictionaries(PAYERS, USES, max_size=4)
)


@given(entries(), USED, st.sampled_from(Period))
@example(entry(idle=Idle.BY_USE), {HOURS[0].name: {by("alice"): Tokens(-5)}}, Period.HOUR)
@settings(max_examples=150, deadline=None)
def test_shares_add_up_to_hours_times_units_times_price(
    of: Entry, used: HourUse, period: Period
) -> None:
    """Nothing is lost and nothing invented, and nobody is charged less than nothing."""
    sharing = shared(of, used, HOURS, period)

    assert of.price is not None
    found = amounts(sharing)
    assert sum(found.values()) == len(HOURS) * of.ptus * of.price
    assert min(found.values(), default=0) >= 0
    totals = sum(sharing.totals.values(), Totals())
    assert totals.cost == len(HOURS) * of.ptus * of.price
    assert 0 <= totals.used <= totals.cost
    assert 0 <= totals.utilisation <= 1


@given(entries(), USED)
@settings(max_examples=50, deadline=None)
def test_printed_shares_add_up_to_the_last_digit(of: Entry, used: HourUse) -> None:
    """Also where a share has no last digit: at prices that have one, texts add up exactly."""
    of = replace(of, price=Fraction("1.25"))
    printed = [Decimal(amount_text(amount)) for amount in amounts(shared(of, used, HOURS)).values()]

    assert sum(map(Fraction, printed)) == len(HOURS) * of.ptus * Fraction("1.25")


@given(entries(), USED)
@settings(max_examples=50, deadline=None)
def test_shorter_windows_add_up_to_longer_ones(of: Entry, used: HourUse) -> None:
    """A report by hour, by day and by month charges everybody the same."""
    by_hour, by_month = (
        amounts(shared(of, used, HOURS, each)) for each in (Period.HOUR, Period.MONTH)
    )

    assert by_hour == by_month


@given(entries(), USED)
@settings(max_examples=50, deadline=None)
def test_a_month_is_shared_the_same_alone_and_beside_another(of: Entry, used: HourUse) -> None:
    """The use of one month says nothing about the idle hours of another."""
    whole = [
        (name, amount)
        for window, name, amount in shared(of, used, HOURS).amounts()
        if window == Window("2026-11")
    ]
    alone = shared(of, used, [hour for hour in HOURS if hour.start.date() >= date(2026, 11, 1)])

    assert sorted(whole) == sorted(amounts(alone).items())


@given(entries(), st.integers(1, 10**12))
@settings(max_examples=50, deadline=None)
def test_equal_use_is_charged_alike(of: Entry, count: int) -> None:
    """Whatever the ratios are."""
    of = replace(of, idle=Idle.BY_USE, price=Fraction(1), ptus=2)
    halves = {HOURS[0].name: {by("alice"): Tokens(count, 1), by("bob"): Tokens(count, 1)}}

    assert amounts(shared(of, halves, HOURS[:1])) == {"alice": 1, "bob": 1}
