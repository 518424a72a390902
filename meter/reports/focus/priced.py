"""The charges of a report: what each group used at each price, and its shares of capacity.

Usage without a price makes no charge, since any amount would be invented: the other charges of its group
name it. What capacity pays for has no other charge.
"""

from collections import defaultdict
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from meter.reports.capacity.costs import EntryTotals
from meter.reports.capacity.lines import IDLE
from meter.reports.columns import Value
from meter.reports.focus.charge import (
    NOWHERE,
    Allocation,
    FocusCharge,
    Method,
    Resource,
    Sold,
    payer_of,
)
from meter.reports.focus.exact import Amounts, Ratios
from meter.reports.focus.terms import FocusTerms
from meter.reports.focus.units import unit_of
from meter.reports.pricing.book import ANY, Price
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.money import exact_decimal
from meter.reports.query import Grouping
from meter.reports.rows import Total, UsageRow
from meter.reports.usage import Report

_KINDS = list(Kind)


class _Sale(NamedTuple):
    """What a group is charged at one price, or for one entry's units."""

    what: Price | EntryTotals
    quantity: Fraction
    amount: Fraction


type _Origin = tuple[object, ...]
"""What one charge of an account would be: what its columns say but for whom it is, and how much."""


async def priced_charges(
    report: Report, terms: FocusTerms, total: Total
) -> AsyncIterator[FocusCharge]:
    """The charges, while the report is read; a window's rows are held, as the report itself does."""
    charges = _Charges(report, terms)
    held: list[UsageRow] = []
    async for row in report.rows:
        total.add(row)
        if held and (row.window, row.corrects) != (held[0].window, held[0].corrects):
            for charge in charges.of(held):
                yield charge
            held = []
        held.append(row)
    for charge in charges.of(held):
        yield charge


@dataclass(slots=True)
class _Charges:
    """Makes the charges of a report, window by window."""

    report: Report
    terms: FocusTerms
    _amounts: Amounts = field(default_factory=Amounts)

    def of(self, rows: Sequence[UsageRow]) -> Iterator[FocusCharge]:
        """The charges of all rows of a window."""
        wholes: defaultdict[_Origin, Ratios] = defaultdict(Ratios)
        for row in rows:
            for sale in self._sales(row):
                wholes[self._origin(row, sale)].whole += sale.quantity
        for row in rows:
            for sale in self._sales(row):
                ratio = wholes[self._origin(row, sale)].next(sale.quantity)
                yield self._charge(row, sale, ratio)

    def _sales(self, row: UsageRow) -> Iterator[_Sale]:
        assert row.window is not None
        if row.charge is not None:
            charged = row.charge.bill.charged
            for price in sorted(charged, key=_order):
                yield _Sale(price, Fraction(charged[price]), price.rate * charged[price])
        if row.corrects is None:
            for entry, amount in self.report.capacity.parts_of(row.window, row.names):
                totals = entry.by_window[row.window]
                hours = amount / totals.cost * totals.hours * entry.entry.ptus
                yield _Sale(entry, hours, amount)

    def _names(self, row: UsageRow) -> dict[Grouping, str]:
        return dict(zip(self.report.query.groups, row.names, strict=True))

    def _resource(self, row: UsageRow, sale: _Sale) -> Resource:
        """The account, in the region that was priced."""
        match sale.what:
            case Price() as price:
                backend, region = self._names(row).get(Grouping.BACKEND, ""), price.region
            case EntryTotals() as found:
                backend, region = found.entry.backend, found.entry.region
        known = self.terms.resources.get(backend, NOWHERE)
        return known if region in (ANY, "") else known._replace(region=region)

    def _origin(self, row: UsageRow, sale: _Sale) -> _Origin:
        resource = self._resource(row, sale)
        match sale.what:
            case Price() as price:
                return resource, _sku(price), price.meter_name, price.unit, price.price
            case EntryTotals() as found:
                return resource, found.entry.label, sale.amount / sale.quantity

    def _charge(self, row: UsageRow, sale: _Sale, ratio: Decimal | None) -> FocusCharge:
        assert row.window is not None
        names = self._names(row)
        match sale.what:
            case Price() as price:
                sold, method = _sold_at(price, sale), Method.USE
                description = f"{sold.meter}, {sold.priced_unit}"
                own = _own_of_price(row, price)
            case EntryTotals() as entry:
                sold, method = _units_sold(entry, sale), Method.CAPACITY
                description = f"Provisioned throughput of {entry.entry.label}"
                own = {"x_Kind": Kind.PTU_HOUR, "x_CapacityName": entry.entry.label}
        payer = payer_of(names)
        period = row.corrects or row.window
        return FocusCharge(
            month=row.window.month,
            start=period.start,
            end=period.end,
            cost=self._amounts.decimal_of(sale.amount),
            currency=self.report.currency or "",
            description=description,
            is_correction=row.corrects is not None,
            sold=sold,
            resource=self._resource(row, sale),
            names=names,
            own=_calls(row) | own,
            allocation=Allocation(
                method, "" if payer == IDLE else payer, ratio, sold.quantity, sold.unit
            ),
        )


def _order(price: Price) -> tuple[object, ...]:
    return (
        _KINDS.index(price.kind),
        price.model,
        price.deployment_type,
        price.region,
        price.tier,
        price.context,
        price.effective_from,
        price.origin,
        price.file,
        price.place,
    )


def _sku(price: Price) -> str:
    names = (price.model, price.deployment_type, price.region, price.tier, price.context)
    return price.meter_id or "/".join((price.kind, *names))


def _sold_at(price: Price, sale: _Sale) -> Sold:
    return Sold(
        quantity=exact_decimal(sale.quantity),
        unit=unit_of(price.kind),
        size=price.unit,
        unit_price=price.price,
        sku=_sku(price),
        meter=price.meter_name or " ".join(_words(price)),
    )


def _words(price: Price) -> Iterator[str]:
    """What a price without a meter's name is for."""
    yield price.model if price.model != ANY else "any model"
    yield from price.kind.split("_")
    yield from (text for text in (price.tier, price.context, price.deployment_type) if text != ANY)


def _units_sold(entry: EntryTotals, sale: _Sale) -> Sold:
    place = (entry.entry.deployment_type or ANY, entry.entry.region or ANY)
    return Sold(
        quantity=exact_decimal(sale.quantity),
        unit=unit_of(Kind.PTU_HOUR),
        size=1,
        unit_price=exact_decimal(sale.amount / sale.quantity),
        sku="/".join((Kind.PTU_HOUR, *place)),
        meter="provisioned throughput unit",
    )


def _calls(row: UsageRow) -> dict[str, Value]:
    """How sure the group's counts are, and what of its usage has no price."""
    found: dict[str, Value] = {}
    if row.sums.calls:
        for name, calls in (
            ("x_EstimatedCallRatio", row.sums.estimated_calls),
            ("x_MissingCallRatio", row.sums.missing_calls),
        ):
            found[name] = exact_decimal(round(Fraction(calls, row.sums.calls), 6))
    if row.charge is not None and row.charge.bill.unpriced:
        found["x_UnpricedKinds"] = " ".join(row.charge.bill.unpriced_kinds)
    return found


def _own_of_price(row: UsageRow, price: Price) -> dict[str, Value]:
    found: dict[str, Value] = {"x_Kind": price.kind, "x_PriceOrigin": price.origin}
    if row.charge is not None and (adjusted := row.charge.adjusted.charged.get(price)):
        found["x_AdjustedQuantity"] = adjusted
    return found
