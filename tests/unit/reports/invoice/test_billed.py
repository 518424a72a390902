"""The rows of exports, added up by day, account, meter and charge."""

from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest

from meter.errors import InvalidInput
from meter.reports.invoice.billed import Bill, BilledMeter
from meter.reports.invoice.columns import Metric
from tests.support.invoice import OUTPUT, backend, bill_of, csv_of, details, focus
from tests.support.reconcile import EAST, WEST


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "export.csv"


def read(file: Path, *rows: dict[str, str], metric: Metric = Metric.BILLED) -> Bill:
    file.write_text(csv_of(*rows))
    return bill_of(file, metric=metric)


def only(bill: Bill) -> BilledMeter:
    (meters,) = bill.by_day().values()
    (meter,) = meters
    return meter


def test_rows_of_one_meter_and_day_are_added_up(file: Path) -> None:
    """In units of what the meter charges for."""
    found = only(read(file, details(Quantity="29.872"), details(CostInBillingCurrency="0.1")))

    assert (found.day, found.account) == (date(2026, 10, 1), EAST)
    assert (found.quantity, found.cost) == (Decimal(30872), Decimal("0.1025"))


@pytest.mark.parametrize(
    ("unit", "quantity"),
    [
        ("1K", 2000),
        ("1000", 2000),
        ("1000 ", 2000),
        ("1M", 2_000_000),
        ("1K Tokens", 2000),
        ("1", 2),
    ],
)
def test_units_of_measure_become_tokens(file: Path, unit: str, quantity: int) -> None:
    """EA writes numbers, MCA letters."""
    assert only(read(file, details(UnitOfMeasure=unit, Quantity="2"))).quantity == quantity


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"ConsumedUnit": "Tokens"},
        {"ConsumedQuantity": "1", "ConsumedUnit": "1K Tokens"},
        {"ConsumedQuantity": "", "ConsumedUnit": ""},
        {"ConsumedQuantity": "", "x_PricingUnitDescription": "Unassigned"},
        {"ConsumedQuantity": "", "x_PricingUnitDescription": "", "PricingUnit": "1000 Tokens"},
    ],
)
def test_focus_has_quantities_in_two_units(file: Path, changes: dict[str, str]) -> None:
    """What was consumed, else what was priced, in blocks."""
    assert only(read(file, focus(**changes))).quantity == 1000


def test_focus_has_two_costs(file: Path) -> None:
    """`--cost effective` takes that which spreads commitments."""
    assert only(read(file, focus())).cost == Decimal("0.0025")
    assert only(read(file, focus(), metric=Metric.EFFECTIVE)).cost == Decimal("0.0020")


@pytest.mark.parametrize(
    "resource", [EAST.upper(), EAST.lower(), f"{EAST}/projects/p", f" {EAST}/"]
)
def test_resources_are_ours_in_any_case(file: Path, resource: str) -> None:
    """FOCUS has them in lower case, others as the resource provider wrote them."""
    assert only(read(file, details(ResourceId=resource))).account == EAST


@pytest.mark.parametrize(
    "changes",
    [{"ResourceId": WEST}, {"ResourceId": f"{EAST}2"}, {"ResourceId": ""}, {"Date": "11/01/2026"}],
)
def test_rows_of_others_and_of_other_months_are_passed_over(
    file: Path, changes: dict[str, str]
) -> None:
    """Whatever else is in them."""
    bill = read(file, details(**changes))

    assert bill.rows == 0
    assert bill.by_day() == {}


def test_negative_rows_and_types_of_charge_stay_apart(file: Path) -> None:
    """Each keeps its sign."""
    credit = {"CostInBillingCurrency": "-0.001", "Quantity": "0"}
    found = only(
        read(
            file,
            details(),
            details(**credit),
            details(**credit),
            details(ChargeType="Refund", **credit),
        )
    )

    assert [(c.type, c.cost, c.rows) for c in found.charges.values()] == [
        ("Usage", Decimal("0.0025"), 1),
        ("Usage", Decimal("-0.002"), 2),
        ("Refund", Decimal("-0.001"), 1),
    ]


