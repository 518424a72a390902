"""Writes a usage report as an Excel workbook: its rows, sums by each of its groups, and what it is about."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import BinaryIO

from meter.reports.capacity.costs import CapacityCosts
from meter.reports.columns import Column, Value, usage_columns
from meter.reports.pricing.cost import Unpriced
from meter.reports.query import Grouping
from meter.reports.rows import Total, UsageRow, note_shares
from meter.reports.usage import Report
from meter.reports.write.workbook import Workbook
from meter.usage import format_time

_OTHERS = "(others)"
_SUMS_AT_ONCE = 4  # there are as many totals as there are names
_NOTES = (
    "Net counts, such as net_total_tokens, are counts with their adjustments: what is to be charged.",
    "Costs are not rounded, but shown in the currency's minor unit; Excel holds 15 of their digits.",
    "Columns with nothing but 0 are hidden. All times are UTC.",
)


async def write_xlsx(report: Report, out: BinaryIO, total: Total) -> None:
    """Write the rows as they are read. Raises InvalidInput if XlsxWriter is missing."""
    query = report.query
    sums = {group: _Sums(place) for place, group in enumerate(query.groups)}
    title = f"Usage from {query.first.name} to {query.last.name}"
    with Workbook(out, title=title, created=report.as_of or query.last.end) as book:
        sheet = book.add_table("usage", report.columns)
        async for row in report.rows:
            total.add(row)
            sheet.add([column.get(row) for column in report.columns])
            for each in sums.values():
                each.add(row)
        for group, found in sums.items():
            _write_sums(book, report, group, found)
        book.add_page("about", list(_about(report, total.row())), report.currency)


class _Sums:
    """The rows of a report added up by one of their names, over all windows."""

    def __init__(self, place: int) -> None:
        self._place = place
        self._totals: defaultdict[str, Total] = defaultdict(partial(Total, _SUMS_AT_ONCE))

    def add(self, row: UsageRow) -> None:
        name = _OTHERS if row.others else row.names[self._place]
        self._totals[name].add(row)

    def rows(self) -> list[UsageRow]:
        """A row per name: the dearest first, or without costs those with the most tokens."""
        rows = [replace(total.row(), names=(name,)) for name, total in self._totals.items()]
        note_shares(rows)
        return sorted(rows, key=_rank)


def _rank(row: UsageRow) -> tuple[object, ...]:
    tokens = row.sums.tokens.total_tokens + row.sums.adjusted.total_tokens
    return (-(row.cost or 0), -tokens, row.names)


def _write_sums(book: Workbook, report: Report, group: Grouping, found: _Sums) -> None:
    columns = _columns_of_sums(report, group)
    sheet = book.add_table(group, columns)
    for row in found.rows():
        sheet.add([column.get(row) for column in columns])


def _columns_of_sums(report: Report, group: Grouping) -> Sequence[Column]:
    """The name, and what the report has of sums."""
    query = report.query
    _, label, *_ = usage_columns(replace(query, groups=(group,)))
    of_rows = {query.period, *query.groups, "corrections_of", "others"}
    return [label, *(column for column in report.columns if column.name not in of_rows)]


def _about(report: Report, total: UsageRow) -> Iterator[Sequence[Value]]:
    """The sheet about the report: its range, its total, what has no price, and what capacity cost."""
    query = report.query
    yield ("by", query.period.value)
    yield ("from", query.first.name)
    yield ("to (inclusive)", query.last.name)
    yield ("groups", ", ".join(query.groups))
    if report.as_of is not None:
        yield ("as of", format_time(report.as_of))
    if report.currency is not None:
        yield ("currency", report.currency)
    yield ()
    for column in report.columns:
        if column.has_total and not column.is_text and column.get(total):
            yield (f"total {column.name}", column.get(total))
    yield ()
    for note in _NOTES:
        yield ("note", note)
    if total.unpriced:
        yield ()
        yield ("without a price", *Unpriced._fields)
        for key, quantity in total.unpriced:
            yield (quantity, *key)
    yield from _capacity(report.capacity)


def _capacity(costs: CapacityCosts) -> Iterator[Sequence[Value]]:
    if not costs.entries:
        return
    yield ()
    yield ("capacity", "from", "PTUs", "hours", "hours with use", "cost", "used")
    for each in costs.entries:
        entry, whole = each.entry, each.whole
        counts = (entry.ptus, whole.hours, whole.hours_with_use)
        yield (entry.label, entry.first.isoformat(), *counts, whole.cost, whole.used)
