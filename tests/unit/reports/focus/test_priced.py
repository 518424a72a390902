"""A report as a FOCUS file: one row per group, price and window, which sum to what the report costs."""

import json
from collections import defaultdict
from dataclasses import replace
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.capacity.entries import Idle
from meter.reports.focus.charge import Resource
from meter.reports.focus.terms import FocusTerms
from meter.reports.pricing.book import Origin
from meter.reports.pricing.money import amount_text
from meter.reports.query import Grouping
from meter.usage import TokenUsage
from meter.window import Window
from tests.support.capacity import entry, team, tokens
from tests.support.focus import SPLIT, TERMS, Rows, focus_report, rows_of, summed
from tests.support.focus_spec import problems_of
from tests.support.reconcile import EAST
from tests.support.reports import book, price, query, row

ALL = ",".join(Grouping)
USAGE = TokenUsage(
    prompt_tokens=12_345, cached_tokens=345, completion_tokens=678, total_tokens=13_023, seconds=77
)
PRICES = book(
    price("0.0025"),
    price("0.00125", "cached_input", "gpt-4o", region="swedencentral"),
    price("0.01", "output"),
    price("0.1", "second", unit=3_600),
)
NOVEMBER = query(groups=ALL)


def spent(hour: str = "2026-11-04T05") -> list[SumRow]:
    """Calls of two subjects on the provisioned backend, in the views of hours and days."""
    return [
        row(window, subject, usage=tokens(prompt, 10), backend="ptu", tier="provisioned")
        for window in (hour, hour[:10])
        for subject, prompt in (("dora", 100), ("erin", 200))
    ]


async def test_each_kind_of_usage_is_a_row_at_its_price() -> None:
    """The quantity is in its own unit, and in the unit of the price."""
    text, _ = await focus_report(NOVEMBER, row("2026-11-02", usage=USAGE), prices=PRICES)

    names = ("x_Kind", "ConsumedQuantity", "ConsumedUnit", "PricingQuantity", "PricingUnit")
    assert [[each[name] for name in names] for each in rows_of(text)] == [
        ["input", "12345", "Tokens", "12.345", "1000 Tokens"],
        ["output", "678", "Tokens", "0.678", "1000 Tokens"],
        ["second", "77", "Seconds", "0.02138888888888888889", "3600 Seconds"],
    ]
    assert [each["ListUnitPrice"] for each in rows_of(text)] == ["0.0025", "0.01", "0.1"]
    assert [each["BilledCost"] for each in rows_of(text)] == [
        "0.0308625",
        "0.00678",
        "0.00213888888888888889",
    ]


async def test_a_row_says_when_it_was_used_and_when_it_is_billed() -> None:
    """The charge period is the window, the billing period its month; the day after is not in it."""
    text, _ = await focus_report(
        query("day", "2026-11", "2026-11", ALL), row("2026-11-30"), prices=PRICES
    )

    (found,) = rows_of(text)
    assert (found["ChargePeriodStart"], found["ChargePeriodEnd"]) == (
        "2026-11-30T00:00:00Z",
        "2026-12-01T00:00:00Z",
    )
    assert (found["BillingPeriodStart"], found["BillingPeriodEnd"]) == (
        "2026-11-01T00:00:00Z",
        "2026-12-01T00:00:00Z",
    )


async def test_a_row_is_of_the_backends_account() -> None:
    """Where rows are grouped by backend and the backends are known: other resources are null."""
    wanted = query(groups="subject,backend")
    rows = [row("2026-11-02", backend="east"), row("2026-11-02", backend="west")]
    text, _ = await focus_report(wanted, *rows, prices=PRICES)

    names = ("ResourceId", "ResourceName", "ResourceType", "SubAccountType", "RegionId")
    east, west = ([each[name] for name in names] for each in rows_of(text))
    assert east == [
        EAST,
        "east",
        "Microsoft.CognitiveServices/accounts",
        "Subscription",
        "eastus",
    ]
    assert west == [""] * 5


async def test_rows_have_the_groups_of_the_report() -> None:
    """Columns of other groups are null; no text stands for what is not known."""
    text, _ = await focus_report(query(groups="team,model"), row("2026-11-02"), prices=PRICES)

    (found,) = rows_of(text)
    assert (found["x_Team"], found["x_ModelName"]) == ("(no team)", "gpt-4o-2024-11-20")
    assert (found["x_SubjectId"], found["x_BackendName"]) == ("", "")
    assert json.loads(found["Tags"]) == {"team": "(no team)"}


async def test_a_price_of_a_contract_says_so() -> None:
    """Its list price is not known to it, so the columns of both have the contract's."""
    contracted = replace(price("0.002"), origin=Origin.CONTRACTED, meter_id="m-1", meter_name="Inp")
    text, _ = await focus_report(NOVEMBER, row("2026-11-02"), prices=book(contracted))

    (found,) = rows_of(text)
    assert found["x_PriceOrigin"] == "contracted"
    assert (found["ListUnitPrice"], found["ContractedUnitPrice"]) == ("0.002", "0.002")
    assert (found["SkuId"], found["SkuMeter"]) == ("m-1", "Inp")


