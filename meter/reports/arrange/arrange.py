"""Arranges a report: its columns, the order of the rows of each window, and how many of them.

It is a step between the rows and every writer, so what one format shows, all of them do. One window
is held in memory at a time.
"""

from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

from meter.reports.arrange.asked import Sort
from meter.reports.arrange.names import SubjectNames
from meter.reports.arrange.order import by_column, by_names
from meter.reports.columns import Column, heading_of, usage_columns
from meter.reports.query import Query
from meter.reports.rows import UsageRow, total_of
from meter.reports.usage import Report
from meter.terminal.words import suggestion

_OTHERS = Column(name="others", heading="", get=lambda row: row.others, has_total=False)


class ColumnError(ValueError):
    """A column that the report does not have; `option` is the one that names it."""

    def __init__(self, option: str, message: str) -> None:
        super().__init__(message)
        self.option = option


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrangement:
    """What is asked of a report: columns in this order, a sort, the first rows of each window.

    The rest of a window is one row, so that totals stay. `is_for_people` is an order of names as
    people look for them.
    """

    columns: tuple[str, ...] | None = None
    sort: Sort | None = None
    top: int | None = None
    is_for_people: bool = False


def check_columns(wanted: Arrangement, query: Query, currency: str | None) -> None:
    """Raise ColumnError if a column is not one of the report's."""
    known = {column.name: column for column in _all_columns(wanted, query, currency)}
    for name in wanted.columns or ():
        if name not in known:
            raise ColumnError("columns", _unknown(name, list(known), currency))
    if wanted.sort is None:
        return
    if wanted.sort.column not in known:
        raise ColumnError("sort", _unknown(wanted.sort.column, list(known), currency))
    if wanted.sort.column == query.period:
        raise ColumnError(
            "sort", f"rows are sorted within each {query.period}, whose order is that of time"
        )


def _unknown(name: str, known: Sequence[str], currency: str | None) -> str:
    if currency is None and name in {"cost", "share_percent", "unpriced", "adjusted_cost"}:
        return f"{name} needs --prices or --capacity"
    meant = suggestion(name, known)
    return f"there is no column {name!r}{meant or f'; there are {", ".join(known)}'}"


def arranged(report: Report, wanted: Arrangement, names: SubjectNames | None = None) -> Report:
    """The report as it is wanted, subjects shown by `names`. Raises ColumnError."""
    check_columns(wanted, report.query, report.currency)
    columns = report.columns
    if wanted.top is not None:
        columns = (*columns, _OTHERS)
    if wanted.columns is not None:
        known = {
            column.name: column for column in _all_columns(wanted, report.query, report.currency)
        }
        columns = tuple(_asked(known[name]) for name in wanted.columns)
    rows = _arranged_rows(report, wanted, names)
    return replace(report, columns=columns, rows=rows)


def _all_columns(wanted: Arrangement, query: Query, currency: str | None) -> list[Column]:
    columns = usage_columns(query, currency, has_corrections=True)
    return [*columns, *([_OTHERS] if wanted.top is not None else [])]


def _asked(column: Column) -> Column:
    heading = column.heading or heading_of(column.name)
    return replace(column, heading=heading, is_optional=False, is_asked=True)


async def _arranged_rows(
    report: Report, wanted: Arrangement, names: SubjectNames | None
) -> AsyncIterator[UsageRow]:
    held: list[UsageRow] = []
    async for row in report.rows:
        if held and (row.window, row.corrects) != (held[0].window, held[0].corrects):
            for each in _of_window(held, report, wanted):
                yield each
            held = []
        held.append(row if names is None else names.on(row, report.query.groups))
    for each in _of_window(held, report, wanted):
        yield each


def _of_window(rows: list[UsageRow], report: Report, wanted: Arrangement) -> Iterator[UsageRow]:
    """The rows of one window as they are wanted; corrections of a month are a window of their own."""
    if wanted.is_for_people:
        rows = by_names(rows)
    sort = wanted.sort or (_usual_sort(report) if wanted.top is not None else None)
    if sort is not None:
        (column,) = (
            each
            for each in _all_columns(wanted, report.query, report.currency)
            if each.name == sort.column
        )
        rows = by_column(rows, column, is_descending=sort.is_descending)
    if wanted.top is None or len(rows) <= wanted.top:
        yield from rows
        return
    yield from rows[: wanted.top]
    yield _others(rows[wanted.top :])


def _usual_sort(report: Report) -> Sort:
    return Sort(column="total_tokens" if report.currency is None else "cost")


def _others(rows: Sequence[UsageRow]) -> UsageRow:
    """One row of all of these, which says how many they are."""
    whole, first = total_of(rows), rows[0]
    charge = whole.charge
    shares = [row.charge.share for row in rows if row.charge and row.charge.share is not None]
    if charge is not None and shares:
        charge = replace(charge, share=sum(shares, Fraction(0)))
    names = (f"(others: {len(rows):,})", *[""] * (len(first.names) - 1)) if first.names else ()
    return replace(
        whole,
        window=first.window,
        corrects=first.corrects,
        names=names,
        charge=charge,
        others=len(rows),
    )