@pytest.mark.parametrize("order", [1, -1])
def test_a_credit_without_a_unit_is_its_meters(file: Path, order: int) -> None:
    """Whichever row comes first; its quantity is not counted, since it may be of anything."""
    credit = details(UnitOfMeasure="", Quantity="5", CostInBillingCurrency="-0.001")
    found = only(read(file, *[details(), credit][::order]))

    assert found.is_mapped
    assert (found.quantity, found.cost) == (Decimal(1000), Decimal("0.0015"))


def test_a_meter_that_is_not_understood_has_the_exports_quantity(file: Path) -> None:
    """With the reason."""
    found = only(read(file, details(UnitOfMeasure="1 GB", Quantity="5"), details(UnitOfMeasure="")))

    assert not found.is_mapped
    assert found.reason == "unclear unit: 1 GB of input"
    assert found.quantity == Decimal(6)


def test_meters_are_by_day_and_in_order(file: Path) -> None:
    """Whatever the order of rows."""
    later = details(Date="2026-10-02")
    bill = read(file, later, details(MeterId="o", MeterName=OUTPUT), details())

    assert [
        (day.day, [meter.meter_id for meter in meters]) for day, meters in bill.by_day().items()
    ] == [(1, ["id-of-input", "o"]), (2, ["id-of-input"])]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"CostInBillingCurrency": "1,5"}, "line 3: the cost must be a number like 1234.56"),
        ({"CostInBillingCurrency": ""}, "line 3: the cost must be a number"),
        ({"Quantity": "1.234,5"}, "line 3: the quantity must be a number"),
        ({"Date": "13/13/2026"}, "line 3: the date must be a day as Azure writes it"),
        ({"BillingCurrency": "EUR"}, "line 3: the row is in EUR, others are in USD"),
        ({"BillingCurrency": ""}, "line 3: the row has no billing currency"),
    ],
)
def test_a_cell_that_cannot_be_read_is_told_with_its_line(
    file: Path, changes: dict[str, str], problem: str
) -> None:
    """One line, and nothing is guessed."""
    with pytest.raises(InvalidInput) as failure:
        read(file, details(), details(**changes))

    (told,) = failure.value.problems
    assert told.startswith(f"{file}, {problem}")


def test_currencies_differ_between_files_too(tmp_path: Path) -> None:
    """They are one bill."""
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    for file, currency in zip(files, ("USD", "EUR"), strict=True):
        file.write_text(csv_of(details(BillingCurrency=currency)))

    with pytest.raises(InvalidInput, match=r"b\.csv, line 2: the row is in EUR"):
        bill_of(*files)


@pytest.mark.parametrize(
    ("later", "is_repeated"),
    [
        ([{}], True),
        ([{}, {"Date": "2026-10-03"}, {"Date": "2026-10-02", "Quantity": "9"}], True),
        ([{"Date": "2026-10-03"}, {"Date": "2026-10-02", "Quantity": "9"}], False),
        ([{"CostInBillingCurrency": "0"}], False),
    ],
)
def test_two_runs_of_one_export_are_told(
    tmp_path: Path, later: list[dict[str, str]], is_repeated: bool
) -> None:
    """Each daily run has the month to date, and the last days of the earlier one may have changed."""
    files = [tmp_path / "a.csv", tmp_path / "b.csv"]
    files[0].write_text(csv_of(details(), details(Date="2026-10-02")))
    files[1].write_text(csv_of(*(details(**each) for each in later)))
    found = list(bill_of(*files).repeats())

    assert found == ([(str(files[1]), str(files[0]))] if is_repeated else [])


def test_backends_may_share_an_account(file: Path) -> None:
    """Its id is shown as the first has it."""
    file.write_text(csv_of(details()))
    bill = bill_of(file, backends=[backend("a"), backend("b", EAST.upper()), backend("c", None)])

    assert only(bill).account == EAST
