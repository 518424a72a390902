"""The charges of a split invoice: each line has its part of what Azure billed, cost and quantity.

The parts of a billed charge sum to it, to the last digit, in quantities as well as in costs. What was
counted stands beside them.
"""

from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction

from meter.reports.capacity.lines import IDLE
from meter.reports.focus.charge import (
    OPENAI,
    OTHER_AI,
    Allocation,
    Category,
    FocusCharge,
    Method,
    Sold,
    payer_of,
)
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.units import UNITS, unit_of
from meter.reports.invoice.amounts import EXACT, plain
from meter.reports.invoice.billed import BilledMeter, Charge
from meter.reports.invoice.line import Line, LineKind
from meter.reports.invoice.split import Split
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.money import exact_decimal
from meter.reports.query import Grouping
from meter.window import Window

# As exports write them, in lower case. What is not here, such as a refund, is an adjustment.
_CATEGORIES: Mapping[str, Category] = {each.lower(): each for each in Category}
_WITH_PRICES = frozenset({Category.USAGE, Category.PURCHASE})


async def billed_charges(
    split: Split, groups: Sequence[Grouping], terms: FocusTerms
) -> AsyncIterator[FocusCharge]:
    """The charges, while the invoice is split. Raises StorageUnavailable, LedgerDamaged."""
    charges = _Charges(split.bill.month, split.totals.currency, tuple(groups), terms)
    async for line in split.lines():
        yield charges.of(line)


@dataclass(frozen=True, slots=True)
class _Charges:
    """Makes the charges of an invoice, line by line."""

    month: Window
    currency: str
    groups: Iterable[Grouping]
    terms: FocusTerms

    def of(self, line: Line) -> FocusCharge:
        """The charge of a line."""
        meter = line.meter
        start = datetime.combine(line.day, time(), UTC)
        names = {} if line.names is None else dict(zip(self.groups, line.names, strict=True))
        category, price = _category_and_price(line.charge)
        return FocusCharge(
            month=self.month,
            start=start,
            end=start + timedelta(days=1),
            cost=Decimal(plain(line.cost)),
            currency=self.currency,
            description=meter.described.product or meter.meter_name or OTHER_AI.name,
            category=category,
            service=OTHER_AI if meter.meaning is None else OPENAI,
            sold=None if price is None else _sold(line, price),
            resource=self.terms.of_account(meter.account),
            names=names,
            own=_own(line),
            allocation=_allocation(line, names),
        )


def _category_and_price(charge: Charge) -> tuple[Category, Fraction | None]:
    """FOCUS's word for a type of charge, and what one unit of its quantity costs.

    Usage and purchases have a unit price, which is not negative; what has none is another category.
    """
    category = _CATEGORIES.get(charge.type.strip().lower(), Category.ADJUSTMENT)
    if category not in _WITH_PRICES:
        return category, None
    if charge.quantity:
        price = Fraction(charge.cost) / Fraction(charge.quantity)
        if price >= 0:
            return category, price
    elif not charge.cost:
        return category, Fraction(0)
    return Category.CREDIT if charge.cost < 0 else Category.ADJUSTMENT, None


def _sold(line: Line, price: Fraction) -> Sold:
    meter = line.meter
    unit, size = _unit(meter)
    sku = meter.meter_id or meter.meter_name or OTHER_AI.name
    return Sold(
        quantity=Decimal(plain(EXACT.multiply(line.charge.quantity, line.ratio))),
        unit=unit,
        size=size,
        unit_price=exact_decimal(price * size),
        sku=sku,
        meter=meter.meter_name or sku,
    )


def _unit(meter: BilledMeter) -> tuple[str, int]:
    """What the meter's quantity is counted in, and how many of it have the price."""
    if meter.meaning is None:
        return UNITS, 1
    kind = meter.meaning.kind
    return unit_of(kind), 1 if kind is Kind.PTU_HOUR else meter.size


def _allocation(line: Line, names: Mapping[Grouping, str]) -> Allocation | None:
    if line.kind is LineKind.UNMAPPED or line.meter.meaning is None:
        return None
    kind = line.meter.meaning.kind
    payer = payer_of(names)
    return Allocation(
        method=Method.CAPACITY if kind is Kind.PTU_HOUR else Method.USE,
        payer="" if payer == IDLE else payer,
        ratio=line.ratio,
        quantity=line.quantity or None,
        unit=unit_of(kind),
    )


def _own(line: Line) -> dict[str, str | Decimal | None]:
    meaning = line.meter.meaning
    return {
        "x_Kind": None if meaning is None else meaning.kind,
        "x_LineKind": line.kind,
        "x_ChargeType": line.charge_type,
        "x_CountedQuantity": line.quantity if line.kind is LineKind.COUNTED else None,
    }
