"""A split invoice as a FOCUS file: the parts of each billed charge, which sum to it."""

import asyncio
import json
from collections import defaultdict
from collections.abc import Callable
from decimal import Decimal, localcontext
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter.ledger.rows import SumRow
from meter.reports.focus.terms import FocusTerms
from meter.reports.invoice.billed import Bill
from meter.reports.owners import Owner, Owners
from meter.usage import TokenUsage
from tests.properties.test_invoice_properties import billed, counted
from tests.support.focus import SPLIT, TERMS, Rows, focus_invoice, rows_of, summed
from tests.support.focus_spec import problems_of
from tests.support.invoice import INPUT, OUTPUT, bill_of, csv_of, details
from tests.support.reconcile import EAST
from tests.support.reports import row

type Export = Callable[..., Bill]


@pytest.fixture
def exported(tmp_path: Path) -> Export:
    """What an export of these rows bills."""

    def read(*rows: dict[str, str]) -> Bill:
        file = tmp_path / "export.csv"
        file.write_text(csv_of(*rows))
        return bill_of(file)

    return read


def used(subject: str, prompt_tokens: int, day: str = "2026-10-01") -> SumRow:
    usage = TokenUsage(prompt_tokens=prompt_tokens)
    return row(day, subject, usage=usage, backend="backend")


def cells(rows: Rows, *names: str) -> list[list[str]]:
    return [[each[name] for name in names] for each in rows]


async def test_each_line_has_its_part_of_the_billed_quantity_and_cost(exported: Export) -> None:
    """In the unit that was billed; what was not counted is a row of nobody's."""
    bill = exported(details(Quantity="2", CostInBillingCurrency="0.0050"))
    text, _ = await focus_invoice(bill, used("alice", 500), used("bob", 1_000))

    names = ("x_SubjectId", "x_LineKind", "ConsumedQuantity", "PricingQuantity", "BilledCost")
    assert cells(rows_of(text), *names) == [
        ["alice", "counted", "500", "0.5", "0.00125"],
        ["bob", "counted", "1000", "1", "0.0025"],
        ["", "not through the meter", "500", "0.5", "0.00125"],
    ]
    of_the_meter = ("PricingUnit", "ListUnitPrice", "SkuId", "SkuMeter", "ResourceId")
    assert cells(rows_of(text), *of_the_meter, "ChargePeriodEnd")[0] == [
        "1000 Tokens",
        "0.0025",
        "id-of-input",
        INPUT,
        EAST,
        "2026-10-02T00:00:00Z",
    ]


async def test_what_was_counted_beyond_the_bill_is_told_beside_it(exported: Export) -> None:
    """The parts sum to what was billed; the counted quantities are what they were measured by."""
    text, _ = await focus_invoice(exported(details()), used("alice", 1_500), used("bob", 500))

    names = ("ConsumedQuantity", "x_CountedQuantity", "x_AllocatedRatio")
    assert cells(rows_of(text), *names) == [
        ["750", "1500", "0.750000000000000000"],
        ["250", "500", "0.250000000000000000"],
    ]


async def test_the_chargeback_pages_day_has_these_rows(exported: Export) -> None:
    """A million input tokens for 2.50 with a refund of 0.50, and 100,000 output tokens for 1.00."""
    bill = exported(
        details(Quantity="1000", CostInBillingCurrency="2.50"),
        details(ChargeType="Refund", Quantity="0", CostInBillingCurrency="-0.50"),
        details(MeterName=OUTPUT, MeterId="o", Quantity="100", CostInBillingCurrency="1.00"),
    )
    alice = TokenUsage(prompt_tokens=600_000, completion_tokens=60_000)
    bob = TokenUsage(prompt_tokens=200_000, completion_tokens=50_000)
    text, _ = await focus_invoice(
        bill,
        row("2026-10-01", "alice", usage=alice, backend="backend"),
        row("2026-10-01", "bob", usage=bob, backend="backend"),
    )

    names = ("ConsumedQuantity", "BilledCost", "x_CountedQuantity", "x_AllocatedRatio")
    assert cells([each for each in rows_of(text) if each["x_SubjectId"] == "alice"], *names) == [
        ["600000", "1.5", "600000", "0.600000000000000000"],
        ["", "-0.3", "0", "0.600000000000000000"],
        ["54545.4545454545455", "0.545454545454545455", "60000", "0.545454545454545455"],
    ]
    assert summed(rows_of(text)) == 3


