"""The columns of a split invoice's lines, as files have them."""

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from meter.reports.columns import Cells
from meter.reports.invoice.amounts import is_whole, plain
from meter.reports.invoice.line import Line


class TypedColumn(NamedTuple):
    """A column of a file that has types."""

    name: str
    cells: Cells
    currency: str | None = None
    is_optional: bool = False


_HEAD = ("date", "resource_id", "meter_id", "meter_name", "kind", "charge_type")
_TAIL = ("quantity", "ratio", "cost", "currency")
_CELLS = {
    "date": Cells.DAY,
    "rows": Cells.COUNT,
    "cost": Cells.AMOUNT,
    "cost_not_counted": Cells.AMOUNT,
    **dict.fromkeys(
        ("quantity", "ratio", "billed", "counted", "not_counted", "not_billed"), Cells.NUMBER
    ),
}


def columns_of(groups: Sequence[str]) -> tuple[str, ...]:
    """The names of the columns, in order."""
    return (*_HEAD, *groups, *_TAIL)


def typed(names: Sequence[str], currency: str) -> list[TypedColumn]:
    """The columns of these names, for files that have types."""
    return [TypedColumn(name, _CELLS.get(name, Cells.TEXT), currency) for name in names]


def values_of(line: Line, groups: Sequence[str], currency: str) -> tuple[str | Decimal | None, ...]:
    """The values of a line. What nobody's use explains has none of the groups'."""
    meter = line.meter
    return (
        meter.day.isoformat(),
        meter.account,
        meter.meter_id,
        meter.meter_name,
        str(line.kind),
        line.charge_type,
        *(line.names or (None,) * len(groups)),
        *(Decimal(plain(number)) for number in (line.quantity, line.ratio, line.cost)),
        currency,
    )


def number_of(quantity: Decimal) -> int | str:
    """A quantity in JSON: a whole number as one, any other as decimal text."""
    return int(quantity) if is_whole(quantity) else plain(quantity)
