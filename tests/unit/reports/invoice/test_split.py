"""Billed rows, split among those whose use was counted."""

from collections.abc import Callable, Sequence
from copy import replace
from decimal import Decimal
from pathlib import Path

import pytest

from meter.gateway.backend import Backend
from meter.ledger.rows import SumRow
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.line import Line, LineKind, MeterTotal
from meter.reports.owners import Owner, Owners
from meter.reports.pricing.kinds import Kind
from meter.reports.query import Grouping
from meter.usage import TokenUsage
from tests.support.invoice import CACHED, OUTPUT, backend, bill_of, csv_of, details, split
from tests.support.reconcile import EAST, WEST
from tests.support.reports import row

DAY = "2026-10-01"


type Export = Callable[..., Bill]


@pytest.fixture
def exported(tmp_path: Path) -> Export:
    """What an export of these rows bills."""

    def read(*rows: dict[str, str], backends: Sequence[Backend] = (backend(),)) -> Bill:
        file = tmp_path / "export.csv"
        file.write_text(csv_of(*rows))
        return bill_of(file, backends=backends)

    return read


def used(
    subject: str = "alice", day: str = DAY, *, names: dict[str, str] | None = None, **counts: int
) -> SumRow:
    """A day's use of a subject on the backend."""
    tokens = TokenUsage(**counts)
    found = row(day, subject, usage=tokens, backend="backend")
    dimensions = found.key.dimensions._replace(**names or {})
    return replace(found, key=replace(found.key, dimensions=dimensions))


def adjusted(counted: SumRow, **counts: int) -> SumRow:
    """The same with an adjustment."""
    sums = replace(counted.sums, adjustments=1, adjusted=TokenUsage(**counts))
    return replace(counted, sums=sums)


def quantities(found: MeterTotal) -> list[str]:
    """Billed, counted, not counted, not billed."""
    numbers = (found.billed, found.counted, found.not_counted, found.not_billed)
    return [f"{Decimal(each).normalize():f}" for each in numbers]


def shown(lines: list[Line]) -> list[tuple[str, str, str, str]]:
    """Meter, whose it is, quantity and cost."""
    return [
        (
            line.meter.meter_id,
            line.names[0] if line.names else str(line.kind),
            f"{line.quantity:f}",
            str(line.cost.normalize()),
        )
        for line in lines
    ]


async def test_each_pays_for_what_was_counted_and_nobody_for_the_rest(exported: Export) -> None:
    """Of 1,000 billed tokens 700 came through the meter."""
    bill = exported(details(CostInBillingCurrency="0.0025"))
    lines, totals = await split(
        bill, used("alice", prompt_tokens=300), used("bob", prompt_tokens=400)
    )

    assert shown(lines) == [
        ("id-of-input", "alice", "300", "0.00075"),
        ("id-of-input", "bob", "400", "0.001"),
        ("id-of-input", "not through the meter", "300", "0.00075"),
    ]
    assert [line.ratio for line in lines] == [Decimal("0.3"), Decimal("0.4"), Decimal("0.3")]
    (meter,) = totals.sorted()
    assert quantities(meter) == ["1000", "700", "300", "0"]
    assert (totals.cost(), totals.cost(LineKind.OTHER)) == (Decimal("0.0025"), Decimal("0.00075"))
    assert totals.unbilled == {}


async def test_what_was_counted_beyond_the_bill_shares_the_bill(exported: Export) -> None:
    """Nobody pays for more than Azure asks for, and the difference is told."""
    bill = exported(details(CostInBillingCurrency="0.0025"))
    lines, totals = await split(
        bill, used("alice", prompt_tokens=1500), used("bob", prompt_tokens=500)
    )

    assert shown(lines) == [
        ("id-of-input", "alice", "1500", "0.001875"),
        ("id-of-input", "bob", "500", "0.000625"),
    ]
    (meter,) = totals.sorted()
    assert quantities(meter) == ["1000", "2000", "0", "1000"]


