"""Writes a split invoice as tables for people: who pays what, and where quantities differ."""

from collections import defaultdict
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

from meter.reports.invoice.amounts import EXACT, ZERO, is_whole
from meter.reports.invoice.line import LineKind, MeterTotal, Totals
from meter.reports.invoice.split import Split
from meter.reports.pricing.money import rounded, rounding_left
from meter.terminal import cut, printable
from meter.terminal.table import Column, Piece, Screen, numbers, table_of, texts

MOST_METERS = 30
_LONGEST_NAME = 44
_ADVICE = "--format json"
_PERCENT = Column(heading="%", rank=1)

type _Payer = tuple[LineKind, tuple[str, ...]]


async def write_table(split: Split, groups: Sequence[str], screen: Screen) -> None:
    """Show all lines added up over the month; the widths of columns depend on them."""
    costs: defaultdict[_Payer, Decimal] = defaultdict(lambda: ZERO)
    async for line in split.lines():
        payer = (line.kind, line.names or ())
        costs[payer] = EXACT.add(costs[payer], line.cost)
    totals = split.totals
    parts: list[list[Piece]] = [
        [f"{split.bill.month.name}, {totals.rows:,} billed rows, {totals.currency}"],
        _payers(costs, groups, totals),
        _meters(totals),
        _unmapped(totals),
        _unbilled(totals),
    ]
    for number, part in enumerate(filter(None, parts)):
        screen.show(*(["", *part] if number > 1 else part))


def _payers(costs: dict[_Payer, Decimal], groups: Sequence[str], totals: Totals) -> list[Piece]:
    """Who pays what: rounded amounts, with a line that makes them add up if they do not."""
    order = sorted(costs.items(), key=lambda each: (list(LineKind).index(each[0][0]), -each[1]))
    amounts = [_rounded(cost, totals) for _, cost in order]
    whole = _rounded(totals.cost(), totals)
    rows = [
        (*_cells(payer, groups), f"{amount:,}", _percent(cost, totals.cost()))
        for (payer, cost), amount in zip(order, amounts, strict=True)
    ]
    blanks = [""] * (len(groups) - 1)
    if left := rounding_left(amounts, whole):
        rows.append(("rounding", *blanks, f"{left:,}", ""))
    columns = [*texts(*(group.replace("_", " ") for group in groups)), *numbers("cost"), _PERCENT]
    last = ("total", *blanks, f"{whole:,}", "")
    return [table_of(columns, rows, last, advice=_ADVICE)]


def _cells(payer: _Payer, groups: Sequence[str]) -> tuple[str, ...]:
    kind, names = payer
    return names or (f"({kind})", *[""] * (len(groups) - 1))


def _rounded(cost: Decimal, totals: Totals) -> Decimal:
    return rounded(Fraction(cost), totals.currency)


def _percent(part: Decimal, whole: Decimal) -> str:
    return f"{_tenths(Fraction(100 * part) / Fraction(whole))}%" if whole else "-"


def _tenths(number: Fraction) -> Decimal:
    return Decimal(round(number * 10)).scaleb(-1)


def _meters(totals: Totals) -> list[Piece]:
    """The meters with the largest differences in quantity, by the part of them that differs."""
    found = [each for each in totals.sorted() if each.not_counted or each.not_billed]
    found = [each for each in found if each.meter.is_mapped]
    found.sort(key=lambda each: -abs(each.costs[LineKind.OTHER]))
    rows = [_meter(each, totals) for each in found[:MOST_METERS]]
    if not rows:
        return []
    columns = [
        *texts("quantities that differ"),
        *numbers("billed", "counted", "not counted", "not billed", "cost not counted"),
    ]
    pieces: list[Piece] = [table_of(columns, rows, advice=_ADVICE)]
    if (more := len(found) - MOST_METERS) > 0:
        pieces.append(f"... and {more} more meters: the JSON lists all")
    return pieces


def _meter(found: MeterTotal, totals: Totals) -> tuple[str, ...]:
    quantities = (found.billed, found.counted, found.not_counted, found.not_billed)
    return (
        cut(printable(found.meter.meter_name), _LONGEST_NAME),
        *map(_quantity, quantities),
        f"{_rounded(found.costs[LineKind.OTHER], totals):,}",
    )


def _quantity(quantity: Decimal) -> str:
    return f"{int(quantity):,}" if is_whole(quantity) else f"{quantity:,f}".rstrip("0")


def _unmapped(totals: Totals) -> list[Piece]:
    return [
        f"unmapped: {printable(each.meter.meter_name) or '(no meter)'}, "
        f"{_rounded(each.cost, totals):,} {totals.currency}; {printable(each.meter.reason)}"
        for each in totals.sorted()
        if not each.meter.is_mapped
    ]


def _unbilled(totals: Totals) -> list[Piece]:
    """What was counted, and has no meter on the invoice."""
    rows = [
        (key.model, key.kind, key.tier, key.context, key.deployment_type, _quantity(quantity))
        for key, quantity in sorted(totals.unbilled.items())
    ]
    if not rows:
        return []
    columns = texts("counted, not billed", "kind", "tier", "context", "deployment type")
    return [table_of([*columns, *numbers("quantity")], rows, advice=_ADVICE)]