async def test_usage_without_a_price_makes_no_charge() -> None:
    """It has no cost, not even 0: the group's other rows name it, and the total has how much it is."""
    rows = [row("2026-11-02", usage=USAGE), row("2026-11-03", "bob", usage=USAGE)]
    text, total = await focus_report(NOVEMBER, *rows, prices=book(price("0.01", "output")))

    assert [each["x_Kind"] for each in rows_of(text)] == ["output", "output"]
    assert {each["x_UnpricedKinds"] for each in rows_of(text)} == {"input cached_input second"}
    assert sum(quantity for _, quantity in total.unpriced) == 2 * (12_345 + 77)


async def test_counts_that_are_not_reported_are_told_as_shares_of_calls() -> None:
    """Estimated and missing ones, with six decimals."""
    stored = row("2026-11-02", calls=3, estimated_calls=1)
    text, _ = await focus_report(NOVEMBER, stored, prices=PRICES)

    (found,) = rows_of(text)
    assert (found["x_EstimatedCallRatio"], found["x_MissingCallRatio"]) == ("0.333333", "0")


async def test_an_adjustment_is_part_of_its_row() -> None:
    """What it took back is told beside it; negative quantities keep their sign."""
    back = TokenUsage(prompt_tokens=-3_000, total_tokens=-3_000)
    rows = [row("2026-11-02", adjusted=back), row("2026-11-02", "bob", calls=4, adjusted=back)]
    text, _ = await focus_report(NOVEMBER, *rows, prices=PRICES)

    names = ("ConsumedQuantity", "x_AdjustedQuantity", "BilledCost")
    assert [[each[name] for name in names] for each in rows_of(text)] == [
        ["-2000", "-3000", "-0.005"],
        ["1000", "-3000", "0.0025"],
    ]


async def test_a_share_of_capacity_is_a_row_in_ptu_hours() -> None:
    """Calls that capacity pays for have no other row; idle units are one of nobody's."""
    text, total = await focus_report(
        NOVEMBER, *spent(), prices=PRICES, entries=[entry(price=Fraction(2))]
    )

    names = ("x_SubjectId", "ConsumedUnit", "ListUnitPrice", "x_CapacityName", "x_Kind")
    assert [[each[name] for name in names] for each in rows_of(text)] == [
        ["(idle)", "PTU-Hours", "2", "backend ptu", "ptu_hour"],
        ["dora", "PTU-Hours", "2", "backend ptu", "ptu_hour"],
        ["erin", "PTU-Hours", "2", "backend ptu", "ptu_hour"],
    ]
    assert summed(rows_of(text)) == 30 * 24 * 100 * 2 == total.cost


async def test_late_usage_of_a_closed_month_is_a_correction() -> None:
    """It is for the closed month, and billed in the month in which it arrived."""
    late = row("2026-10-05", "bob")
    corrections = {
        Window("2026-11"): [
            (Window("2026-10-05"), Row(key=late.key.view_row_key, columns=late.columns()))
        ]
    }
    text, _ = await focus_report(
        NOVEMBER, row("2026-11-02"), prices=PRICES, corrections=corrections, terms=SPLIT
    )

    names = ("ChargeClass", "ChargePeriodStart", "BillingPeriodStart", "x_SubjectId")
    assert [[each[name] for name in names] for each in rows_of(text)] == [
        ["", "2026-11-01T00:00:00Z", "2026-11-01T00:00:00Z", "alice"],
        ["Correction", "2026-10-01T00:00:00Z", "2026-11-01T00:00:00Z", "bob"],
    ]
    assert {
        json.loads(each["AllocatedMethodDetails"])["Elements"][0]["AllocatedRatio"]
        for each in rows_of(text)
    } == {1}


async def test_a_file_without_usage_has_its_header() -> None:
    """So tools that read it know its columns."""
    text, _ = await focus_report(NOVEMBER, prices=PRICES)

    assert len(text.splitlines()) == 1


@pytest.mark.parametrize("terms", [TERMS, SPLIT], ids=["1.2", "1.4"])
async def test_files_are_as_the_specification_asks(terms: FocusTerms) -> None:
    """Columns, their order, types, nulls and allowed values, for all that a report can have."""
    back = TokenUsage(prompt_tokens=-99_000, total_tokens=-99_000)
    rows = [
        row("2026-11-02", usage=USAGE, backend="east"),
        row("2026-11-02", "=bob", usage=USAGE, adjusted=back),
        *spent(),
    ]
    text, _ = await focus_report(
        NOVEMBER, *rows, prices=PRICES, entries=[entry(price=Fraction(1, 3))], terms=terms
    )

    assert len(rows_of(text)) == 9
    assert problems_of(text, terms.version) == []


