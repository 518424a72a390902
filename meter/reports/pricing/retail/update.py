"""How a price book takes in Azure's retail prices, without losing what else is in it.

| row of the book | what becomes of it |
|---|---|
| contracted, or of another source | stays as it is, first in the file |
| imported, of a meter that was fetched, from a day before | stays, and ends where the fetched price begins |
| imported, of a meter that was fetched, otherwise | is replaced |
| imported, of a meter that was not fetched, or not as a price | stays |

Azure lists what holds now. The prices of months before are kept, since usage of those months is priced
by them.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from decimal import Decimal
from typing import NamedTuple

from meter.reports.pricing.book import ANY, Origin, Price
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Meter, Reason, Skipped
from meter.reports.pricing.meters.parse import parse_meter
from meter.reports.pricing.retail.price import PAY_AS_YOU_GO, RetailPrice

SOURCE = "azure-retail-prices"
"""What the column `source` of an imported row says; a row that says anything else is a person's."""
_REGION = re.compile(r"[a-z][a-z0-9]{1,49}", re.ASCII)
_MOST_WHOLE_DIGITS, _MOST_DECIMALS = 15, 20


class What(NamedTuple):
    """What a price is of: two prices of the same on the same day would contradict each other."""

    model: str
    kind: Kind
    deployment_type: str
    region: str
    tier: str
    context: str
    currency: str


@dataclass(slots=True)
class Update:
    """The book after an import, and what was made of the rows that were read."""

    prices: list[Price] = field(default_factory=list)
    rows: int = 0
    parsed: int = 0
    skipped: list[tuple[RetailPrice, Skipped]] = field(default_factory=list)
    stayed: int = 0
    """Rows of people, and imported ones of meters that were not fetched."""

    @property
    def skipped_by_reason(self) -> Counter[Reason]:
        """How many rows were skipped for each reason."""
        return Counter(why.reason for _, why in self.skipped)


def updated_book(book: Sequence[Price], fetched: Iterable[RetailPrice], *, currency: str) -> Update:
    """The book with the fetched prices in that currency."""
    update = Update()
    own = [price for price in book if not is_imported(price)]
    imported = [price for price in book if is_imported(price)]
    fresh = _without_conflicts(_read(fetched, currency, update), update)
    names = {_meter(price) for price, _ in fresh}
    past = [price for price in imported if _meter(price) in names]
    others = [price for price in imported if _meter(price) not in names]
    renewed = _renewed(fresh, past)
    taken = _by_what(own)
    prices = [
        each
        for each in [*others, *renewed]  # of two from one day the later in this list stays
        if not any(_overlap(each, other) for other in taken[what_of(each)])
    ]
    for price, row in fresh:
        if any(_overlap(price, other) for other in taken[what_of(price)]):
            update.skipped.append((row, Skipped(Reason.HAS_OWN_ROW)))
    update.stayed = len(own) + len(others)
    update.prices = [*own, *sorted(_disjoint(prices), key=_order)]
    update.parsed = update.rows - len(update.skipped)
    return update


def is_imported(price: Price) -> bool:
    """Whether an import wrote the row, and may replace it."""
    return price.origin is Origin.LIST and price.source == SOURCE


def what_of(price: Price) -> What:
    """What the price is of, whatever its days and its amount."""
    return What(
        price.model,
        price.kind,
        price.deployment_type,
        price.region,
        price.tier,
        price.context,
        price.currency,
    )


def _read(
    fetched: Iterable[RetailPrice], currency: str, update: Update
) -> Iterator[tuple[Price, RetailPrice]]:
    """The rows that are prices; the others are noted as skipped."""
    for row in fetched:
        update.rows += 1
        found = _refusal(row, currency) or parse_meter(row.product, row.meter_name, row.unit)
        if isinstance(found, Meter):
            found = _contradiction(row, found) or found
        if isinstance(found, Skipped):
            update.skipped.append((row, found))
        else:
            yield _price(row, found), row


def _refusal(row: RetailPrice, currency: str) -> Skipped | None:
    if row.type != PAY_AS_YOU_GO:
        return Skipped(Reason.NOT_PAY_AS_YOU_GO, row.type)
    if row.least_units:
        return Skipped(Reason.VOLUME, f"{row.least_units:f}")
    if row.currency != currency:
        return Skipped(Reason.OTHER_CURRENCY, row.currency)
    if row.until is not None and row.until <= row.since:
        return Skipped(Reason.NOT_A_PRICE, f"from {row.since} until {row.until}")
    if row.region and not _REGION.fullmatch(row.region):
        return Skipped(Reason.NOT_A_PRICE, f"of region {row.region}")
    if not _fits(row.price):
        return Skipped(Reason.NOT_A_PRICE, f"{row.price}")
    return None


