"""Properties of pricing: shares, winners, bills and rounding, whatever is counted and priced."""

import io
from dataclasses import replace
from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import combinations
from random import Random

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from meter.errors import AmbiguousPrice, InvalidInput
from meter.reports.pricing.book import Origin, Price, PriceBook, Use
from meter.reports.pricing.cost import Bill
from meter.reports.pricing.kinds import TOKEN_KINDS, Kind, quantities_of
from meter.reports.pricing.money import (
    amount_text,
    exact_decimal,
    minor_digits,
    rounded,
    rounding_left,
)
from meter.reports.pricing.read import BookReader
from meter.reports.pricing.ties import ties_between
from meter.usage import COUNT_NAMES, TokenUsage
from tests.support.prices import DAY, HEADER, line, read_texts
from tests.support.prices import book_text as text_of

COUNTS = st.integers(-(10**12), 10**12)
USAGE = st.builds(TokenUsage, **dict.fromkeys(COUNT_NAMES, COUNTS))
CURRENCY = st.sampled_from(["USD", "EUR", "JPY", "KWD"])

MODELS = ["*", "gpt-4o", "gpt-4o-2024-11-20", "deployment:chat"]
USES = st.builds(
    Use,
    model=st.sampled_from(["gpt-4o", "gpt-4o-2024-11-20", "o3", "unknown"]),
    deployment=st.sampled_from(["chat", "other"]),
    deployment_type=st.sampled_from(["", "global", "regional"]),
    region=st.sampled_from(["", "eastus", "westus"]),
    tier=st.sampled_from(["standard", "priority", "provisioned"]),
    context=st.sampled_from(["short", "long"]),
)
PRICES = st.builds(
    Price,
    model=st.sampled_from(MODELS),
    kind=st.sampled_from([Kind.INPUT, Kind.CACHED_INPUT, Kind.OUTPUT, Kind.SECOND]),
    deployment_type=st.sampled_from(["*", "*", "global"]),
    region=st.sampled_from(["*", "*", "eastus"]),
    tier=st.sampled_from(["*", "*", "standard", "provisioned"]),
    context=st.sampled_from(["*", "*", "long"]),
    unit=st.sampled_from([1, 1_000, 3_600, 1_000_000]),
    price=st.decimals(0, 1_000, places=6, allow_nan=False),
    currency=st.just("USD"),
    effective_from=st.sampled_from([date(2026, 1, 1), DAY]),
    effective_to=st.sampled_from([None, None, DAY, DAY + timedelta(days=1)]),
    origin=st.sampled_from(Origin),
    file=st.integers(0, 2),
).filter(lambda price: price.effective_to is None or price.effective_to > price.effective_from)
BOOKS = st.lists(PRICES, max_size=8)
# What is charged: a day, a use, and counts of kinds.
COUNTED = ("prompt_tokens", "cached_tokens", "completion_tokens", "seconds")
FEW = st.fixed_dictionaries(dict.fromkeys(COUNTED, st.integers(-3, 3))).map(
    lambda counts: TokenUsage(**counts)
)
# What is charged: a day, a use, and counts.
CHARGES = st.lists(
    st.tuples(st.sampled_from([DAY, DAY + timedelta(days=1)]), USES, FEW), max_size=6
)


@given(usage=USAGE)
def test_shares_are_disjoint_and_add_up_to_prompt_and_completion(usage: TokenUsage) -> None:
    """Each token is charged once, as one kind; nothing but tokens is among them."""
    found = quantities_of(usage)

    tokens = sum(quantity for kind, quantity in found.items() if kind in TOKEN_KINDS)
    assert tokens == usage.prompt_tokens + usage.completion_tokens
    assert 0 not in found.values()


@given(one=USAGE, other=USAGE)
def test_quantities_of_a_sum_are_the_sum_of_quantities(one: TokenUsage, other: TokenUsage) -> None:
    """So that rows may be added up before or after they are priced."""
    added = {
        kind: quantities_of(one).get(kind, 0) + quantities_of(other).get(kind, 0) for kind in Kind
    }

    assert quantities_of(one + other) == {kind: n for kind, n in added.items() if n}


def winner_of(prices: list[Price], use: Use, kind: Kind) -> Price | str | None:
    try:
        return PriceBook(prices, "USD").own_price(DAY, use, kind)
    except AmbiguousPrice:
        return "ambiguous"


