"""FOCUS files of small stores, read as people's tools read them: CSV whose empty cells are null."""

import csv
import io
from collections.abc import Sequence
from copy import replace
from datetime import UTC, datetime
from decimal import Decimal, localcontext

from meter.ledger.rows import SumRow
from meter.reports.capacity.costs import NO_CAPACITY
from meter.reports.capacity.entries import Capacity, Entry
from meter.reports.capacity.reading import read_capacity_costs
from meter.reports.focus.charge import Resource
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.version import FocusVersion
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.grouping import label_of
from meter.reports.invoice.line import Totals
from meter.reports.invoice.split import Split
from meter.reports.invoice.units import UnitHours
from meter.reports.invoice.write.invoice import write_invoice
from meter.reports.owners import Owners, read_owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Grouping, Query
from meter.reports.rows import UsageRow
from meter.reports.usage import Corrections, usage_report
from meter.reports.write.report import Format, write_report
from tests.fakes.rows import MemoryRowStore
from tests.support.invoice import backend
from tests.support.ledger import views_on
from tests.support.reconcile import EAST

type Rows = list[dict[str, str]]

LATER = datetime(2027, 1, 1, tzinfo=UTC)
TERMS = FocusTerms(
    billing_account="/providers/Microsoft.Billing/billingAccounts/1234",
    resources={"east": Resource(EAST, "eastus")},
)
SPLIT = replace(TERMS, version=FocusVersion.V1_4)


async def focus_report(
    wanted: Query,
    *rows: SumRow,
    prices: PriceBook,
    entries: Sequence[Entry] = (),
    corrections: Corrections | None = None,
    terms: FocusTerms = TERMS,
    store: MemoryRowStore | None = None,
) -> tuple[str, UsageRow]:
    """The report on these view rows as a FOCUS file, and its total."""
    store = store or MemoryRowStore()
    await views_on(store).write(rows)
    capacity = NO_CAPACITY
    if entries:
        capacity = await read_capacity_costs(
            store,
            wanted,
            Capacity(entries=entries),
            book=prices,
            owners=await read_owners(store),
            now=LATER,
        )
    report = usage_report(
        store, wanted, book=prices, capacity=capacity, corrections=corrections or {}
    )
    out = io.StringIO()
    total = await write_report(report, Format.FOCUS, out, focus=terms)
    return out.getvalue(), total


async def focus_invoice(
    bill: Bill,
    *counted: SumRow,
    groups: Sequence[Grouping] = tuple(Grouping),
    owners: Owners | None = None,
    units: UnitHours | None = None,
    terms: FocusTerms = TERMS,
) -> tuple[str, Totals]:
    """A month's bill, split by these view rows, as a FOCUS file; and what its lines are in all."""
    store = MemoryRowStore()
    await views_on(store).write(counted)
    split = Split(
        bill=bill,
        backends=[backend()],
        store=store,
        label=label_of(groups, owners or Owners()),
        units=units or UnitHours(),
    )
    out = io.StringIO()
    await write_invoice(split, groups, Format.FOCUS, out, focus=terms)
    return out.getvalue(), split.totals


def rows_of(text: str) -> Rows:
    """The rows of a file by column."""
    return list(csv.DictReader(io.StringIO(text, newline="")))


def summed(rows: Rows, column: str = "BilledCost") -> Decimal:
    """The exact sum of a column."""
    with localcontext(prec=200):
        return sum((Decimal(row[column]) for row in rows), Decimal(0))
