"""A price book that takes in retail prices: what is new, what stays, and what is refused."""

import io
import random
from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.errors import InvalidInput
from meter.reports.pricing.book import Origin, Price, PriceBook
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Reason
from meter.reports.pricing.read import BookReader
from meter.reports.pricing.retail.price import RetailPrice, retail_prices
from meter.reports.pricing.retail.update import SOURCE, Update, updated_book
from meter.reports.pricing.retail.write import write_book
from tests.support.prices import price, use
from tests.support.retail import api_item, retail_rows

ZONE = {"deployment_type": "data-zone"}
MARCH, JULY = "2026-03-01T00:00:00Z", "2026-07-01T00:00:00Z"


def row(**changes: object) -> RetailPrice:
    """GPT-5.4's input, global, in Sweden, 2.50 USD per million, but for what is given."""
    (found,) = retail_prices(api_item(**{"currencyCode": "USD"} | changes), "USD")
    return found


def text_of(update: Update) -> str:
    out = io.StringIO()
    write_book(update.prices, out)
    return out.getvalue()


def read_again(update: Update) -> list[Price]:
    """The book, read from its file."""
    reader = BookReader()
    reader.read("book.csv", io.StringIO(text_of(update), newline=""))
    return reader.prices()


def lines(update: Update) -> list[str]:
    """Price, first day and end of each row."""
    return [f"{each.price} {each.effective_from} {each.effective_to}" for each in update.prices]


def skipped(update: Update) -> list[str]:
    return [str(why) for _, why in update.skipped]


def own(**changes: object) -> Price:
    """A person's price of the same as `row()`."""
    usual: dict[str, object] = {
        "model": "gpt-5.4",
        "deployment_type": "global",
        "region": "swedencentral",
        "tier": "standard",
        "source": "our agreement",
    }
    return price(**usual | changes)


def test_a_row_becomes_a_price_of_the_book() -> None:
    """The name's words in their columns, and whose the row is."""
    update = updated_book([], [row()], currency="USD")

    assert text_of(update).splitlines()[1] == (
        "a1,5.4 inp Gl 1M Tokens,gpt-5.4,input,global,swedencentral,standard,*,1000000,2.5,USD,"
        "2026-03-01,,list,azure-retail-prices"
    )
    assert (update.rows, update.parsed, update.stayed) == (1, 1, 0)


def test_a_price_of_no_region_is_of_any() -> None:
    """Azure says `Global`, or nothing."""
    update = updated_book([], [row(armRegionName="Global")], currency="USD")

    assert [each.region for each in update.prices] == ["*"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"type": "Reservation"}, "not pay-as-you-go: Reservation"),
        ({"type": "DevTestConsumption"}, "not pay-as-you-go: DevTestConsumption"),
        ({"tierMinimumUnits": 1000}, "price from a volume on: 1000"),
        ({"currencyCode": "EUR"}, "in another currency: EUR"),
        ({"retailPrice": "-1"}, "not a price that a book can hold: -1"),
        ({"retailPrice": "1e-30"}, "not a price that a book can hold: 1E-30"),
        ({"retailPrice": "1e30"}, "not a price that a book can hold: 1E+30"),
        ({"armRegionName": "7"}, "not a price that a book can hold: of region 7"),
        (
            {"effectiveEndDate": "2026-03-01T00:00:00Z"},
            "not a price that a book can hold: from 2026-03-01 until 2026-03-01",
        ),
        ({"unitOfMeasure": "1K"}, "unclear unit: 1K, but 1M in the name"),
        ({"unitOfMeasure": "1 Hour"}, "unclear unit: 1 Hour of input"),
        ({"productName": "Azure Grok Models"}, "not Azure OpenAI: Azure Grok Models"),
        ({"meterName": "5.4 nova inp Gl 1M Tokens"}, "unknown word: nova"),
    ],
)
def test_a_row_that_is_no_price_is_skipped_with_the_reason(
    changes: dict[str, object], said: str
) -> None:
    """Each is told; the others are taken in."""
    update = updated_book([], [row(**changes), row(armRegionName="eastus")], currency="USD")

    assert skipped(update) == [said]
    assert (len(update.prices), update.parsed) == (1, 1)


def test_prices_of_several_dates_end_where_the_next_begins() -> None:
    """Azure lists what held before without its end."""
    update = updated_book(
        [],
        [
            row(effectiveStartDate=JULY, retailPrice=2),
            row(effectiveStartDate=MARCH, retailPrice=3),
            row(effectiveStartDate=MARCH, retailPrice=3),
        ],
        currency="USD",
    )

    assert lines(update) == ["3 2026-03-01 2026-07-01", "2 2026-07-01 None"]
    assert update.parsed == 3