def _fits(price: Decimal) -> bool:
    _, digits, exponent = price.as_tuple()
    assert isinstance(exponent, int)
    return (
        price >= 0 and len(digits) + exponent <= _MOST_WHOLE_DIGITS and -exponent <= _MOST_DECIMALS
    )


def _contradiction(row: RetailPrice, meter: Meter) -> Skipped | None:
    """A name that says `1M` beside another unit."""
    says_million = "1m" in row.meter_name.lower().split()
    if says_million and meter.unit != 1_000_000:
        return Skipped(Reason.UNCLEAR_UNIT, f"{row.unit}, but 1M in the name")
    return None


def _price(row: RetailPrice, meter: Meter) -> Price:
    return Price(
        model=meter.model,
        kind=meter.kind,
        deployment_type=meter.deployment_type,
        region=row.region or ANY,
        tier=meter.tier,
        context=meter.context,
        unit=meter.unit,
        price=row.price,
        currency=row.currency,
        effective_from=row.since,
        effective_to=row.until,
        origin=Origin.LIST,
        source=SOURCE,
        meter_id=row.meter_id,
        meter_name=row.meter_name,
    )


def _without_conflicts(
    read: Iterable[tuple[Price, RetailPrice]], update: Update
) -> list[tuple[Price, RetailPrice]]:
    """Prices of one meter for each use; where several meters have different ones, none."""
    groups: dict[What, list[tuple[Price, RetailPrice]]] = defaultdict(list)
    for price, row in read:
        groups[what_of(price)].append((price, row))
    kept: list[tuple[Price, RetailPrice]] = []
    for group in groups.values():
        names = {row.meter_name.lower() for _, row in group}
        days = {price.effective_from for price, _ in group}
        rates = {(price.effective_from, price.rate) for price, _ in group}
        if len(rates) > len(days) or (len(names) > 1 and len({rate for _, rate in rates}) > 1):
            said = " / ".join(sorted({row.meter_name for _, row in group}))
            update.skipped += [(row, Skipped(Reason.CONFLICT, said)) for _, row in group]
        else:
            first = {price.effective_from: (price, row) for price, row in _ordered(group)[::-1]}
            kept += first.values()
    return kept


def _ordered(group: Iterable[tuple[Price, RetailPrice]]) -> list[tuple[Price, RetailPrice]]:
    return sorted(group, key=lambda each: _order(each[0]))


def _renewed(fresh: Iterable[tuple[Price, RetailPrice]], past: Iterable[Price]) -> list[Price]:
    """What was fetched, and before it what the book had from earlier days."""
    found = [price for price, _ in fresh]
    first: dict[What, date] = {}
    for price in found:
        what = what_of(price)
        first[what] = min(first.get(what, price.effective_from), price.effective_from)
    earlier = [
        price
        for price in past
        if what_of(price) in first and price.effective_from < first[what_of(price)]
    ]
    return [*earlier, *found]


def _disjoint(prices: Iterable[Price]) -> Iterator[Price]:
    """The prices, each ended where the next of the same begins; one that changes nothing is left out."""
    for group in _by_what(prices).values():
        ordered = sorted(group, key=lambda price: price.effective_from)
        for price, following in zip(ordered, [*ordered[1:], None], strict=True):
            end = price.effective_to
            if following is not None and (end is None or end > following.effective_from):
                end = following.effective_from
            if end is None or end > price.effective_from:
                yield replace(price, effective_to=end)


def _by_what(prices: Iterable[Price]) -> defaultdict[What, list[Price]]:
    groups: defaultdict[What, list[Price]] = defaultdict(list)
    for price in prices:
        groups[what_of(price)].append(price)
    return groups


def _overlap(one: Price, other: Price) -> bool:
    """Whether both hold on some day, and neither goes before the other."""
    return (
        one.origin is other.origin
        and one.effective_from < (other.effective_to or date.max)
        and other.effective_from < (one.effective_to or date.max)
    )


def _meter(price: Price) -> tuple[str, str, str]:
    return (price.meter_id or price.meter_name, price.region, price.currency)


def _order(price: Price) -> tuple[What, date, str, str]:
    return (what_of(price), price.effective_from, price.meter_name, price.meter_id)