def is_better(one: Price, other: Price) -> bool:
    """The contract's rules in its own order, written down once more."""

    def columns(price: Price) -> int:
        texts = (price.model, price.deployment_type, price.region, price.tier, price.context)
        return 5 - texts.count("*")

    def model(price: Price) -> int:
        return ["*", "gpt-4o", "gpt-4o-2024-11-20", "deployment:chat"].index(price.model)

    if one.origin is not other.origin:
        return one.origin is Origin.CONTRACTED
    if columns(one) != columns(other):
        return columns(one) > columns(other)
    if model(one) != model(other):
        return model(one) > model(other)
    return one.file > other.file


@given(prices=BOOKS, use=USES, dice=st.randoms(use_true_random=False))
def test_the_winner_does_not_depend_on_the_order_of_rows(
    prices: list[Price], use: Use, dice: Random
) -> None:
    """It is better than all others that match; where none is, the price is ambiguous."""
    found = winner_of(prices, use, Kind.INPUT)
    shuffled = list(prices)
    dice.shuffle(shuffled)

    assert winner_of(shuffled, use, Kind.INPUT) is found
    candidates = [
        price
        for price in prices
        if price.kind is Kind.INPUT and price.is_valid_on(DAY) and price.matches(use)
    ]
    best = [
        one
        for one in candidates
        if all(is_better(one, other) for other in candidates if other is not one)
    ]
    expected = best[0] if best else ("ambiguous" if candidates else None)
    assert found is expected


def bill_of(prices: list[Price], charges: list[tuple[date, Use, TokenUsage]]) -> Bill:
    bill, book = Bill(), PriceBook(prices, "USD")
    for day, use, usage in charges:
        bill.add(book, day, use, quantities_of(usage))
    return bill


@given(prices=BOOKS, charges=CHARGES, cut=st.integers(0, 6))
def test_the_bill_of_parts_is_the_bill_of_the_sum(
    prices: list[Price], charges: list[tuple[date, Use, TokenUsage]], cut: int
) -> None:
    """Row by row, in two bills that are added, or with the usage added up before."""
    try:
        whole = bill_of(prices, charges)
    except AmbiguousPrice:
        assume(False)
    added = bill_of(prices, charges[:cut])
    added += bill_of(prices, charges[cut:])
    sums: dict[tuple[date, Use], TokenUsage] = {}
    for day, use, usage in charges:
        sums[day, use] = sums.get((day, use), TokenUsage()) + usage
    summed = bill_of(prices, [(*key, usage) for key, usage in sums.items()])

    assert added == whole
    assert summed == whole
    assert (added.cost, summed.cost) == (whole.cost, whole.cost)


@given(prices=BOOKS, charges=CHARGES)
def test_everything_is_either_charged_or_without_a_price(
    prices: list[Price], charges: list[tuple[date, Use, TokenUsage]]
) -> None:
    """No quantity is lost on the way, and none is charged twice."""
    try:
        bill = bill_of(prices, charges)
    except AmbiguousPrice:
        assume(False)
    used = sum(sum(quantities_of(usage).values()) for _, _, usage in charges)

    assert bill.charged.total() + bill.unpriced.total() == used
    assert (bill.cost is None) == (not bill.charged)
    assert bill.cost in (None, sum(price.rate * n for price, n in bill.charged.items()))


@given(
    lines=st.lists(st.fractions(-(10**9), 10**9, max_denominator=3_600_000_000), max_size=30),
    currency=CURRENCY,
)
@example(lines=[Fraction(1, 3)] * 3, currency="USD")
@example(lines=[Fraction("0.005")] * 4, currency="USD")
def test_rounded_lines_and_the_closing_line_add_up_to_the_rounded_total(
    lines: list[Fraction], currency: str
) -> None:
    """To the last unit; the closing line is at most half a unit for each line, and half one more."""
    printed = [rounded(line, currency) for line in lines]
    total = rounded(sum(lines, Fraction()), currency)
    closing = rounding_left(printed, total)

    unit = Fraction(1, 10 ** minor_digits(currency))
    assert sum(printed) + closing == total
    assert abs(Fraction(closing)) <= (len(lines) + 1) * unit / 2
    assert all(abs(Fraction(p) - e) <= unit / 2 for p, e in zip(printed, lines, strict=True))