def ratios(rows: Rows) -> dict[tuple[str, ...], Decimal]:
    """The ratios of split charges, added up by what the account was charged."""
    origin = ("ChargePeriodStart", "BillingPeriodStart", "ResourceId", "SkuId", "ListUnitPrice")
    found: defaultdict[tuple[str, ...], Decimal] = defaultdict(Decimal)
    for each in rows:
        if details := each["AllocatedMethodDetails"]:
            (element,) = json.loads(details, parse_float=Decimal)["Elements"]
            found[tuple(each[name] for name in origin)] += element["AllocatedRatio"]
    return found


async def test_split_charges_name_whom_they_are_allocated_to() -> None:
    """Subjects are allocated resources; what nobody used is allocated to nobody."""
    rows = [row("2026-11-02", "alice", calls=3), row("2026-11-02", "bob"), *spent()]
    text, _ = await focus_report(NOVEMBER, *rows, prices=PRICES, entries=[entry()], terms=SPLIT)

    names = ("AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName")
    idle, alice, bob, dora, erin = rows_of(text)
    assert [idle[name] for name in names] == ["capacity-use", "", ""]
    assert [alice[name] for name in names] == ["counted-use", "alice", "alice"]
    assert json.loads(alice["AllocatedMethodDetails"]) == {
        "Elements": [{"AllocatedRatio": 0.75, "UsageUnit": "Tokens", "UsageQuantity": 3_000}]
    }
    assert json.loads(alice["AllocatedTags"]) == {
        "cost_centre": "(no cost centre)",
        "team": "(no team)",
    }
    assert (alice["Tags"], bob["x_AllocatedRatio"]) == ("", "0.250000000000000000")
    assert [each["AllocatedMethodId"] for each in (dora, erin)] == ["capacity-use"] * 2
    assert set(ratios(rows_of(text)).values()) == {1}


async def test_charges_that_look_alike_are_parts_of_one() -> None:
    """Whatever backend of the account served them, and whichever row of the book has the price."""
    prices = book(price("0.0025", end="2026-11-16"), price("0.0025", start="2026-11-16"))
    rows = [
        row("2026-11-02", backend="east"),
        row("2026-11-02", backend="east-2"),
        row("2026-11-20", "bob", backend="east", calls=2),
    ]
    accounts = {name: Resource(EAST, "eastus") for name in ("east", "east-2")}
    terms = replace(SPLIT, resources=accounts)
    text, _ = await focus_report(NOVEMBER, *rows, prices=prices, terms=terms)

    found = [(each["x_SubjectId"], each["x_AllocatedRatio"]) for each in rows_of(text)]
    assert [(name, Decimal(ratio)) for name, ratio in found] == [
        ("alice", Decimal("0.25")),
        ("alice", Decimal("0.25")),
        ("bob", Decimal("0.5")),
    ]


AMOUNTS = st.sampled_from(["0.0025", "0.1", "7", "0.0000001"])
UNITS = st.sampled_from([1, 7, 1_000, 3_600, 1_000_000])
COUNTS = st.integers(0, 10**7)


@settings(max_examples=30, deadline=None)
@given(
    amounts=st.lists(st.tuples(AMOUNTS, UNITS), min_size=2, max_size=2),
    counts=st.lists(st.tuples(COUNTS, COUNTS, st.integers(1, 28)), max_size=6),
    idle=st.sampled_from(Idle),
    groups=st.sampled_from([ALL, "team", "subject,backend", ""]),
    period=st.sampled_from(["month", "day"]),
)
async def test_the_rows_sum_to_the_cost_of_the_report(
    amounts: list[tuple[str, int]],
    counts: list[tuple[int, int, int]],
    idle: Idle,
    groups: str,
    period: str,
) -> None:
    """To the last digit, in every cost column; ratios of a split charge sum to 1."""
    prices = book(
        *(
            price(amount, kind, unit=unit)
            for kind, (amount, unit) in zip(("input", "output"), amounts, strict=True)
        )
    )
    rows = [
        row(
            f"2026-11-{day:02}",
            f"s{number}",
            usage=TokenUsage(prompt_tokens=prompt, completion_tokens=completion),
        )
        for number, (prompt, completion, day) in enumerate(counts)
    ]
    shares = {team("x"): Fraction(1), team("y"): Fraction(2)} if idle is Idle.BY_SHARE else {}
    units = entry(price=Fraction(1, 3), idle=idle, shares=shares)
    wanted = query(period, "2026-11", "2026-11", groups)
    text, total = await focus_report(
        wanted, *rows, *spent(), prices=prices, entries=[units], terms=SPLIT
    )

    found = rows_of(text)
    assert total.cost is not None
    for column in ("BilledCost", "EffectiveCost", "ListCost", "ContractedCost"):
        assert summed(found, column) == Decimal(amount_text(total.cost))
    assert set(ratios(found).values()) <= {1}
    assert problems_of(text, SPLIT.version) == []
