"""The lines of a split invoice, and what they say in all."""

from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum

from meter.reports.invoice.amounts import EXACT, ZERO, total
from meter.reports.invoice.billed import BilledMeter, Charge
from meter.reports.invoice.shares import Unbilled


class LineKind(StrEnum):
    """Whose cost a line is."""

    COUNTED = "counted"
    OTHER = "not through the meter"
    UNMAPPED = "unmapped"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A part of one billed charge: the lines of a charge sum to it, to the last digit.

    `names` are the values of what lines are grouped by; there are none where nobody's use was counted.
    `cost` is the charge's cost times `ratio`. `quantity` stands at the meter's main charge; its credits
    and corrections have 0, so that quantities add up.
    """

    meter: BilledMeter
    charge: Charge
    kind: LineKind
    names: tuple[str, ...] | None = None
    quantity: Decimal
    ratio: Decimal
    cost: Decimal

    @property
    def day(self) -> date:
        """The day for which it was billed."""
        return self.meter.day

    @property
    def charge_type(self) -> str:
        """What the export calls the charge."""
        return self.charge.type


@dataclass(slots=True)
class MeterTotal:
    """One meter of an account in the whole month: its money by kind of line, and its quantities.

    `not_counted` and `not_billed` are differences by day, added up; a call at midnight is in both.
    """

    meter: BilledMeter
    costs: dict[LineKind, Decimal] = field(default_factory=lambda: dict.fromkeys(LineKind, ZERO))
    billed: Decimal = ZERO
    counted: Decimal = ZERO
    not_counted: Decimal = ZERO
    not_billed: Decimal = ZERO
    rows: int = 0

    @property
    def cost(self) -> Decimal:
        """What it cost in all."""
        return total(self.costs.values())


@dataclass(slots=True)
class Totals:
    """What the lines say in all, complete once all of them were read."""

    currency: str
    meters: dict[tuple[str, str, str], MeterTotal] = field(default_factory=dict)
    unbilled: dict[Unbilled, Decimal] = field(default_factory=dict)

    def of(self, meter: BilledMeter) -> MeterTotal:
        """The total of a meter, which begins with nothing."""
        key = (meter.account, meter.meter_name, meter.meter_id)
        return self.meters.setdefault(key, MeterTotal(meter))

    def cost(self, *kinds: LineKind) -> Decimal:
        """What lines of these kinds cost; without any, all of them."""
        return total(
            each.costs[kind] for each in self.meters.values() for kind in kinds or tuple(LineKind)
        )

    def add_unbilled(self, key: Unbilled, quantity: Decimal | int) -> None:
        """Note what was counted and not billed."""
        self.unbilled[key] = EXACT.add(self.unbilled.get(key, ZERO), Decimal(quantity))

    def sorted(self) -> list[MeterTotal]:
        """The meters by account and name."""
        return [each for _, each in sorted(self.meters.items())]

    @property
    def rows(self) -> int:
        """How many rows were billed."""
        return sum(each.rows for each in self.meters.values())
