"""Splits what Azure billed among those whose use was counted, day by day.

Each charge of a meter is divided by ratios: one's counted quantity of exactly that meter, account and
day, to the larger of what was billed and what was counted. What was billed beyond the counted use is a
line of its own. Credits and corrections of a meter are divided as its use is.
"""

from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction

from meter.gateway.backend import Backend
from meter.ledger.keys import Dimensions
from meter.ports import RowStore
from meter.reports.capacity.costs import Names
from meter.reports.invoice.amounts import EXACT, ONE, ZERO
from meter.reports.invoice.billed import Bill, BilledMeter, Charge
from meter.reports.invoice.counted import Usage, days_of
from meter.reports.invoice.line import Line, LineKind, Totals
from meter.reports.invoice.ratios import Quantity, ratios_of
from meter.reports.invoice.shares import Shares, unbilled_of
from meter.reports.invoice.units import UnitHours
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.money import exact_decimal

type Label = Callable[[Dimensions], Names]
"""What lines are grouped by."""

NO_CAPACITY = (
    "provisioned capacity is billed by the hour, not by use: --capacity says who pays for it"
)


@dataclass(slots=True, kw_only=True)
class Split:
    """The lines of a month's bill, which can be read once; `totals` is complete after that."""

    bill: Bill
    backends: Sequence[Backend]
    store: RowStore
    label: Label
    units: UnitHours = field(default_factory=UnitHours)
    totals: Totals = field(init=False)

    def __post_init__(self) -> None:
        self.totals = Totals(self.bill.currency)

    async def lines(self) -> AsyncIterator[Line]:
        """By day, account and meter. Raises StorageUnavailable, LedgerDamaged.

        What was counted is held for one day at a time.
        """
        usage = Usage(self.store, {each.name: each for each in self.backends})
        accounts = {
            each.name: self.bill.accounts.of(each.resource_id)
            for each in self.backends
            if each.resource_id
        }
        billed = self.bill.by_day()
        for day in days_of(self.bill.month):
            meters = billed.pop(day.start.date(), [])
            shares = {
                account: Shares([each for each in meters if each.account == account])
                for account in sorted(self.bill.accounts.ids.values())
            }
            async for counted in usage.on(day):
                account = accounts.get(counted.dimensions.backend)
                if account is None:
                    self.totals.add_unbilled(unbilled_of(counted, ""), counted.quantity)
                else:
                    shares[account].add(counted, account)
            for each in shares.values():
                for line in self._account_lines(each):
                    yield line

    def _account_lines(self, shares: Shares) -> Iterator[Line]:
        for key, quantity in shares.unbilled.items():
            self.totals.add_unbilled(key, quantity)
        for meter, counted in zip(shares.meters, shares.by_meter, strict=True):
            if meter.meaning is not None and meter.meaning.kind is Kind.PTU_HOUR:
                found: Mapping[Names, Quantity] = self.units.of(meter)
                meter.reason = "" if found else NO_CAPACITY
            else:
                found = self._named(counted)
            if meter.is_mapped:
                yield from self._meter_lines(meter, found)
            else:
                yield from self._unmapped(meter)

    def _named(self, counted: Iterable[tuple[Dimensions, int]]) -> dict[Names, Quantity]:
        found: dict[Names, Quantity] = {}
        for dimensions, quantity in counted:
            names = self.label(dimensions)
            found[names] = found.get(names, 0) + quantity
        return found

    def _unmapped(self, meter: BilledMeter) -> Iterator[Line]:
        found = self.totals.of(meter)
        found.billed = EXACT.add(found.billed, meter.quantity)
        for charge in meter.charges.values():
            found.rows += charge.rows
            yield self._line(meter, charge, LineKind.UNMAPPED, None, charge.quantity, ONE)

    def _meter_lines(self, meter: BilledMeter, counted: Mapping[Names, Quantity]) -> Iterator[Line]:
        shares = sorted(counted.items())
        billed, whole = meter.quantity, exact_decimal(Fraction(sum(counted.values())))
        ratios, rest = ratios_of([quantity for _, quantity in shares], billed)
        left = self._note(meter, billed, whole)
        main = max(meter.charges.values(), key=lambda each: abs(each.quantity))
        for charge in meter.charges.values():
            is_main = charge is main
            for (names, quantity), ratio in zip(shares, ratios, strict=True):
                shown = exact_decimal(Fraction(quantity)) if is_main else ZERO
                yield self._line(meter, charge, LineKind.COUNTED, names, shown, ratio)
            if rest:
                yield self._line(
                    meter, charge, LineKind.OTHER, None, left if is_main else ZERO, rest
                )

    def _note(self, meter: BilledMeter, billed: Decimal, counted: Decimal) -> Decimal:
        """Add to the meter's total; gives what was billed beyond what was counted.

        What was taken back (billed below 0) was never counted, so it is the negative part of that.
        """
        found = self.totals.of(meter)
        found.rows += sum(charge.rows for charge in meter.charges.values())
        found.billed = EXACT.add(found.billed, billed)
        found.counted = EXACT.add(found.counted, counted)
        both = min(max(billed, ZERO), counted)
        not_counted = EXACT.subtract(billed, both)
        found.not_counted = EXACT.add(found.not_counted, not_counted)
        found.not_billed = EXACT.add(found.not_billed, EXACT.subtract(counted, both))
        return not_counted

    def _line(
        self,
        meter: BilledMeter,
        charge: Charge,
        kind: LineKind,
        names: Names | None,
        quantity: Decimal,
        ratio: Decimal,
    ) -> Line:
        cost = EXACT.multiply(charge.cost, ratio)
        found = self.totals.of(meter)
        found.costs[kind] = EXACT.add(found.costs[kind], cost)
        return Line(
            meter=meter,
            charge=charge,
            kind=kind,
            names=names,
            quantity=quantity,
            ratio=ratio,
            cost=cost,
        )
