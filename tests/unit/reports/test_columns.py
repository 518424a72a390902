"""The columns of a usage report: where they come from, and what kinds they know."""

import io
import json
from collections.abc import AsyncIterator
from fractions import Fraction

import pytest

from meter.ledger.fold import Sums
from meter.reports.columns import Column, usage_columns
from meter.reports.rows import UsageRow, total_of
from meter.reports.usage import Report
from meter.reports.write.report import Format, write_report
from meter.usage import COUNT_NAMES, NO_USAGE, TokenUsage
from meter.window import Window
from tests.support.reports import query

PRICE = Fraction("1234.50")


def test_every_count_of_a_call_has_a_column() -> None:
    """A new kind is reported without a line of its own, and so are its adjustments."""
    columns = {column.name: column for column in usage_columns(query())}
    numbers = TokenUsage(*range(1, 1 + len(COUNT_NAMES)))
    adjusted = TokenUsage(*(-n for n in range(1, 1 + len(COUNT_NAMES))))
    row = UsageRow(sums=Sums(tokens=numbers, adjustments=1, adjusted=adjusted))

    for each in COUNT_NAMES:
        assert columns[each].get(row) == getattr(numbers, each)
        assert columns[f"adjusted_{each}"].get(row) == getattr(adjusted, each)
        assert columns[f"net_{each}"].get(row) == 0


@pytest.mark.parametrize("is_adjusted", [False, True])
def test_a_net_count_is_what_is_to_be_charged(is_adjusted: bool) -> None:
    """The count plus its adjustments, whose own column has their sign."""
    back = TokenUsage(prompt_tokens=-30, total_tokens=-30) if is_adjusted else NO_USAGE
    used = TokenUsage(prompt_tokens=100, total_tokens=100)
    row = UsageRow(sums=Sums(tokens=used, adjustments=int(is_adjusted), adjusted=back))
    columns = {column.name: column for column in usage_columns(query())}

    assert columns["net_total_tokens"].get(row) == (70 if is_adjusted else 100)
    assert not columns["net_total_tokens"].heading


def test_a_total_has_no_window_and_no_names() -> None:
    """Its texts are a label and empty ones; its numbers are added up."""
    rows = [UsageRow(window=Window("2026-11"), names=(name,), sums=Sums(calls=2)) for name in "ab"]
    total = total_of(rows)
    window, subject, calls, *_ = usage_columns(query())

    assert (window.get(total), subject.get(total), calls.get(total)) == ("total", "", 4)


@pytest.mark.parametrize(
    ("form", "shown"),
    [
        (Format.TABLE, "1,234.50"),
        (Format.CSV, ",1234.5\n"),
        (Format.JSON, '"price": "1234.5"'),
    ],
)
async def test_an_amount_is_written_exactly(form: Format, shown: str) -> None:
    """Decimal digits are kept; JSON has them as text, since its numbers are binary."""

    async def rows() -> AsyncIterator[UsageRow]:
        yield UsageRow(window=Window("2026-11"), names=("alice",), sums=Sums(calls=1))

    price = Column(
        name="price",
        heading="price",
        get=lambda _row: PRICE,
        is_optional=True,
        currency="USD",
    )
    out = io.StringIO()
    columns = (*usage_columns(query()), price)
    await write_report(Report(query=query(), columns=columns, rows=rows()), form, out)

    assert shown in out.getvalue()
    if form is Format.JSON:
        assert json.loads(out.getvalue())["totals"]["price"] == "1234.5"
