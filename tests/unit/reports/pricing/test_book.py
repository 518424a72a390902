"""The price book: which row is the price of some usage on some day."""

from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

from meter.errors import AmbiguousPrice, InvalidInput
from meter.reports.pricing.book import Origin, Price, PriceBook, book_in, undated
from meter.reports.pricing.kinds import Kind
from tests.support.prices import DAY, book, price, use

type Changes = dict[str, Any]


def winner(*rows: Price, **names: str) -> Price | None:
    return book(*rows).own_price(DAY, use(**names), Kind.INPUT)


@pytest.mark.parametrize(
    ("column", "cell", "name", "value", "matches"),
    [
        ("model", "gpt-4o-2024-11-20", "model", "gpt-4o-2024-11-20", True),
        ("model", "gpt-4o", "model", "gpt-4o-2024-11-20", True),
        ("model", "gpt-4o", "model", "gpt-4o", True),
        ("model", "gpt-4o-2024-11-20", "model", "gpt-4o", False),
        ("model", "gpt-4o-2024-08-06", "model", "gpt-4o-2024-11-20", False),
        ("model", "gpt-4o", "model", "gpt-4o-mini-2024-07-18", False),
        ("model", "gpt-4", "model", "gpt-4-0613", False),
        ("model", "GPT-4o", "model", "gpt-4O-2024-11-20", True),
        ("model", "*", "model", "unknown", True),
        ("model", "deployment:chat", "deployment", "chat", True),
        ("model", "deployment:chat", "deployment", "Chat", False),
        ("model", "Deployment:Chat", "deployment", "Chat", True),
        ("model", "deployment:chat", "deployment", "chat-eu", False),
        ("model", "deployment:gpt-4o", "model", "gpt-4o", False),
        ("model", "chat", "deployment", "chat", False),
        ("deployment_type", "regional", "deployment_type", "regional", True),
        ("deployment_type", "Data Zone", "deployment_type", "data-zone", True),
        ("deployment_type", "global", "deployment_type", "regional", False),
        ("deployment_type", "global", "deployment_type", "", False),
        ("deployment_type", "*", "deployment_type", "", True),
        ("region", "Sweden Central", "region", "swedencentral", True),
        ("region", "swedencentral", "region", "Sweden Central", True),
        ("region", "eastus", "region", "eastus2", False),
        ("region", "eastus", "region", "", False),
        ("region", "*", "region", "", True),
        ("tier", "priority", "tier", "priority", True),
        ("tier", "priority", "tier", "standard", False),
        ("tier", "*", "tier", "flex", True),
        ("tier", "*", "tier", "provisioned", False),
        ("tier", "provisioned", "tier", "provisioned", True),
        ("context", "Long", "context", "long", True),
        ("context", "long", "context", "short", False),
        ("context", "*", "context", "long", True),
    ],
)
def test_a_price_matches_usage_column_by_column(
    column: str, cell: str, name: str, value: str, matches: bool
) -> None:
    """`*` is any value, an unknown one, too, but never provisioned; names of deployments are exact."""
    row, used = price(**{column: cell}), use(**{name: value})

    assert row.matches(used) is matches
    assert (book(row).own_price(DAY, used, Kind.INPUT) is row) is matches


def test_an_hour_of_capacity_may_be_priced_for_any_tier() -> None:
    """`*` keeps provisioned tokens from a price by the token; the hour is how they are paid."""
    row = price(kind=Kind.PTU_HOUR)

    assert book(row).own_price(DAY, use(tier="provisioned"), Kind.PTU_HOUR) is row


@pytest.mark.parametrize(
    ("day", "is_valid"),
    [
        (date(2026, 10, 31), False),
        (date(2026, 11, 1), True),
        (date(2026, 11, 30), True),
        (date(2026, 12, 1), False),
    ],
)
def test_a_price_holds_from_its_first_day_to_before_its_end(day: date, is_valid: bool) -> None:
    """`effective_from` is inclusive, `effective_to` exclusive."""
    row = price(effective_from=date(2026, 11, 1), effective_to=date(2026, 12, 1))

    assert row.is_valid_on(day) is is_valid
    assert (book(row).own_price(day, use(), Kind.INPUT) is row) is is_valid