async def test_credits_and_refunds_follow_the_use_of_their_meter(exported: Export) -> None:
    """They keep their sign; quantities stand once."""
    refund = details(ChargeType="Refund", CostInBillingCurrency="-0.0005", Quantity="0")
    bill = exported(details(), refund)
    lines, totals = await split(bill, used(prompt_tokens=250))

    assert shown(lines) == [
        ("id-of-input", "alice", "250", "0.000625"),
        ("id-of-input", "not through the meter", "750", "0.001875"),
        ("id-of-input", "alice", "0", "-0.000125"),
        ("id-of-input", "not through the meter", "0", "-0.000375"),
    ]
    assert totals.cost() == Decimal("0.0020")


async def test_quantities_taken_back_keep_their_sign(exported: Export) -> None:
    """A correction of tokens that nobody was counted with leaves nothing unbilled."""
    taken_back = details(CostInBillingCurrency="-0.5", Quantity="-2")
    lines, totals = await split(exported(taken_back))

    assert shown(lines) == [("id-of-input", "not through the meter", "-2000", "-0.5")]
    (meter,) = totals.sorted()
    assert quantities(meter) == ["-2000", "0", "-2000", "0"]


async def test_of_quantities_taken_back_all_that_was_counted_is_not_billed(
    exported: Export,
) -> None:
    """It is not more than was counted, and the users have the credit."""
    taken_back = details(CostInBillingCurrency="-0.5", Quantity="-2")
    lines, totals = await split(exported(taken_back), used(prompt_tokens=300))

    assert shown(lines) == [("id-of-input", "alice", "300", "-0.5")]
    (meter,) = totals.sorted()
    assert quantities(meter) == ["-2000", "300", "-2000", "300"]


async def test_kinds_go_to_their_own_meters_where_azure_has_used_them(exported: Export) -> None:
    """Cached input is not input where the day's bill has a meter for it."""
    bill = exported(
        details(),
        details(MeterId="c", MeterName=CACHED),
        details(MeterId="o", MeterName=OUTPUT),
    )
    lines, _ = await split(
        bill, used(prompt_tokens=1500, cached_tokens=500, completion_tokens=1000)
    )

    assert [(each[0], each[1], each[2]) for each in shown(lines)] == [
        ("c", "alice", "500"),
        ("c", "not through the meter", "500"),
        ("id-of-input", "alice", "1000"),
        ("o", "alice", "1000"),
    ]


async def test_a_kind_without_a_meter_of_the_day_was_billed_as_its_parent(exported: Export) -> None:
    """Azure's bill says which meters it used."""
    bill = exported(details(Quantity="2"))
    lines, totals = await split(
        bill,
        used(prompt_tokens=2000, cached_tokens=500, cache_write_tokens=100, audio_prompt_tokens=50),
    )

    assert shown(lines) == [("id-of-input", "alice", "2000", "0.0025")]
    assert totals.unbilled == {}


async def test_a_kind_without_any_meter_is_unbilled(exported: Export) -> None:
    """With all that it could be looked up by."""
    bill = exported(details())
    _, totals = await split(
        bill,
        used(prompt_tokens=1000, completion_tokens=7),
        used(day="2026-10-02", prompt_tokens=5),
        used(day="2026-09-30", prompt_tokens=5),
    )

    assert [(key.account, key.model, key.kind, str(n)) for key, n in totals.unbilled.items()] == [
        (EAST, "gpt-4o-2024-11-20", Kind.OUTPUT, "7"),
        (EAST, "gpt-4o-2024-11-20", Kind.INPUT, "5"),
    ]


@pytest.mark.parametrize(
    "names",
    [
        {"tier": "priority"},
        {"tier": "provisioned"},
        {"model": "gpt-4o-2024-08-06"},
        {"model": "gpt-4o-mini-2024-07-18"},
    ],
)
async def test_use_of_another_meter_gets_nothing(exported: Export, names: dict[str, str]) -> None:
    """The row stands as not through the meter."""
    bill = exported(details())
    lines, totals = await split(bill, used(prompt_tokens=1000, names=names))

    assert [line.kind for line in lines] == [LineKind.OTHER]
    assert sum(totals.unbilled.values()) == 1000


