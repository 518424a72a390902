"""An example month as FOCUS files: what reports and invoices can have, as far as FOCUS has a form for it."""

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

from meter.ledger.rows import SumRow
from meter.ports import Row
from meter.reports.capacity.entries import Idle
from meter.reports.focus.charge import Resource
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.version import FocusVersion
from meter.reports.owners import Owner, Owners
from meter.reports.pricing.book import Origin
from meter.reports.query import Grouping
from meter.usage import TokenUsage
from meter.window import Window
from tests.support.capacity import entry, team, tokens
from tests.support.focus import TERMS, focus_invoice, focus_report
from tests.support.invoice import CACHED, OUTPUT, bill_of, csv_of, details
from tests.support.reconcile import EAST
from tests.support.reports import book, price, query, row

_MONTH = "2026-10"
_USAGE = TokenUsage(
    prompt_tokens=1_234_567,
    cached_tokens=34_567,
    completion_tokens=78_901,
    total_tokens=1_313_468,
    seconds=77,
    web_search_calls=3,
)
_RESOURCES = {name: Resource(EAST, "eastus") for name in ("east", "backend", "ptu")}


def terms_of(version: FocusVersion) -> FocusTerms:
    """The terms of the files of a version."""
    return replace(TERMS, version=version, resources=_RESOURCES)


async def example_report(version: FocusVersion) -> str:
    """A month by day: usage of several kinds, an adjustment, capacity, and corrections of a closed month."""
    late = row("2026-09-30", "carol", usage=_USAGE, backend="east")
    text, _ = await focus_report(
        query("month", _MONTH, _MONTH, ",".join(Grouping)),
        *_counted("east"),
        *_provisioned(),
        prices=book(
            price("0.0025"),
            replace(price("0.00125", "cached_input", region="eastus"), origin=Origin.CONTRACTED),
            replace(
                price("10", "output", unit=1_000_000), meter_id="m-1", meter_name="gpt 4o Outp"
            ),
            price("0.36", "second", unit=3_600),
            price("14", "web_search"),
        ),
        entries=[
            entry(
                first=Window(f"{_MONTH}-01").start.date(),
                price=Fraction(1, 3),
                idle=Idle.BY_SHARE,
                shares={team("search"): Fraction(1), team("ads"): Fraction(2)},
            )
        ],
        corrections={
            Window(_MONTH): [
                (Window("2026-09-30"), Row(key=late.key.view_row_key, columns=late.columns()))
            ]
        },
        terms=terms_of(version),
    )
    return text


async def example_invoice(version: FocusVersion, folder: Path) -> str:
    """A bill with credits, tax, a purchase, and meters that are not split; its export is in the folder."""
    file = folder / "export.csv"
    file.write_text(csv_of(*_billed()))
    text, _ = await focus_invoice(
        bill_of(file),
        *_counted("backend"),
        owners=Owners({"alice": Owner("Alice A.", "search", "4711")}),
        terms=terms_of(version),
    )
    return text


def _counted(backend: str) -> Iterator[SumRow]:
    back = TokenUsage(prompt_tokens=-2_000_000, total_tokens=-2_000_000)
    yield row(
        f"{_MONTH}-01",
        "alice",
        usage=_USAGE,
        calls=3,
        estimated_calls=1,
        place=("eastus", "global"),
        backend=backend,
    )
    yield row(f"{_MONTH}-01", "=bob", usage=_USAGE, adjusted=back, backend=backend)
    yield row(f"{_MONTH}-02", "carol", usage=_USAGE, backend=backend, model="gpt-4o-mini")


def _provisioned() -> Iterator[SumRow]:
    for window in (f"{_MONTH}-04T05", f"{_MONTH}-04"):
        for subject, prompt in (("dora", 100), ("erin", 200)):
            yield row(window, subject, usage=tokens(prompt, 10), backend="ptu", tier="provisioned")


def _billed() -> Iterator[dict[str, str]]:
    yield details(Quantity="2500", CostInBillingCurrency="6.25")
    yield details(MeterName=CACHED, MeterId="c", Quantity="60", CostInBillingCurrency="0.075")
    yield details(MeterName=OUTPUT, MeterId="o", Quantity="200", CostInBillingCurrency="2")
    yield details(ChargeType="Refund", Quantity="0", CostInBillingCurrency="-1.1")
    yield details(ChargeType="Credit", Quantity="0", CostInBillingCurrency="-0.5")
    yield details(Quantity="-1", CostInBillingCurrency="-0.0025")
    yield details(ChargeType="Tax", MeterName="", MeterId="", Quantity="", UnitOfMeasure="")
    yield details(ChargeType="Purchase", MeterName="Plan", MeterId="p", Quantity="1")
    yield details(MeterName="Speech To Text", MeterId="s", UnitOfMeasure="1 Hour")