def test_an_end_that_azure_gives_is_kept() -> None:
    """A gap stays one: usage in it has no price."""
    update = updated_book(
        [],
        [
            row(effectiveEndDate="2026-04-30T23:59:00Z", retailPrice=3),
            row(effectiveStartDate=JULY, retailPrice=2),
        ],
        currency="USD",
    )

    assert lines(update) == ["3 2026-03-01 2026-05-01", "2 2026-07-01 None"]


def test_two_meters_with_different_prices_for_the_same_are_both_skipped() -> None:
    """Which of them Azure charges is not known."""
    update = updated_book(
        [],
        [row(), row(meterName="gpt 5.4 Inp glbl 1M Tokens", meterId="a2", retailPrice=3)],
        currency="USD",
    )

    assert (
        skipped(update)
        == [
            "two meters have different prices for the same: 5.4 inp Gl 1M Tokens / gpt 5.4 Inp glbl 1M "
            "Tokens"
        ]
        * 2
    )
    assert update.prices == []


def test_a_conflict_leaves_what_the_book_had() -> None:
    """The months before are still priced."""
    before = updated_book([], [row()], currency="USD")
    other = row(meterName="gpt 5.4 Inp glbl 1M Tokens", meterId="a2", retailPrice=3)

    after = updated_book(before.prices, [row(), other], currency="USD")

    assert lines(after) == ["2.5 2026-03-01 None"]
    assert (after.parsed, after.stayed) == (0, 1)


def test_two_meters_with_one_price_for_the_same_are_one() -> None:
    """It makes no difference which of them is meant."""
    update = updated_book(
        [], [row(meterName="gpt 5.4 Inp glbl 1M Tokens", meterId="a2"), row()], currency="USD"
    )

    assert [each.meter_name for each in update.prices] == ["5.4 inp Gl 1M Tokens"]
    assert skipped(update) == []


def test_a_price_that_held_before_is_kept_when_azure_changes_it() -> None:
    """Azure lists only what holds now, and earlier months are priced by what held then."""
    before = updated_book([], [row()], currency="USD")

    after = updated_book(
        before.prices, [row(effectiveStartDate=JULY, retailPrice=2)], currency="USD"
    )

    assert lines(after) == ["2.5 2026-03-01 2026-07-01", "2 2026-07-01 None"]


def test_a_price_that_azure_corrects_is_replaced() -> None:
    """From the same day on, or from an earlier one."""
    before = updated_book([], [row()], currency="USD")

    same = updated_book(before.prices, [row(retailPrice=2)], currency="USD")
    earlier = updated_book(
        before.prices,
        [row(retailPrice=2, effectiveStartDate="2026-02-01T00:00:00Z")],
        currency="USD",
    )

    assert lines(same) == ["2 2026-03-01 None"]
    assert lines(earlier) == ["2 2026-02-01 None"]


def test_imported_prices_that_were_not_fetched_stay() -> None:
    """Other regions, currencies, and meters that Azure no longer lists."""
    before = updated_book(
        [],
        [row(armRegionName="eastus"), row(meterName="5.4 opt Gl 1M Tokens", meterId="a9")],
        currency="USD",
    )

    after = updated_book(before.prices, [row()], currency="USD")

    assert [(each.region, each.kind.value) for each in after.prices] == [
        ("eastus", "input"),
        ("swedencentral", "input"),
        ("swedencentral", "output"),
    ]
    assert after.stayed == 2


def test_rows_of_people_stay_first_and_as_they_are() -> None:
    """Contracted ones, and list prices from elsewhere; in their order."""
    rows = [
        own(origin=Origin.CONTRACTED, price=Decimal("1.90"), source=SOURCE),
        own(model="deployment:chat", price=Decimal(2)),
        own(model="*", source=""),
    ]

    update = updated_book(rows, [row()], currency="USD")

    assert update.prices[:3] == rows
    assert [each.source for each in update.prices[3:]] == [SOURCE]
    assert update.stayed == 3


def test_a_persons_list_price_of_the_same_goes_before_the_imported_one() -> None:
    """Both in one file would contradict each other; the row that is left out is told."""
    update = updated_book([own()], [row(), row(armRegionName="eastus")], currency="USD")

    assert [(each.source, each.region) for each in update.prices] == [
        ("our agreement", "swedencentral"),
        (SOURCE, "eastus"),
    ]
    assert skipped(update) == ["has a row that somebody added"]


def test_an_ended_row_of_a_person_is_in_nobodys_way() -> None:
    """Only rows that hold on the same day contradict each other."""
    update = updated_book([own(effective_to=date(2026, 3, 1))], [row()], currency="USD")

    assert len(update.prices) == 2