async def test_credits_have_no_quantity_at_a_price(exported: Export) -> None:
    """They follow the ratios of their meter; the export's own word stands beside FOCUS's."""
    credit = details(ChargeType="Refund", Quantity="0", CostInBillingCurrency="-0.001")
    odd = details(Quantity="1", CostInBillingCurrency="-0.004")
    bill = exported(details(Quantity="2"), credit, odd)
    text, _ = await focus_invoice(bill, used("alice", 9_000), terms=SPLIT)

    names = ("x_ChargeType", "ChargeCategory", "BilledCost", "PricingQuantity", "SkuId")
    assert cells(rows_of(text), *names) == [
        ["Usage", "Usage", "0.0025", "2", "id-of-input"],
        ["Usage", "Credit", "-0.004", "", ""],
        ["Refund", "Adjustment", "-0.001", "", ""],
    ]
    refund = rows_of(text)[2]
    assert json.loads(refund["AllocatedMethodDetails"]) == {"Elements": [{"AllocatedRatio": 1}]}
    assert problems_of(text, SPLIT.version) == []


async def test_meters_that_are_not_split_are_charges_of_the_account(exported: Export) -> None:
    """Of its other services; they are allocated to nobody by no method."""
    speech = details(MeterName="Speech To Text", MeterId="s", UnitOfMeasure="1 Hour")
    text, _ = await focus_invoice(exported(speech), used("alice", 5), terms=SPLIT)

    names = ("x_LineKind", "ServiceName", "ConsumedUnit", "AllocatedMethodId", "x_SubjectId")
    assert cells(rows_of(text), *names) == [["unmapped", "Azure AI services", "Units", "", ""]]
    assert problems_of(text, SPLIT.version) == []


async def test_split_rows_are_allocated_by_name_and_team(exported: Export) -> None:
    """The tags are those of the charge, which has none, and whom it belongs to."""
    owners = Owners({"alice": Owner("Alice A.", "search", "4711")})
    bill = exported(details(Quantity="2"))
    text, _ = await focus_invoice(bill, used("alice", 500), owners=owners, terms=SPLIT)

    names = ("AllocatedMethodId", "AllocatedResourceId", "AllocatedResourceName", "AllocatedTags")
    assert cells(rows_of(text), *names) == [
        ["counted-use", "alice", "Alice A.", '{"cost_centre": "4711", "team": "search"}'],
        ["counted-use", "", "", ""],
    ]
    (element,) = json.loads(rows_of(text)[0]["AllocatedMethodDetails"])["Elements"]
    assert element == {"AllocatedRatio": 0.25, "UsageUnit": "Tokens", "UsageQuantity": 500}


@settings(
    deadline=None, max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(billed, min_size=1, max_size=8),
    uses=st.lists(counted, max_size=6, unique_by=lambda each: each.key),
    terms=st.sampled_from([TERMS, SPLIT]),
)
def test_the_rows_sum_to_the_bill(
    rows: list[dict[str, str]], uses: list[SumRow], terms: FocusTerms, tmp_path: Path
) -> None:
    """To the last digit: per charge and in all. Every file is as the specification asks."""
    file = tmp_path / "export.csv"
    file.write_text(csv_of(*rows))
    text, totals = asyncio.run(focus_invoice(bill_of(file), *uses, terms=terms))

    with localcontext(prec=200):
        exported: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        found: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for each in rows:
            month, day, year = each["Date"].split("/")
            key = (f"{year}-{month}-{day}T00:00:00Z", each["ChargeType"])
            exported[key] += Decimal(each["CostInBillingCurrency"])
        for each in rows_of(text):
            found[each["ChargePeriodStart"], each["x_ChargeType"]] += Decimal(each["BilledCost"])
        assert found == exported
        assert summed(rows_of(text)) == totals.cost()
    assert problems_of(text, terms.version) == []
