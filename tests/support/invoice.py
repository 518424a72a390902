"""Builders for split invoices: exports as text, billed months, and their lines."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from meter.adapters.exports.files import read_exports
from meter.gateway.backend import Backend
from meter.ledger.rows import SumRow
from meter.reports.invoice.billed import Bill, accounts_of
from meter.reports.invoice.columns import Metric
from meter.reports.invoice.grouping import label_of
from meter.reports.invoice.line import Line, Totals
from meter.reports.invoice.meaning import Measured
from meter.reports.invoice.reading import meter_reader
from meter.reports.invoice.split import Split
from meter.reports.owners import Owners
from meter.reports.query import Grouping
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import views_on
from tests.support.reconcile import EAST

MONTH = Window("2026-10")
INPUT = "gpt 4o 1120 Inp glbl Tokens"
CACHED = "gpt 4o 1120 cached Inp glbl Tokens"
OUTPUT = "gpt 4o 1120 Outp glbl Tokens"
USAGE_DETAILS = {
    "InvoiceSectionName": "research",
    "Date": "10/01/2026",
    "ProductName": f"Azure OpenAI - {INPUT} - SE Central",
    "MeterCategory": "Foundry Models",
    "MeterSubCategory": "Azure OpenAI",
    "MeterId": "id-of-input",
    "MeterName": INPUT,
    "UnitOfMeasure": "1K",
    "Quantity": "1",
    "EffectivePrice": "0.0025",
    "CostInBillingCurrency": "0.0025",
    "BillingCurrency": "USD",
    "ResourceId": EAST,
    "ChargeType": "Usage",
    "Tags": '"project": "a,b"',
}
FOCUS = {
    "BilledCost": "0.0025",
    "BillingCurrency": "USD",
    "ChargeCategory": "Usage",
    "ChargeDescription": f"Azure OpenAI - {INPUT} - SE Central",
    "ChargePeriodStart": "2026-10-01T00:00:00Z",
    "ConsumedQuantity": "1000",
    "ConsumedUnit": "Units",
    "EffectiveCost": "0.0020",
    "PricingQuantity": "1",
    "PricingUnit": "Units",
    "ResourceId": EAST,
    "x_PricingBlockSize": "1000",
    "x_PricingUnitDescription": "1K",
    "x_SkuMeterId": "id-of-input",
    "x_SkuMeterName": INPUT,
    "x_SkuMeterSubcategory": "Azure OpenAI",
}


def backend(name: str = "backend", resource_id: str | None = EAST) -> Backend:
    """A backend with global deployments."""
    return Backend(
        name=name,
        url=f"https://{name}.example",
        deployment_type="global",
        resource_id=resource_id,
    )


def csv_of(*rows: dict[str, str], columns: Sequence[str] | None = None) -> str:
    """An export with these rows; columns that a row does not give are empty."""
    out = io.StringIO()
    names = list(columns or rows[0])
    writer = csv.DictWriter(out, names, restval="", lineterminator="\r\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def details(**changes: str) -> dict[str, str]:
    """A row of usage details: 1,000 input tokens on 1 October for 0.0025 USD, if not said otherwise."""
    return USAGE_DETAILS | changes


def focus(**changes: str) -> dict[str, str]:
    """The same as a row of FOCUS."""
    return FOCUS | changes


def bill_of(
    *paths: Path,
    metric: Metric = Metric.BILLED,
    backends: Sequence[Backend] = (backend(),),
    mapping: dict[str, Measured] | None = None,
) -> Bill:
    """What these files bill for October."""
    bill = Bill(MONTH, accounts_of(backends), meter_reader(mapping or {}))
    read_exports(paths, metric, bill, lambda _file, _rows: None)
    return bill


async def split(
    bill: Bill,
    *counted: SumRow,
    backends: Sequence[Backend] = (backend(),),
    groups: Sequence[Grouping] = (Grouping.SUBJECT,),
    owners: Owners | None = None,
) -> tuple[list[Line], Totals]:
    """The lines of a bill by these view rows, and what they are in all."""
    store = MemoryRowStore()
    await views_on(store).write(counted)
    label = label_of(groups, owners or Owners())
    found = Split(bill=bill, backends=backends, store=store, label=label)
    return [line async for line in found.lines()], found.totals