def test_the_order_of_the_rows_makes_no_difference() -> None:
    """The same prices give the same file, so that a versioned book shows what changed."""
    rows = [
        found
        for each in retail_rows()
        for region in each.regions[:2]
        for found in [
            row(
                productName=each.product,
                meterName=each.name,
                meterId="",
                armRegionName=region,
                unitOfMeasure=each.unit,
                retailPrice=str(each.price),
                effectiveStartDate=each.since,
            )
        ]
    ]
    shuffled = random.Random(7).sample(rows, len(rows))  # any order will do

    first = updated_book([], rows, currency="USD")
    again = updated_book(first.prices, shuffled, currency="USD")

    assert text_of(again) == text_of(first)
    assert len(read_again(first)) == len(first.prices) > 3_000
    assert first.skipped_by_reason[Reason.CONFLICT] == 0


SWEDEN = [
    found
    for each in retail_rows()
    if "swedencentral" in each.regions
    for found in [
        row(
            productName=each.product,
            meterName=each.name,
            unitOfMeasure=each.unit,
            retailPrice=str(each.price),
            effectiveStartDate=each.since,
        )
    ]
]


@pytest.mark.parametrize(
    ("changes", "kind", "per", "expected"),
    [
        ({"model": "gpt-4o-2024-11-20", "deployment_type": "global"}, Kind.INPUT, 1_000_000, "2.5"),
        ({"model": "gpt-4o-2024-11-20"}, Kind.INPUT, 1_000_000, "3.025"),
        ({"model": "gpt-4o-2099-01-01", "deployment_type": "global"}, Kind.INPUT, 1, None),
        ({"model": "gpt-5.4-2026-03-05", **ZONE}, Kind.OUTPUT, 1_000_000, "16.5"),
        (
            {"model": "gpt-5.4-2026-03-05", **ZONE, "context": "long"},
            Kind.OUTPUT,
            1_000_000,
            "24.75",
        ),
        ({"model": "gpt-5.4-2026-03-05", **ZONE, "tier": "priority"}, Kind.OUTPUT, 1_000_000, "33"),
        ({"model": "gpt-5.4-2026-03-05", **ZONE, "tier": "flex"}, Kind.OUTPUT, 1, None),
        ({"model": "gpt-5.4-2026-03-05", **ZONE, "tier": "provisioned"}, Kind.OUTPUT, 1, None),
        (
            {"model": "text-embedding-3-small", "deployment_type": "global"},
            Kind.INPUT,
            1_000_000,
            "0.02",
        ),
        ({"model": "o1-2024-12-17", **ZONE, "tier": "batch"}, Kind.INPUT, 1_000_000, "8.25"),
        ({"model": "any", "deployment_type": "global"}, Kind.FILE_SEARCH, 1_000, "2.5"),
        ({"model": "", **ZONE, "tier": "provisioned", "context": ""}, Kind.PTU_HOUR, 1, "1.1"),
    ],
)
def test_imported_prices_are_found_for_usage_as_it_is_counted(
    changes: dict[str, str], kind: Kind, per: int, expected: str | None
) -> None:
    """Answers name dated models, and a meter without a date is of every version."""
    book = PriceBook(updated_book([], SWEDEN, currency="USD").prices, "USD")

    found = book.own_price(date(2026, 8, 15), use(**changes), kind)

    assert (found and found.rate * per) == (None if expected is None else Fraction(expected))


def test_more_rows_than_a_book_may_have_are_not_written() -> None:
    """Such a book could not be read again."""
    out = io.StringIO()

    with pytest.raises(
        InvalidInput, match="200,001 rows, and may have 200,000: take fewer regions"
    ):
        write_book([price()] * 200_001, out)
    assert out.getvalue() == ""


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.lists(
            st.tuples(
                st.sampled_from(["5.4 inp Gl 1M Tokens", "gpt 5.4 Inp glbl 1M Tokens"]),
                st.sampled_from(["swedencentral", "westus"]),
                st.integers(1, 6),
                st.integers(0, 3),
                st.sampled_from(["", "2026-04-30", "2026-09-01"]),
            ),
            max_size=5,
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
)
def test_a_book_can_be_read_after_any_imports(
    imports: list[list[tuple[str, str, int, int, str]]], has_own: bool
) -> None:
    """No two rows of it hold for the same on one day, and a person's row is in it for ever."""
    prices = [own(effective_to=date(2026, 5, 1))] if has_own else []
    for rows in imports:
        fetched = [
            row(
                meterName=name,
                meterId=name[:1],
                armRegionName=region,
                effectiveStartDate=f"2026-{month:02}-01",
                retailPrice=amount,
                effectiveEndDate=end,
            )
            for name, region, month, amount, end in rows
        ]
        update = updated_book(prices, fetched, currency="USD")
        prices = read_again(update) if update.prices else []

        assert update.rows == len(rows)
        assert update.parsed + len(update.skipped) == len(rows)

    assert sum(each.source == "our agreement" for each in prices) == has_own
