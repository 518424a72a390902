"""Builders for reports: queries, stored rows and the report of them."""

import io
from datetime import date
from decimal import Decimal

from meter.ledger.fold import NO_PLACE, Place, Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.reports.pricing.book import ANY, Price, PriceBook
from meter.reports.pricing.kinds import Kind
from meter.reports.query import Query, make_query, parse_groups
from meter.reports.rows import UsageRow
from meter.reports.usage import read_usage, usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import NO_USAGE, TokenUsage
from meter.window import Period, Window, parse_window
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import dimensions, views_on


def query(
    by: str = "month", first: str | None = None, last: str | None = None, groups: str = "subject"
) -> Query:
    """The query that these texts mean."""
    return make_query(
        period=Period(by),
        first=parse_window(first) if first else None,
        last=parse_window(last) if last else None,
        groups=parse_groups(groups),
        now=NOW,
    )


def row(
    window: str,
    subject: str = "alice",
    *,
    calls: int = 1,
    usage: TokenUsage | None = None,
    adjusted: TokenUsage | None = None,
    estimated_calls: int = 0,
    place: Place = NO_PLACE,
    **names: str,
) -> SumRow:
    """A sum of calls with 1,000 prompt tokens per call, unless there is a `usage`."""
    usage = usage or TokenUsage(prompt_tokens=1_000 * calls, total_tokens=1_000 * calls)
    sums = Sums(
        calls=calls,
        estimated_calls=estimated_calls,
        tokens=usage,
        first_call_at=NOW,
        last_call_at=NOW,
        place=place,
        adjustments=0 if adjusted is None else 1,
        adjusted=adjusted or NO_USAGE,
    )
    key = SumKey(Window(window), dimensions(subject=subject, **names))
    return SumRow(key=key, sums=sums, revision=1)


def price(
    amount: str,
    kind: str = "input",
    model: str = ANY,
    *,
    unit: int = 1_000,
    currency: str = "USD",
    start: str = "2026-01-01",
    end: str | None = None,
    deployment_type: str = ANY,
    region: str = ANY,
    tier: str = ANY,
    context: str = ANY,
) -> Price:
    """A price per 1,000, of any usage that is not provisioned."""
    return Price(
        model=model,
        kind=Kind(kind),
        unit=unit,
        price=Decimal(amount),
        currency=currency,
        effective_from=date.fromisoformat(start),
        effective_to=date.fromisoformat(end) if end else None,
        deployment_type=deployment_type,
        region=region,
        tier=tier,
        context=context,
    )


def book(*prices: Price) -> PriceBook:
    """The book of these prices, in the currency of the first."""
    return PriceBook(prices, prices[0].currency)


async def usage_of(
    store: MemoryRowStore, wanted: Query, *rows: SumRow, prices: PriceBook | None = None
) -> list[UsageRow]:
    """The rows of a report on these stored rows."""
    await views_on(store).write(rows)
    return [each async for each in read_usage(store, wanted, book=prices)]


async def text_of(
    store: MemoryRowStore,
    form: Format,
    wanted: Query | None = None,
    *rows: SumRow,
    prices: PriceBook | None = None,
) -> str:
    """The report on these stored rows as text."""
    await views_on(store).write(rows)
    out = io.StringIO()
    await write_report(usage_report(store, wanted or query(), book=prices), form, out)
    return out.getvalue()
