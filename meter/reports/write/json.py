"""Writes a usage report as JSON: the query, its rows, their total, and what has no price."""

import json
from collections.abc import Iterable
from decimal import Decimal
from fractions import Fraction
from typing import TextIO

from meter.reports.columns import Column, Value
from meter.reports.pricing.money import amount_text
from meter.reports.query import Query
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.capacity import capacity_document
from meter.terminal import shown_document
from meter.usage import format_time


async def write_json(report: Report, out: TextIO, total: Total) -> None:
    """Write the rows as they are read."""
    head = document_text(_query_document(report.query))
    head = head.removesuffix("\n}") + ',\n  "rows": ['
    before, after = f"{head}\n", f"{head}]"
    async for row in report.rows:
        total.add(row)
        text = f"{before}    {document_text(values_document(report.columns, row), depth=4)}"
        out.write(shown_document(text, out))
        before, after = ",\n", "\n  ]"
    for name, part in totals_document(report, total.row()).items():
        text = f'{after},\n  "{name}": {document_text(part, depth=2)}'
        out.write(shown_document(text, out))
        after = ""
    out.write("\n}\n")


def head_document(report: Report) -> dict[str, object]:
    """What a report is about, for files that have a place for it beside the rows."""
    return {
        **_query_document(report.query),
        "currency": report.currency,
        "as_of": None if report.as_of is None else format_time(report.as_of),
    }


def _query_document(query: Query) -> dict[str, object]:
    return {"by": query.period, "from": query.first.name, "to": query.last.name}


def document_text(document: object, *, depth: int = 0) -> str:
    """A document as JSON over several lines, those after the first indented by `depth` spaces."""
    text = json.dumps(document, indent=2, ensure_ascii=False)
    return text.replace("\n", "\n" + " " * depth)


def totals_document(report: Report, total: UsageRow) -> dict[str, object]:
    """What follows the rows: their total, what has no price, and provisioned capacity."""
    totals = values_document((column for column in report.columns if column.has_total), total)
    ends: dict[str, object] = {"totals": totals}
    if report.currency is not None:
        ends["unpriced"] = [
            {**key._asdict(), "quantity": quantity} for key, quantity in total.unpriced
        ]
    if report.capacity.entries:
        ends["capacity"] = capacity_document(report.capacity)
    return ends


def values_document(columns: Iterable[Column], row: UsageRow) -> dict[str, object]:
    """The values of a row by their columns' names, as JSON has them."""
    return {column.name: _json_value(column.get(row)) for column in columns}


def _json_value(value: Value) -> object:
    """JSON numbers are read as binary floating point, so amounts and percentages are text."""
    match value:
        case Fraction():
            return amount_text(value)
        case Decimal():
            return f"{value:f}"
        case tuple():
            return list(value)
        case _:
            return value