RANKED: list[tuple[str, Changes, Changes]] = [
    (
        "contracted before list, however specific",
        {"origin": Origin.CONTRACTED, "model": "*"},
        {"model": "gpt-4o-2024-11-20", "region": "swedencentral", "tier": "standard"},
    ),
    (
        "more columns before the better model",
        {"model": "gpt-4o", "region": "swedencentral", "tier": "standard"},
        {"model": "deployment:chat", "context": "short"},
    ),
    (
        "a deployment before a dated model",
        {"model": "deployment:chat"},
        {"model": "gpt-4o-2024-11-20"},
    ),
    ("a dated model before an undated", {"model": "gpt-4o-2024-11-20"}, {"model": "gpt-4o"}),
    ("any model last", {"model": "gpt-4o"}, {"model": "*"}),
    (
        "an undated model before any, of equally many columns",
        {"model": "gpt-4o"},
        {"model": "*", "region": "swedencentral"},
    ),
    ("the later file", {"file": 1}, {"file": 0}),
    ("more columns before the later file", {"tier": "standard", "file": 0}, {"file": 1}),
    ("the model before the later file", {"model": "deployment:chat"}, {"file": 1}),
]


@pytest.mark.parametrize(
    ("better", "worse"), [each[1:] for each in RANKED], ids=[each[0] for each in RANKED]
)
def test_the_better_claim_wins_in_any_order(better: Changes, worse: Changes) -> None:
    """Origin, then columns other than `*`, then the model's column, then the file."""
    one, other = price(**better), price(**worse)

    assert winner(one, other) is one
    assert winner(other, one) is one


def test_a_price_that_is_not_valid_does_not_hide_another() -> None:
    """The winner is one of those of the day."""
    old = price(origin=Origin.CONTRACTED, effective_to=date(2026, 6, 1))
    now = price()

    assert winner(old, now) is now


def test_rows_of_one_file_that_tie_for_some_usage_are_named() -> None:
    """A region against a tier: for usage with both, neither is more specific."""
    rows = [
        price(region="swedencentral", place="book.csv, line 2"),
        price(tier="standard", place="book.csv, line 3"),
        price(context="short", place="book.csv, line 4"),
        price(context="long", place="book.csv, line 5"),
    ]
    with pytest.raises(AmbiguousPrice) as tie:
        winner(*rows)

    assert str(tie.value) == (
        "book.csv, line 2 and book.csv, line 3 and book.csv, line 4 are equally good prices of input of "
        "gpt-4o-2024-11-20 on 2026-11-23: make one more specific, or end it"
    )
    assert tie.value.rows == ("book.csv, line 2", "book.csv, line 3", "book.csv, line 4")
    assert winner(*rows, region="eastus", tier="priority", context="long") is rows[3]


def test_a_better_row_settles_a_tie_of_others() -> None:
    """Only the best rows matter."""
    best = price(region="swedencentral", tier="standard")

    assert winner(price(region="swedencentral"), best, price(tier="standard")) is best


def test_a_tie_of_a_kind_that_nobody_used_does_no_harm() -> None:
    """A kind is looked up when it is asked for."""
    output = price(kind=Kind.OUTPUT)
    charges = book(price(region="swedencentral"), price(tier="standard"), output).prices_of(
        DAY, use()
    )

    assert charges[Kind.OUTPUT] is output
    with pytest.raises(AmbiguousPrice):
        charges[Kind.CACHED_INPUT]


