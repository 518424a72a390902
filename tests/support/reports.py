"""Builders for reports: queries, stored rows and the report of them."""

import io

from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.reports.columns import UsageRow
from meter.reports.query import Query, make_query, parse_groups
from meter.reports.usage import read_usage, usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
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
    **names: str,
) -> SumRow:
    """A sum of calls with 1,000 prompt tokens per call, unless there is a `usage`."""
    usage = usage or TokenUsage(prompt_tokens=1_000 * calls, total_tokens=1_000 * calls)
    sums = Sums(calls=calls, tokens=usage, first_call_at=NOW, last_call_at=NOW)
    key = SumKey(Window(window), dimensions(subject=subject, **names))
    return SumRow(key=key, sums=sums, revision=1)


async def usage_of(store: MemoryRowStore, wanted: Query, *rows: SumRow) -> list[UsageRow]:
    """The rows of a report on these stored rows."""
    await views_on(store).write(rows)
    return [each async for each in read_usage(store, wanted)]


async def text_of(
    store: MemoryRowStore, form: Format, wanted: Query | None = None, *rows: SumRow
) -> str:
    """The report on these stored rows as text."""
    await views_on(store).write(rows)
    out = io.StringIO()
    await write_report(usage_report(store, wanted or query()), form, out)
    return out.getvalue()
