"""What provisioned capacity costs in a command's range, and what is to be said of it."""

from collections.abc import Iterator
from datetime import datetime

from meter.ports import RowStore
from meter.reports.capacity.costs import NO_CAPACITY, CapacityCosts
from meter.reports.capacity.entries import Capacity
from meter.reports.capacity.reading import currency_of, read_capacity_costs
from meter.reports.owners import Owners, read_owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Query
from meter.reports.usage import Watch
from meter.reports.write.capacity import capacity_pieces
from meter.reports.write.report import Format
from meter.terminal.table import Piece


def book_without_prices(capacity: Capacity, query: Query) -> PriceBook:
    """A book that has the capacity's currency alone, so that all else is told to be unpriced."""
    return PriceBook(prices=(), currency=currency_of(capacity, query))


async def costs_of(
    capacity: Capacity | None,
    store: RowStore,
    query: Query,
    book: PriceBook | None,
    *,
    now: datetime,
    watch: Watch,
) -> CapacityCosts:
    """What the capacity costs in the range; nothing without any. Raises as `read_capacity_costs`."""
    if capacity is None or book is None:
        return NO_CAPACITY
    is_joined = any(group.is_joined for group in query.groups)
    owners = await read_owners(store) if is_joined else Owners()
    return await read_capacity_costs(
        store, query, capacity, book=book, owners=owners, now=now, watch=watch
    )


def summary_of(capacity: Capacity | None, costs: CapacityCosts, form: Format) -> Iterator[Piece]:
    """What looks like a slip; and the summary, if the format has no place for it."""
    if capacity is not None and not costs.entries:
        yield "warning: no entry of the capacity file is valid in this range"
    for each in costs.entries:
        if not each.whole.hours_with_use:
            yield (
                f"warning: {each.entry.place}: no provisioned call of {each.entry.label} was counted: "
                "are its name, and its tier in METER_BACKENDS, right?"
            )
    if form in {Format.CSV, Format.FOCUS}:
        yield from capacity_pieces(costs)
