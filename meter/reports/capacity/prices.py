"""The price of a PTU-hour of one entry on each day: its own, or the price book's."""

from collections.abc import Sequence
from datetime import date, timedelta
from fractions import Fraction

from meter.errors import InvalidInput
from meter.reports.capacity.entries import Entry
from meter.reports.pricing.book import ANY, PROVISIONED, PriceBook, Use
from meter.reports.pricing.kinds import Kind

_DAY = timedelta(days=1)


def ptu_prices(
    entry: Entry, days: Sequence[date], book: PriceBook, *, region: str, deployment_type: str
) -> dict[date, Fraction]:
    """The prices by day, in order. Raises InvalidInput, naming the days without one, AmbiguousPrice.

    `region` and `deployment_type` are what is known of the calls, where the entry does not say them.
    """
    if entry.price is not None:
        return dict.fromkeys(days, entry.price)
    if not book.prices:
        raise InvalidInput(
            [f"{entry.place}.price_per_ptu_hour is from the price book: give it with --prices"]
        )
    use = Use(
        model=ANY,  # units serve any
        deployment=entry.deployment,
        deployment_type=entry.deployment_type or deployment_type,
        region=entry.region or region,
        tier=PROVISIONED,
        context="",
    )
    found = {day: book.own_price(day, use, Kind.PTU_HOUR) for day in days}
    missing = [day for day, price in found.items() if price is None]
    if missing:
        raise InvalidInput(
            [
                f"{entry.place}: the price book has no {Kind.PTU_HOUR} of region "
                f"{use.region or 'unknown'} and deployment type {use.deployment_type or 'unknown'} on "
                f"{_ranges(missing)}; region and deployment_type of the entry say which price is meant"
            ]
        )
    return {day: price.rate for day, price in found.items() if price is not None}


def _ranges(days: Sequence[date]) -> str:
    """The days, those in a row as a range."""
    ranges: list[tuple[date, date]] = []
    for day in days:
        if ranges and ranges[-1][1] + _DAY == day:
            ranges[-1] = ranges[-1][0], day
        else:
            ranges.append((day, day))
    return ", ".join(
        f"{first}" if first == last else f"{first} to {last}" for first, last in ranges
    )