@pytest.mark.parametrize(
    ("kind", "priced", "charged_as"),
    [
        (Kind.AUDIO_CACHED_INPUT, {Kind.AUDIO_INPUT, Kind.INPUT}, Kind.AUDIO_INPUT),
        (Kind.AUDIO_CACHED_INPUT, {Kind.CACHED_INPUT, Kind.INPUT}, Kind.INPUT),
        (Kind.AUDIO_INPUT, {Kind.INPUT, Kind.OUTPUT}, Kind.INPUT),
        (Kind.IMAGE_CACHED_INPUT, {Kind.IMAGE_INPUT, Kind.INPUT}, Kind.IMAGE_INPUT),
        (Kind.IMAGE_CACHED_INPUT, {Kind.INPUT}, Kind.INPUT),
        (Kind.CACHED_INPUT, {Kind.CACHED_INPUT, Kind.INPUT}, Kind.CACHED_INPUT),
        (Kind.CACHED_INPUT, {Kind.INPUT}, Kind.INPUT),
        (Kind.CACHE_WRITE, {Kind.INPUT, Kind.CACHED_INPUT}, Kind.INPUT),
        (Kind.AUDIO_OUTPUT, {Kind.OUTPUT, Kind.AUDIO_INPUT}, Kind.OUTPUT),
        (Kind.IMAGE_OUTPUT, {Kind.OUTPUT}, Kind.OUTPUT),
        (Kind.INPUT, {Kind.OUTPUT, Kind.CACHED_INPUT}, None),
        (Kind.OUTPUT, {Kind.INPUT}, None),
        (Kind.SECOND, {Kind.INPUT, Kind.OUTPUT}, None),
        (Kind.WEB_SEARCH, {Kind.INPUT, Kind.FILE_SEARCH}, None),
    ],
)
def test_a_share_without_a_price_is_charged_as_its_parent(
    kind: Kind, priced: set[Kind], charged_as: Kind | None
) -> None:
    """Up to the first parent that has one; kinds without a parent have no price then."""
    found = book(*(price(kind=each) for each in Kind if each in priced)).prices_of(DAY, use())[kind]

    assert (found and found.kind) == charged_as


def test_a_general_price_of_the_share_goes_before_a_special_one_of_its_parent() -> None:
    """The kind is looked for first, and then the row."""
    general = price(kind=Kind.CACHED_INPUT, model="*")
    special = price(region="swedencentral", tier="standard", origin=Origin.CONTRACTED)

    assert book(general, special).prices_of(DAY, use())[Kind.CACHED_INPUT] is general


def test_a_lookup_is_made_once() -> None:
    """Reports ask for each row of usage."""
    prices = book(price())

    assert prices.prices_of(DAY, use()) is prices.prices_of(DAY, use())


def test_the_rate_is_exact() -> None:
    """A price for an hour of 3,600 seconds has no last digit per second."""
    assert price(price=Decimal("0.36"), unit=3_600).rate == Fraction(1, 10_000)
    assert price(price=Decimal("1.00"), unit=3_600).rate == Fraction(1, 3_600)


@pytest.mark.parametrize(
    ("model", "without"),
    [
        ("gpt-4o-2024-11-20", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4-0613", "gpt-4-0613"),
        ("gpt-4o", "gpt-4o"),
        ("2024-11-20", "2024-11-20"),
        ("", ""),
    ],
)
def test_the_date_of_a_model_is_its_suffix(model: str, without: str) -> None:
    """As answers write it: `-YYYY-MM-DD`."""
    assert undated(model) == without


def test_the_only_currency_needs_no_name() -> None:
    """Most books have one."""
    rows = [price(currency="EUR")]

    assert book_in(rows, None).currency == "EUR"
    assert book_in(rows, "EUR").prices == rows


def test_of_several_currencies_one_is_chosen() -> None:
    """Amounts of different currencies are never added up."""
    rows = [price(currency="EUR"), price(currency="USD"), price(currency="EUR", file=1)]

    assert book_in(rows, "USD").prices == [rows[1]]
    with pytest.raises(InvalidInput) as refusal:
        book_in(rows, None)
    assert refusal.value.problems == (
        "the prices are in EUR and USD: choose one currency with --currency",
    )


@pytest.mark.parametrize(
    ("rows", "currency", "problem"),
    [
        ([price()], "EUR", "there are no prices in EUR; they are in USD"),
        ([], None, "the price book has no prices"),
        ([], "EUR", "the price book has no prices"),
    ],
)
def test_a_currency_without_prices_is_refused(
    rows: list[Price], currency: str | None, problem: str
) -> None:
    """All usage would be without a price."""
    with pytest.raises(InvalidInput) as refusal:
        book_in(rows, currency)

    assert refusal.value.problems == (problem,)


def test_a_book_holds_one_currency() -> None:
    """So that no amounts of two can ever be added up."""
    with pytest.raises(ValueError, match="a book in USD holds no price in EUR"):
        PriceBook([price(currency="EUR")], "USD")
