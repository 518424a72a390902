"""Writes a usage report as CSV: every column, every text quoted and no number."""

import re
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from typing import TextIO

from meter.reports.columns import Value
from meter.reports.pricing.money import amount_text
from meter.reports.rows import Total
from meter.reports.usage import Report
from meter.terminal import printable

# Spreadsheets run cells that begin with one of these as formulas, some after quotes, blanks and what
# shows no sign: controls, format characters, fillers and variation selectors. Where the list
# separator is `;` or a tab, a cell begins behind each of them, and behind a line's end.
_UNSEEN = (
    r"\s\"\x00-\x1f\x7f-\xa0\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160"
    r"\u17b4\u17b5\u180b-\u180f\u2000-\u200f\u2028-\u202f\u205f-\u206f\u2800\u3164\ufe00-\ufe0f\ufeff"
    r"\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3"
    r"\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_FORMULA = re.compile(rf"(^(?=[\t\r\n])|(?:^|[;\t\r\n])(?=[{_UNSEEN}]*[=+\-@＝＋－＠﹦﹢﹣﹫−]))")


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
    # An apostrophe in front makes a spreadsheet read the cell as text.
    text = _FORMULA.sub(r"\1'", text)
    return _text(printable(text) if is_terminal else text)


def _text(text: str) -> str:
    """A text as RFC 4180 quotes it."""
    return '"' + text.replace('"', '""') + '"'