async def test_the_long_context_has_its_own_meter(exported: Export) -> None:
    """A meter without a mark of it is that of both, unless the day's bill has the long one."""
    long = details(MeterId="l", MeterName="5.6 sol LongCo Inp Std Gl 1M Tokens", UnitOfMeasure="1M")
    short = details(
        MeterId="s", MeterName="5.6 sol ShortCo Inp Std Gl 1M Tokens", UnitOfMeasure="1M"
    )
    rows = [
        each | {"MeterSubCategory": "Azure OpenAI GPT5", "Quantity": "0.3"}
        for each in (long, short)
    ]
    bill = exported(*rows)
    names = {"model": "gpt-5.6-sol", "context": "long"}
    lines, _ = await split(bill, used(prompt_tokens=300_000, names=names))

    assert [(each[0], each[1]) for each in shown(lines)] == [
        ("l", "alice"),
        ("s", "not through the meter"),
    ]


async def test_accounts_are_split_by_their_own_backends(exported: Export) -> None:
    """Backends that share an account are counted together; those without one are unbilled."""
    backends = [backend("a"), backend("b", EAST.upper()), backend("w", WEST), backend("n", None)]
    bill = exported(details(), details(ResourceId=WEST), backends=backends)
    lines, totals = await split(
        bill,
        *(used(name, prompt_tokens=500, names={"backend": name}) for name in "abwnx"),
        backends=backends,
    )

    assert [(line.meter.account[-4:], line.names and line.names[0]) for line in lines] == [
        ("east", "a"),
        ("east", "b"),
        ("west", "w"),
        ("west", None),
    ]
    assert {(key.account, key.deployment_type): n for key, n in totals.unbilled.items()} == {
        ("", "global"): 500,
        ("", ""): 500,
    }


async def test_two_meters_of_one_meaning_share_what_was_counted(exported: Export) -> None:
    """In proportion to what each billed, in whole tokens."""
    bill = exported(details(Quantity="2"), details(MeterId="new", Quantity="1"))
    lines, _ = await split(bill, used(prompt_tokens=100))

    assert [(each[0], each[1], each[2]) for each in shown(lines)] == [
        ("id-of-input", "alice", "67"),
        ("id-of-input", "not through the meter", "1933"),
        ("new", "alice", "33"),
        ("new", "not through the meter", "967"),
    ]


async def test_meters_that_are_not_understood_stand_as_they_are(exported: Export) -> None:
    """So the lines still sum to the bill."""
    odd = {"MeterName": "Odd Tokens", "MeterId": "odd", "CostInBillingCurrency": "7"}
    bill = exported(details(), details(**odd))
    lines, totals = await split(bill, used(prompt_tokens=1000))

    assert shown(lines) == [
        ("id-of-input", "alice", "1000", "0.0025"),
        ("odd", "unmapped", "1", "7"),
    ]
    assert totals.cost() == Decimal("7.0025")


async def test_lines_are_grouped_by_whom_subjects_belong_to(exported: Export) -> None:
    """Those without a team are one group, and never left out."""
    bill = exported(details())
    owners = Owners({"alice": Owner(team="red"), "bob": Owner(team="red")})
    lines, _ = await split(
        bill,
        *(used(name, prompt_tokens=200) for name in ("alice", "bob", "carol")),
        groups=[Grouping.TEAM, Grouping.MODEL],
        owners=owners,
    )

    assert [(line.names, str(line.quantity)) for line in lines] == [
        (("(no team)", "gpt-4o-2024-11-20"), "200"),
        (("red", "gpt-4o-2024-11-20"), "400"),
        (None, "400"),
    ]


async def test_adjustments_are_part_of_what_was_counted(exported: Export) -> None:
    """A sum that they make negative is no share of anything."""
    bill = exported(details())
    raised = adjusted(used("alice", prompt_tokens=300), prompt_tokens=200)
    lowered = adjusted(used("bob", prompt_tokens=300), prompt_tokens=-400)
    lines, _ = await split(bill, raised, lowered)

    assert [(each[1], each[2]) for each in shown(lines)] == [
        ("alice", "500"),
        ("not through the meter", "500"),
    ]
