"""Writes a usage report as a table for people, whose printed amounts add up.

Amounts are rounded once, where they are printed. What the printed lines then lack of the rounded
total, or have too much, is a line of its own, `rounding`, if it is not 0.
"""

from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from fractions import Fraction

from meter.reports.columns import Cells, Column, Value
from meter.reports.pricing.money import rounded, rounding_left
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report
from meter.reports.write.capacity import capacity_pieces
from meter.terminal.table import Column as TableColumn
from meter.terminal.table import Screen, Table, table_of
from meter.window import Period, window_of

_NOT_KNOWN = "-"
_ADVICE = "--columns NAMES or --format csv"
_NO_LABEL = Column(name="", heading="", get=lambda _: "", cells=Cells.TEXT, has_total=False)
_RANKS = {
    "adjusted_cost": 15,
    "adjusted_total_tokens": 15,
    "calls": 20,
    "prompt_tokens": 30,
    "completion_tokens": 30,
    "estimated_calls": 40,
    "missing_calls": 40,
    "estimated_percent": 40,
    "missing_percent": 40,
    "failed_calls": 45,
    "share_percent": 60,
    "adjustments": 70,
}
_BESIDE_COST, _OF_A_KIND = 10, 80
_KINDS = ("_tokens", "_calls", "seconds", "images", "characters")


async def write_table(report: Report, screen: Screen, total: Total) -> None:
    """Show all rows at once, since the widths of the columns depend on them."""
    rows = []
    async for row in report.rows:
        total.add(row)
        rows.append(row)
    if not rows:
        query = report.query
        screen.show(f"No calls from {query.first.name} to {query.last.name} (UTC).")
        return
    screen.show(_range(report), _table(report.columns, rows, total.row()))
    if summary := list(capacity_pieces(report.capacity)):
        screen.show("", *summary)


def _table(columns: Sequence[Column], rows: Sequence[UsageRow], whole: UsageRow) -> Table:
    # Rows decide what is shown, not their total: adjustments may add up to 0.
    shown = [column for column in columns if _is_shown(column, rows)]
    if not shown or not shown[0].is_text:
        shown.insert(0, _NO_LABEL)  # the place of `total`
    has_cost = any(column.name == "cost" for column in shown)
    last = [whole.label, *_cells(shown, whole, is_total=True)[1:]]
    return table_of(
        [
            TableColumn(
                heading=column.heading,
                is_text=column.is_text,
                rank=_rank(column.name, has_cost=has_cost),
                # What some rows alone say is no setting of the whole report.
                is_asked=column.is_asked or (column.is_text and column.is_optional),
            )
            for column in shown
        ],
        [*(_cells(shown, row) for row in rows), *_rounding(shown, rows, whole)],
        last,
        advice=_ADVICE,
    )


def _is_shown(column: Column, rows: Sequence[UsageRow]) -> bool:
    """Whether it says anything: counts that are all 0 do not, but for the number of calls."""
    if not column.heading or column.is_asked:
        return bool(column.heading)
    is_count = column.cells is Cells.COUNT and column.name != "calls"
    return not (is_count or column.is_optional) or any(map(column.get, rows))


def _rank(name: str, *, has_cost: bool) -> int:
    """How soon a column is left out: kinds of tokens first; names and what counts in the end never."""
    if name == "total_tokens":
        return _BESIDE_COST if has_cost else 0
    return _RANKS.get(name, _OF_A_KIND if name.endswith(_KINDS) else 0)


def _range(report: Report) -> str:
    """The days, or hours, from the first to the last of the report, and when it was made."""
    query = report.query
    names = [query.first.name, query.last.name]
    if query.period is Period.MONTH:
        last_day = query.last.end - timedelta(days=1)
        names = [window_of(moment, Period.DAY).name for moment in (query.first.start, last_day)]
    as_of = f", as of {report.as_of:%Y-%m-%d %H:%M}" if report.as_of else ""
    return f"{names[0]} to {names[1]} UTC{as_of}"


def _cells(columns: Sequence[Column], row: UsageRow, *, is_total: bool = False) -> list[str]:
    return [
        "" if is_total and not column.has_total and not column.is_text else _cell(column, row)
        for column in columns
    ]


def _cell(column: Column, row: UsageRow) -> str:
    value: Value = column.get(row)
    match value:
        case None:
            return _NOT_KNOWN
        case str():
            return value and column.shown.format(value)
        case tuple():
            return ", ".join(value)
        case Fraction():
            return f"{_rounded(column, value):,}"
        case Decimal():
            return f"{value:.1f}%"
        case int():
            return f"{value:,}"


def _rounded(column: Column, amount: Fraction) -> Decimal:
    assert column.currency is not None, f"{column.name}: amounts have a currency"
    return rounded(amount, column.currency)


def _rounding(
    columns: Sequence[Column], rows: Sequence[UsageRow], total: UsageRow
) -> list[list[str]]:
    """The line that makes the amounts add up, if they do not."""
    left = [_left(column, rows, total) for column in columns]
    if not any(left):
        return []
    cells = [f"{amount:,}" if amount else "" for amount in left]
    return [["rounding", *cells[1:]]]


def _left(column: Column, rows: Sequence[UsageRow], total: UsageRow) -> Decimal | None:
    if column.currency is None:
        return None
    amounts = [value for row in rows if isinstance(value := column.get(row), Fraction)]
    whole = column.get(total)
    if not isinstance(whole, Fraction):
        return None
    return rounding_left([_rounded(column, each) for each in amounts], _rounded(column, whole))
