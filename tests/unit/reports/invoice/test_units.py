"""Billed hours of provisioned units, split as a capacity file shares them."""

from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path

import pytest

from meter.gateway.backend import Backend, Deployment
from meter.ledger.rows import SumRow
from meter.reports.capacity.read import read_capacity
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.line import Line, LineKind, Totals
from meter.reports.query import Grouping
from meter.usage import Tier, TokenUsage
from meter.wiring.invoices import split_bill
from tests.fakes.rows import MemoryRowStore
from tests.support.invoice import backend, bill_of, csv_of, details
from tests.support.ledger import views_on
from tests.support.reconcile import EAST, WEST
from tests.support.reports import row

PTU = {
    "MeterName": "Provisioned Managed Global Unit",
    "MeterId": "ptu",
    "UnitOfMeasure": "1/Hour",
    "Quantity": "2400",
    "CostInBillingCurrency": "2400",
}
ENTRY = """
[[capacity]]
backend = "backend"
ptus = 100
from = 2026-01-01
price_per_ptu_hour = "9"
currency = "EUR"
idle = "{idle}"
[capacity.ratios]
"gpt-4o" = 4
{more}
"""


def used(subject: str, prompt: int, window: str, backend: str = "backend") -> SumRow:
    usage = TokenUsage(prompt_tokens=prompt)
    return row(window, subject, usage=usage, backend=backend, tier="provisioned")


type Export = Callable[..., Bill]


@pytest.fixture
def exported(tmp_path: Path) -> Export:
    """What an export of these rows bills."""

    def read(*rows: dict[str, str], backends: Sequence[Backend] = (backend(),)) -> Bill:
        file = tmp_path / "export.csv"
        file.write_text(csv_of(*rows))
        return bill_of(file, backends=backends)

    return read


async def split(
    bill: Bill, capacity: str | None, *rows: SumRow, backends: Sequence[Backend] = (backend(),)
) -> tuple[list[Line], Totals]:
    """The lines by subject."""
    store = MemoryRowStore()
    await views_on(store).write(rows)
    found = await split_bill(
        bill,
        store,
        None if capacity is None else read_capacity(capacity.encode(), "capacity.toml"),
        backends=backends,
        groups=[Grouping.SUBJECT],
    )
    return [line async for line in found.lines()], found.totals


def shown(lines: list[Line]) -> list[tuple[str, str, str]]:
    return [
        (line.names[0] if line.names else str(line.kind), f"{line.quantity:f}", f"{line.cost:.2f}")
        for line in lines
    ]


async def test_without_a_capacity_file_units_are_nobodys(exported: Export) -> None:
    """They are paid whether used or not, so no use explains them; and that use is not unbilled."""
    bill = exported(details(**PTU))
    lines, totals = await split(bill, None, used("alice", 100, "2026-10-01"))

    assert shown(lines) == [("unmapped", "2400", "2400.00")]
    assert "--capacity" in lines[0].meter.reason
    assert totals.unbilled == {}


async def test_units_are_shared_as_the_file_says(exported: Export) -> None:
    """By normalised tokens of each hour; the price is Azure's, whatever the file says."""
    bill = exported(details(**PTU))
    hour = "2026-10-01T07"
    lines, totals = await split(
        bill,
        ENTRY.format(idle="by-use", more=""),
        used("alice", 300, hour),
        used("bob", 100, hour),
    )

    assert shown(lines) == [("alice", "1800", "1800.00"), ("bob", "600", "600.00")]
    assert totals.cost() == Decimal(2400)


async def test_idle_units_are_a_line_of_their_own(exported: Export) -> None:
    """With the policy `separate`: of 24 hours one was used."""
    bill = exported(details(**PTU))
    lines, _ = await split(
        bill, ENTRY.format(idle="separate", more=""), used("alice", 300, "2026-10-01T07")
    )

    assert shown(lines) == [("(idle)", "2300", "2300.00"), ("alice", "100", "100.00")]
    assert {line.kind for line in lines} == {LineKind.COUNTED}


async def test_units_beyond_the_file_are_not_through_the_meter(exported: Export) -> None:
    """Somebody has bought more than the file knows of."""
    bill = exported(details(**PTU | {"Quantity": "4800"}))
    lines, totals = await split(
        bill, ENTRY.format(idle="by-use", more=""), used("alice", 300, "2026-10-01T07")
    )

    assert shown(lines) == [
        ("alice", "2400", "1200.00"),
        ("not through the meter", "2400", "1200.00"),
    ]
    (meter,) = totals.sorted()
    assert (meter.counted, meter.not_counted) == (Decimal(2400), Decimal(2400))


@pytest.mark.parametrize(
    ("more", "is_split"),
    [('deployment_type = "global"', True), ('deployment_type = "regional"', False)],
)
async def test_meters_of_another_deployment_type_are_of_other_units(
    exported: Export, more: str, is_split: bool
) -> None:
    """Where the file says it."""
    bill = exported(details(**PTU))
    entry = ENTRY.format(idle="by-use", more="").replace("ptus", f"{more}\nptus")
    lines, _ = await split(bill, entry, used("alice", 300, "2026-10-01T07"))

    assert (lines[0].kind is LineKind.COUNTED) is is_split


async def test_a_deployments_units_are_on_the_accounts_that_have_it(exported: Export) -> None:
    """As provisioned; another account's units are nobody's."""
    deployments = {"gpt-4o": Deployment("gpt-4o", tier=Tier.PROVISIONED)}
    backends = [
        Backend(name="a", url="https://a", resource_id=EAST, deployments=deployments),
        Backend(name="b", url="https://b", resource_id=WEST, deployments={"x": Deployment("x")}),
    ]
    bill = exported(details(**PTU), details(**PTU, ResourceId=WEST), backends=backends)
    entry = ENTRY.format(idle="by-use", more="").replace(
        'backend = "backend"', 'deployment = "gpt-4o"'
    )
    lines, _ = await split(
        bill, entry, used("alice", 300, "2026-10-01T07", backend="a"), backends=backends
    )

    assert shown(lines) == [("alice", "2400", "2400.00"), ("unmapped", "2400", "2400.00")]


async def test_lines_of_units_sum_to_the_bill_where_shares_have_no_last_digit(
    exported: Export,
) -> None:
    """Thirds of 24 hours."""
    bill = exported(details(**PTU | {"CostInBillingCurrency": "0.01"}))
    lines, totals = await split(
        bill,
        ENTRY.format(idle="by-use", more=""),
        *(used(name, 100, "2026-10-01T07") for name in "abcdefg"),
    )

    assert sum(line.ratio for line in lines) == 1
    assert totals.cost() == sum(line.cost for line in lines) == Decimal("0.01")
