"""Writes a usage report as CSV: every column, every text quoted and no number."""

from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TextIO

from meter.reports.columns import Value
from meter.reports.pricing.money import amount_text
from meter.reports.rows import Total
from meter.reports.usage import Report
from meter.reports.write.guard import guarded
from meter.terminal import printable


async def write_csv(report: Report, out: TextIO, total: Total) -> None:
    """Write the rows as they are read; on a terminal, texts are printable."""
    is_terminal = out.isatty()
    lines = [csv_line([column.name for column in report.columns], is_terminal=is_terminal)]
    async for row in report.rows:
        total.add(row)
        values = [column.get(row) for column in report.columns]
        lines.append(csv_line(values, is_terminal=is_terminal))
        out.writelines(lines)
        lines = []
    out.writelines(lines)


def csv_line(values: Iterable[Value], *, is_terminal: bool) -> str:
    """A row of a file; on a terminal, texts are printable."""
    return f"{','.join(_cell(value, is_terminal=is_terminal) for value in values)}\n"


def _cell(value: Value, *, is_terminal: bool) -> str:
    """A cell; empty where the value is not known."""
    match value:
        case None:
            return ""
        case str():
            return _safe_text(value, is_terminal=is_terminal)
        case tuple():
            return _text(" ".join(value))
        case Fraction():
            return amount_text(value)
        case Decimal():
            return f"{value:f}"
        case int():
            return str(value)


@lru_cache(maxsize=16_384)  # most texts of a file are in many of its rows
def _safe_text(text: str, *, is_terminal: bool) -> str:
    text = guarded(text)
    return _text(printable(text) if is_terminal else text)


def _text(text: str) -> str:
    """A text as RFC 4180 quotes it."""
    return '"' + text.replace('"', '""') + '"'
