"""Writes a report as JSON: the query, the rows one after the other, and the total of all numbers."""

import json
from decimal import Decimal
from typing import TextIO

from meter.reports.columns import UsageRow, Value
from meter.reports.usage import Report


async def write_json(report: Report, out: TextIO) -> None:
    """Write one document, row by row."""
    query, total = report.query, UsageRow()
    head = {"by": query.period, "from": query.first.name, "to": query.last.name}
    out.write(document_text(head).removesuffix("\n}") + ',\n  "rows": [')
    before, after = "\n", "]"
    async for row in report.rows:
        document = {column.name: _value(column.get(row)) for column in report.columns}
        out.write(f"{before}    {document_text(document, depth=4)}")
        before, after = ",\n", "\n  ]"
        total += row
    totals = {column.name: column.get(total) for column in report.columns}
    numbers = {name: _value(each) for name, each in totals.items() if not isinstance(each, str)}
    out.write(f'{after},\n  "total": {document_text(numbers, depth=2)}\n}}\n')


def document_text(document: object, *, depth: int = 0) -> str:
    """A document as JSON over several lines, those after the first indented by `depth` spaces."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.replace("\n", "\n" + " " * depth)


def _value(value: Value) -> int | str:
    """JSON numbers are read as binary floating point, so amounts are text."""
    return f"{value:f}" if isinstance(value, Decimal) else value
