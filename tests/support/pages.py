"""Builders for pages: a month of many kinds of usage, and the page and the JSON of the same report."""

import io
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from meter.ledger.rows import SumRow
from meter.reports.page.terms import PageTerms
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Query
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import views_on
from tests.support.reports import book, price, row

AS_OF = datetime(2026, 11, 24, 7, 30, tzinfo=UTC)
STRANGE = (
    "<script>document.title='owned'</script>",
    "</script><img src=x onerror=alert(1)>",
    "a\"b'c & d;e,f",
    "=1+1",
    "\u202eevil\u202c",
    "zero\u200bwidth",
    "x" * 255,
    "محمد",
    "日本語",
)
PRICES = book(
    price("2.5", unit=1_000_000),
    price("1.25", "cached_input", unit=1_000_000),
    price("10", "output", unit=3_000_000),
    price("15", "input", "o3", unit=1_000_000),
)
_MODELS = ("gpt-4o-2024-11-20", "gpt-4o-mini", "o3", "text-embedding-3-small")


def month_of_usage() -> Iterator[SumRow]:
    """Usage of 30 subjects on most days of November 2026."""
    subjects = [*(f"app-{n}@contoso.example" for n in range(30 - len(STRANGE))), *STRANGE]
    for day in range(1, 24):
        for place, subject in enumerate(subjects):
            if (day * 7 + place) % 3 == 0:
                continue
            prompt = 100 + (day * 7919 + place * 104_729) % 90_001
            model = _MODELS[(day + place) % len(_MODELS)]
            usage = TokenUsage(
                prompt_tokens=prompt,
                completion_tokens=prompt // 7,
                total_tokens=prompt + prompt // 7,
                cached_tokens=prompt // 3,
            )
            yield row(
                f"2026-11-{day:02}",
                subject,
                calls=1 + day % 4,
                usage=usage,
                model=model,
                deployment=model.removesuffix("-2024-11-20"),
                backend=("sweden", "westeurope")[place % 2],
                client_app=("portal", "batch", "bot")[day % 3],
            )


async def page_of(
    rows: Iterable[SumRow],
    wanted: Query,
    *,
    prices: PriceBook | None = PRICES,
    budget: Decimal | None = None,
) -> tuple[str, dict[str, Any]]:
    """The page and the JSON of a report on these stored rows."""
    store = MemoryRowStore()
    await views_on(store).write(list(rows))
    terms = PageTerms(query=wanted, budget=budget, version="0.1.0")
    texts = []
    for form, read in ((Format.HTML, terms.read), (Format.JSON, wanted)):
        out = io.StringIO()
        report = usage_report(store, read, book=prices, as_of=AS_OF)
        await write_report(report, form, out, page=terms)
        texts.append(out.getvalue())
    return texts[0], json.loads(texts[1])
