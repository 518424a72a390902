"""Writes a usage report as a table, CSV or JSON."""

import json
import re
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from enum import StrEnum
from typing import TextIO

from meter.reports.columns import Column, UsageRow, Value
from meter.reports.usage import Report
from meter.terminal import aligned, printable, shown_document
from meter.window import Period, window_of

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


class Format(StrEnum):
    """How a report is written."""

    TABLE = "table"
    CSV = "csv"
    JSON = "json"


async def write_report(report: Report, form: Format, out: TextIO) -> None:
    """Write the rows as they are read. Raises StorageUnavailable, OSError.

    Nothing is written before the first row was read, so storage that never answers leaves no trace.
    """
    match form:
        case Format.TABLE:
            await _write_table(report, out)
        case Format.CSV:
            await _write_csv(report, out)
        case Format.JSON:
            await _write_json(report, out)


def document_text(document: object, *, depth: int = 0) -> str:
    """A document as JSON over several lines, those after the first indented by `depth` spaces."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.replace("\n", "\n" + " " * depth)


async def _write_table(report: Report, out: TextIO) -> None:
    """All rows are held, since the widths of the columns depend on them."""
    rows = [row async for row in report.rows]
    if not rows:
        query = report.query
        out.write(f"No calls from {query.first.name} to {query.last.name} (UTC).\n")
        return
    # Rows decide what is shown, not their total: adjustments may add up to 0.
    columns = [
        column
        for column in report.columns
        if column.heading and (not column.is_optional or any(map(column.get, rows)))
    ]
    out.write(f"{_range(report)}\n")
    lines = aligned(
        [column.heading for column in columns],
        [_cells(columns, row) for row in rows],
        _cells(columns, sum(rows, UsageRow())),
        text_columns=[place for place, column in enumerate(columns) if column.is_text],
    )
    out.writelines(f"{line}\n" for line in lines)


def _range(report: Report) -> str:
    """The days, or hours, from the first to the last of the report, and when it was made."""
    query = report.query
    names = [query.first.name, query.last.name]
    if query.period is Period.MONTH:
        last_day = query.last.end - timedelta(days=1)
        names = [window_of(moment, Period.DAY).name for moment in (query.first.start, last_day)]
    as_of = f", as of {report.as_of:%Y-%m-%d %H:%M}" if report.as_of else ""
    return f"{names[0]} to {names[1]} UTC{as_of}"


def _cells(columns: Sequence[Column], row: UsageRow) -> list[str]:
    values = [column.get(row) for column in columns]
    return [value if isinstance(value, str) else f"{value:,}" for value in values]


async def _write_csv(report: Report, out: TextIO) -> None:
    """Quotes every text and no number; on a terminal, texts are printable."""
    is_terminal = out.isatty()
    head = [_csv_text(column.name) for column in report.columns]
    lines = [head]
    async for row in report.rows:
        values = [column.get(row) for column in report.columns]
        lines.append([_csv_cell(value, is_terminal=is_terminal) for value in values])
        out.writelines(f"{','.join(line)}\n" for line in lines)
        lines = []
    out.writelines(f"{','.join(line)}\n" for line in lines)


def _csv_cell(value: Value, *, is_terminal: bool) -> str:
    match value:
        case str():
            # An apostrophe in front makes a spreadsheet read the cell as text.
            text = _FORMULA.sub(r"\1'", value)
            return _csv_text(printable(text) if is_terminal else text)
        case Decimal():
            return f"{value:f}"
        case int():
            return str(value)


def _csv_text(text: str) -> str:
    """A text as RFC 4180 quotes it."""
    return '"' + text.replace('"', '""') + '"'


async def _write_json(report: Report, out: TextIO) -> None:
    query, total = report.query, UsageRow()
    head = document_text({"by": query.period, "from": query.first.name, "to": query.last.name})
    head = head.removesuffix("\n}") + ',\n  "rows": ['
    before, after = f"{head}\n", f"{head}]"
    async for row in report.rows:
        document = {column.name: _json_value(column.get(row)) for column in report.columns}
        text = f"{before}    {document_text(document, depth=4)}"
        out.write(shown_document(text, out))
        before, after = ",\n", "\n  ]"
        total += row
    numbers = [column for column in report.columns if not column.is_text]
    totals = {column.name: _json_value(column.get(total)) for column in numbers}
    out.write(f'{after},\n  "total": {document_text(totals, depth=2)}\n}}\n')


def _json_value(value: Value) -> int | str:
    """JSON numbers are read as binary floating point, so amounts are text."""
    return f"{value:f}" if isinstance(value, Decimal) else value
