"""Splits what Azure billed among those whose use was counted, day by day.

Each charge of a meter is divided by ratios: one's counted quantity of exactly that meter, account and
day, to the larger of what was billed and what was counted. What was billed beyond the counted use is a
line of its own. Credits and corrections of a meter are divided as its use is.
"""

from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal

from meter.gateway.backend import Backend
from meter.ledger.keys import Dimensions
from meter.ledger.views.shards import read_splits
from meter.ports import RowStore
from meter.reports.invoice.amounts import EXACT, ONE, ZERO
from meter.reports.invoice.billed import Bill, BilledMeter, Charge
from meter.reports.invoice.counted import Shares, read_counted, unbilled_of
from meter.reports.invoice.line import Line, LineKind, Totals
from meter.reports.invoice.ratios import ratios_of
from meter.reports.query import query_between
from meter.window import Period

type Label = Callable[[Dimensions], tuple[str, ...]]
"""What lines are grouped by."""


@dataclass(slots=True, kw_only=True)
class Split:
    """The lines of a month's bill, which can be read once; `totals` is complete after that."""

    bill: Bill
    backends: Sequence[Backend]
    store: RowStore
    label: Label
    totals: Totals = field(init=False)

    def __post_init__(self) -> None:
        self.totals = Totals(self.bill.currency)

    async def lines(self) -> AsyncIterator[Line]:
        """By day, account and meter. Raises StorageUnavailable, LedgerDamaged.

        What was counted is held for one day at a time.
        """
        splits = await read_splits(self.store)
        by_name = {each.name: each for each in self.backends}
        accounts = {
            each.name: self.bill.accounts.of(each.resource_id)
            for each in self.backends
            if each.resource_id
        }
        billed, month = self.bill.by_day(), self.bill.month
        for day in query_between(month.start, month.end, Period.DAY).windows():
            meters = billed.pop(day.start.date(), [])
            shares = {
                account: Shares([each for each in meters if each.account == account])
                for account in sorted(self.bill.accounts.ids.values())
            }
            async for counted in read_counted(self.store, splits, day, by_name):
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
            if meter.meaning is None:
                yield from self._unmapped(meter)
            else:
                yield from self._meter_lines(meter, counted)

    def _unmapped(self, meter: BilledMeter) -> Iterator[Line]:
        found = self.totals.of(meter)
        found.billed = EXACT.add(found.billed, meter.quantity)
        for charge in meter.charges.values():
            found.rows += charge.rows
            yield self._line(meter, charge, LineKind.UNMAPPED, None, charge.quantity, ONE)

    def _meter_lines(
        self, meter: BilledMeter, counted: Sequence[tuple[Dimensions, int]]
    ) -> Iterator[Line]:
        by_names: dict[tuple[str, ...], int] = {}
        for dimensions, quantity in counted:
            names = self.label(dimensions)
            by_names[names] = by_names.get(names, 0) + quantity
        shares = sorted(by_names.items())
        billed, whole = meter.quantity, sum(by_names.values())
        ratios, rest = ratios_of([quantity for _, quantity in shares], billed)
        left = self._note(meter, billed, whole)
        main = max(meter.charges.values(), key=lambda each: abs(each.quantity))
        for charge in meter.charges.values():
            is_main = charge is main
            for (names, quantity), ratio in zip(shares, ratios, strict=True):
                shown = Decimal(quantity) if is_main else ZERO
                yield self._line(meter, charge, LineKind.COUNTED, names, shown, ratio)
            if rest:
                yield self._line(
                    meter, charge, LineKind.OTHER, None, left if is_main else ZERO, rest
                )

    def _note(self, meter: BilledMeter, billed: Decimal, counted: int) -> Decimal:
        """Add to the meter's total; gives what was billed beyond what was counted."""
        found = self.totals.of(meter)
        found.rows += sum(charge.rows for charge in meter.charges.values())
        found.billed = EXACT.add(found.billed, billed)
        found.counted += counted
        difference = EXACT.subtract(billed, Decimal(counted))
        if difference < 0:
            found.not_billed = EXACT.subtract(found.not_billed, difference)
            return ZERO
        found.not_counted = EXACT.add(found.not_counted, difference)
        return difference

    def _line(
        self,
        meter: BilledMeter,
        charge: Charge,
        kind: LineKind,
        names: tuple[str, ...] | None,
        quantity: Decimal,
        ratio: Decimal,
    ) -> Line:
        cost = EXACT.multiply(charge.cost, ratio)
        found = self.totals.of(meter)
        found.costs[kind] = EXACT.add(found.costs[kind], cost)
        return Line(
            meter=meter,
            charge_type=charge.type,
            kind=kind,
            names=names,
            quantity=quantity,
            ratio=ratio,
            cost=cost,
        )