@given(amount=st.fractions(max_denominator=10**15))
def test_the_text_of_an_amount_is_the_amount(amount: Fraction) -> None:
    """Exactly where it has a last digit, else to half of the 20th decimal."""
    text = amount_text(amount)
    rest = amount.denominator
    for factor in (2, 5):
        while rest % factor == 0:
            rest //= factor

    assert "E" not in text
    assert Decimal(text) == exact_decimal(amount)
    error = abs(Fraction(text) - amount)
    assert error == 0 if rest == 1 else error <= Fraction(1, 2 * 10**20)


@settings(max_examples=50)
@given(digits=st.decimals(0, 10**15 - 1, places=20, allow_nan=False))
def test_a_price_is_read_to_its_last_digit(digits: Decimal) -> None:
    """Decimal text becomes the same decimal."""
    (found,) = read_texts(text_of(line(price=f"{digits:f}")))

    assert f"{found.price:f}" == f"{digits:f}"


@given(
    spans=st.lists(
        st.tuples(st.integers(0, 40), st.one_of(st.none(), st.integers(1, 20))), max_size=6
    )
)
def test_rows_alike_are_refused_exactly_where_two_share_a_day(
    spans: list[tuple[int, int | None]],
) -> None:
    """Compared with all pairs of all days."""
    assume(spans)
    start = date(2026, 1, 1)
    days = [set(range(first, 100 if length is None else first + length)) for first, length in spans]
    lines = [
        line(
            effective_from=f"{start + timedelta(days=first)}",
            effective_to="" if length is None else f"{start + timedelta(days=first + length)}",
        )
        for first, length in spans
    ]
    shares_a_day = any(one & other for one, other in combinations(days, 2))

    if shares_a_day:
        with pytest.raises(Exception, match="prices the same as"):
            read_texts(text_of(*lines))
    else:
        assert len(read_texts(text_of(*lines))) == len(spans)


ROWS = st.builds(
    line,
    price=st.sampled_from(["2.50", "-1", "x", '"2,5"', ""]),
    unit=st.sampled_from(["1000", "0", "1e3"]),
    kind=st.sampled_from(["input", "output", "tokens"]),
    region=st.sampled_from(["*", "eastus", "\u00e5sele", "East US 2"]),
    source=st.text(max_size=20),
)
PIECES = st.one_of(
    ROWS, st.just(HEADER), st.text(max_size=40), st.sampled_from(["", '"', ",", "\ufeff", "\0"])
)


@given(
    pieces=st.lists(PIECES, max_size=8),
    has_header=st.booleans(),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    junk=st.binary(max_size=4),
)
@example(pieces=[], has_header=True, end="\n", junk=b"\xff\xfe")
def test_any_file_is_either_a_book_or_refused_line_by_line(
    pieces: list[str], has_header: bool, end: str, junk: bytes
) -> None:
    """Whatever its bytes: no other error, and every problem names the file in one line."""
    lines = [HEADER, *pieces] if has_header else pieces
    data = end.join(lines).encode(errors="surrogatepass") + junk
    reader = BookReader()
    stream = io.TextIOWrapper(
        io.BytesIO(data), encoding="utf-8", errors="surrogateescape", newline=""
    )
    reader.read("a.csv", stream)

    problems: tuple[str, ...] = ()
    prices: list[Price] = []
    try:
        prices = reader.prices()
    except InvalidInput as refusal:
        problems = refusal.problems

    assert bool(prices) != bool(problems)
    assert all(problem.startswith(("a.csv", "these are the first")) for problem in problems)
    assert not any("\n" in problem for problem in problems)


def cells_of(price: Price) -> tuple[str, ...]:
    return price.model, price.deployment_type, price.region, price.tier, price.context


@given(prices=BOOKS, use=USES)
def test_a_tie_that_usage_meets_is_one_that_the_book_shows(prices: list[Price], use: Use) -> None:
    """Or holds one; but for equal rows of one file, which are refused when they are read."""
    named = [replace(price, place=str(number)) for number, price in enumerate(prices)]
    book = PriceBook(named, "USD")
    met: set[str] = set()
    try:
        book.own_price(DAY, use, Kind.INPUT)
    except AmbiguousPrice as tie:
        met = set(tie.rows)
    assume(len({cells_of(named[int(row)]) for row in met}) == len(met))
    shown = ties_between(book, DAY, DAY + timedelta(days=1))

    assert not met or any(met >= set(rows) or met <= set(rows) for rows in shown)
