"""Writes a split invoice as an Excel workbook: its lines, costs by each group, and what does not match."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any, BinaryIO

from meter.reports.columns import Cells, Value
from meter.reports.invoice.amounts import EXACT, ZERO
from meter.reports.invoice.line import Line, LineKind, Totals
from meter.reports.invoice.split import Split
from meter.reports.invoice.write.columns import columns_of, typed, values_of
from meter.reports.invoice.write.json import ends_of
from meter.reports.write.workbook import Workbook

type _Costs = defaultdict[str, Decimal]


async def write_xlsx(split: Split, groups: Sequence[str], out: BinaryIO) -> None:
    """Write the lines as they are made. Raises InvalidInput if XlsxWriter is missing."""
    month, currency = split.bill.month, split.totals.currency
    costs: list[_Costs] = [defaultdict(lambda: ZERO) for _ in groups]
    with Workbook(out, title=f"Invoice of {month.name}", created=month.end) as book:
        sheet = book.add_table("lines", typed(columns_of(groups), currency))
        async for line in split.lines():
            sheet.add(values_of(line, groups, currency))
            _add(costs, line)
        for group, found in zip(groups, costs, strict=True):
            rows = sorted(found.items(), key=lambda each: (-each[1], each[0]))
            _write(book, group, [{group: name, "cost": cost} for name, cost in rows], currency)
        ends = ends_of(split.totals, month.name)
        for name, documents in (
            ("meters", ends["totals"]["meters"]),
            ("unmapped", ends["unmapped"]),
            ("unbilled", ends["unbilled"]),
        ):
            if documents:
                _write(book, name, documents, currency)
        book.add_page("about", list(_about(split.totals, month.name)), currency)


def _add(costs: Sequence[_Costs], line: Line) -> None:
    """Add a line's cost to each of its names; nobody's has none, and is named by its kind."""
    names = line.names or [f"({line.kind})"] * len(costs)
    for found, name in zip(costs, names, strict=True):
        found[name] = EXACT.add(found[name], line.cost)


def _write(
    book: Workbook, name: str, documents: Sequence[Mapping[str, Any]], currency: str
) -> None:
    """A sheet with a row per document; those of a sheet have the same names."""
    columns = typed(list(documents[0]) if documents else [name, "cost"], currency)
    sheet = book.add_table(name, columns)
    for document in documents:
        sheet.add([_value(column.cells, document[column.name]) for column in columns])


def _value(cells: Cells, value: Any) -> Value:
    """A value of a document, which has numbers as decimal texts."""
    match value:
        case None:
            return None
        case str() if cells in {Cells.NUMBER, Cells.AMOUNT}:
            return Decimal(value)
        case str():
            return str(value)
        case _:
            return value  # type: ignore[no-any-return]  # a number


def _about(totals: Totals, month: str) -> Iterator[Sequence[Value]]:
    yield ("month", month)
    yield ("currency", totals.currency)
    yield ("billed rows", totals.rows)
    yield ("cost", Fraction(totals.cost()))
    for kind in LineKind:
        yield (f"cost, {kind}", Fraction(totals.cost(kind)))
    yield (
        "note",
        "Costs are not rounded, but shown in the currency's minor unit; Excel holds 15 digits.",
    )
