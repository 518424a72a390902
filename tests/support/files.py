"""Reports of given rows as files of any format, and their values as another format has them."""

import io
import json
from collections.abc import AsyncIterator, Sequence
from copy import replace
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from hypothesis import strategies as st

from meter.ledger.fold import Sums
from meter.reports.capacity.costs import NO_CAPACITY, CapacityCosts
from meter.reports.columns import usage_columns
from meter.reports.pricing.cost import Bill
from meter.reports.query import Query
from meter.reports.rows import Charge, UsageRow
from meter.reports.usage import Report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
from meter.window import Window
from tests.support.events import NOW


def report_of(
    rows: Sequence[UsageRow],
    wanted: Query,
    currency: str | None = None,
    *,
    as_of: datetime | None = NOW,
    capacity: CapacityCosts = NO_CAPACITY,
) -> Report:
    """A report of these rows, which need not come from a store."""

    async def read() -> AsyncIterator[UsageRow]:
        for row in rows:
            yield row

    return Report(
        query=wanted,
        columns=usage_columns(wanted, currency),
        rows=read(),
        currency=currency,
        as_of=as_of,
        capacity=capacity,
    )


async def bytes_of(report: Report, form: Format) -> bytes:
    """The report as a file."""
    if form.is_binary:
        out = io.BytesIO()
        await write_report(report, form, out)
        return out.getvalue()
    text = io.StringIO()
    await write_report(report, form, text)
    return text.getvalue().encode(form.encoding)


async def document_of(report: Report) -> dict[str, Any]:
    """The report as JSON."""
    document: dict[str, Any] = json.loads(await bytes_of(report, Format.JSON))
    return document


def used(
    *names: str,
    window: str = "2026-11",
    cost: Fraction | None = None,
    calls: int = 1,
    **counts: int,
) -> UsageRow:
    """The usage of a group; with a cost, if there is one."""
    tokens = TokenUsage(**counts)
    sums = Sums(calls=calls, tokens=tokens, first_call_at=NOW, last_call_at=NOW)
    return UsageRow(window=Window(window), names=names, sums=sums, charge=charge(cost))


def charge(cost: Fraction | None) -> Charge:
    """What usage is charged; nothing known without a cost."""
    bill = Bill()
    if cost is not None:
        bill.add_other(cost)
    return Charge(bill=bill)


COUNTS = st.integers(-(2**40), 2**40)
COSTS = st.none() | st.fractions(-1_000_000, 1_000_000, max_denominator=3_600_000)
# What breaks files: formulas, links, line ends, controls, bidi marks, half and wide characters.
HOSTILE = st.sampled_from(
    [
        "=1+1",
        "http://a.example",
        "a\r\nb",
        "\x00\x1b[31m",
        "_x0041_",
        "\ufeff",
        "\u202e",
        "<b>&\"'",
        "",
    ]
) | st.text(max_size=40)


@st.composite
def usage_rows(draw: st.DrawFn) -> list[UsageRow]:
    """Rows of two names each, with any counts, costs and texts."""
    rows = draw(st.lists(st.tuples(HOSTILE, HOSTILE, COUNTS, COUNTS, COSTS), max_size=6))
    return [
        replace(
            used(one, other, cost=cost, calls=abs(calls), prompt_tokens=tokens),
            window=Window(f"2026-11-{number + 1:02}"),
        )
        for number, (one, other, calls, tokens, cost) in enumerate(rows)
    ]


def decimal_of(text: str | None) -> Decimal | None:
    """An amount of a JSON report."""
    return None if text is None else Decimal(text)
