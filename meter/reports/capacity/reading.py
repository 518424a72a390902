"""Shares the capacity of a range: in money for a report, and as shares of each day for an invoice."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from fractions import Fraction

from meter.errors import InvalidInput
from meter.ports import RowStore
from meter.reports.capacity.costs import CapacityCosts, EntryTotals, Names
from meter.reports.capacity.entries import Capacity, Entry, Payer
from meter.reports.capacity.hours import share_hours
from meter.reports.capacity.lines import names_for
from meter.reports.capacity.prices import ptu_prices
from meter.reports.capacity.sharing import Sharing
from meter.reports.owners import Owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Grouping, Query, query_between
from meter.reports.usage import Watch, read_usage
from meter.window import Period, Window

_DAY, _HOUR = timedelta(days=1), timedelta(hours=1)
_PLACE_GROUPS = (Grouping.BACKEND, Grouping.DEPLOYMENT, Grouping.TIER)
_NO_PLACE = ("", "")


def currency_of(capacity: Capacity, query: Query) -> str:
    """The currency of the entries that are valid in the range. Raises InvalidInput for several."""
    entries = _valid_in(capacity, query) or capacity.entries
    currencies = sorted({entry.currency for entry in entries})
    if len(currencies) > 1:
        places = ", ".join(f"{entry.place} has {entry.currency}" for entry in entries)
        raise InvalidInput([f"amounts in several currencies are not added up: {places}"])
    return currencies[0]


async def read_capacity_costs(
    store: RowStore,
    query: Query,
    capacity: Capacity,
    *,
    book: PriceBook,
    owners: Owners,
    now: datetime,
    watch: Watch | None = None,
) -> CapacityCosts:
    """What all hours of the range cost, those that are still to come too, in the book's currency.

    Raises StorageUnavailable, LedgerDamaged, AmbiguousPrice, and InvalidInput for entries in another
    currency, days without a price, calls on the units of two entries and models without a ratio.
    """
    entries = _valid_in(capacity, query)
    _check_currency(entries, book.currency)
    places = await _places(store, query, entries)
    sharings = [
        _in_money(entry, query, book, place, names_for(entry, query.groups, owners))
        for entry, place in zip(entries, places, strict=True)
    ]
    await share_hours(store, query, sharings, watch=watch)
    return CapacityCosts(
        entries=[
            EntryTotals(
                entry=each.entry,
                by_window=each.totals,
                amounts=_by_window(each),
                to_come=_to_come(each.entry, query, now),
            )
            for each in sharings
        ],
        amounts=_added_up(sharings),
    )


def _in_money(
    entry: Entry,
    query: Query,
    book: PriceBook,
    place: tuple[str, str],
    name_of: Callable[[Payer], Names],
) -> Sharing[Names]:
    days = list(_days(query, entry))
    prices = ptu_prices(entry, days, book, region=place[0], deployment_type=place[1])
    return Sharing(entry, prices=prices, period=query.period, name_of=name_of)


@dataclass(frozen=True, slots=True, kw_only=True)
class DayShares:
    """Who pays for each day of one entry, whatever it cost: shares that add up to 1, exactly.

    To split what Azure billed for provisioned units on a day: multiply the row's cost with the
    shares of the entry whose backend is the row's resource. `names_for` names the payers.
    """

    entry: Entry
    by_day: Mapping[date, Mapping[Payer, Fraction]]


async def read_day_shares(
    store: RowStore, query: Query, capacity: Capacity, *, watch: Watch | None = None
) -> list[DayShares]:
    """The shares of each day of the range, per entry that is valid in it. No price is needed.

    The range should be a month: hours that nobody used follow the month's use, as far as it is in
    the range. Raises StorageUnavailable, LedgerDamaged, InvalidInput as a report does.
    """
    sharings = [
        Sharing(
            entry,
            # A day costs 1, so amounts are shares.
            prices=dict.fromkeys(_days(query, entry), Fraction(1, 24 * entry.ptus)),
            period=Period.DAY,
            name_of=_itself,
        )
        for entry in _valid_in(capacity, query)
    ]
    await share_hours(store, query, sharings, watch=watch)
    found = []
    for sharing in sharings:
        by_day: dict[date, dict[Payer, Fraction]] = {}
        for window, payer, share in sharing.amounts():
            by_day.setdefault(window.start.date(), {})[payer] = share
        found.append(DayShares(entry=sharing.entry, by_day=by_day))
    return found


def _itself(payer: Payer) -> Payer:
    return payer


def _valid_in(capacity: Capacity, query: Query) -> tuple[Entry, ...]:
    return capacity.valid_between(query.first.start.date(), _end_day(query))


def _end_day(query: Query) -> date:
    """The first day of which no hour is in the range."""
    return (query.last.end - _HOUR).date() + _DAY


def _days(query: Query, entry: Entry) -> Iterator[date]:
    """The days of the range on which the entry is valid."""
    day, end = max(query.first.start.date(), entry.first), _end_day(query)
    while day < end and entry.is_valid_on(day):
        yield day
        day += _DAY


def _check_currency(entries: Sequence[Entry], currency: str) -> None:
    problems = [
        f"{entry.place}.currency is {entry.currency}, but the report's is {currency}: amounts in "
        "several currencies are not added up"
        for entry in entries
        if entry.currency != currency
    ]
    if problems:
        raise InvalidInput(problems)


def _to_come(entry: Entry, query: Query, now: datetime) -> int:
    """The hours of the entry in the range that begin after that moment."""
    start = max(query.first.start, _midnight(entry.first), now)
    end = query.last.end if entry.end is None else min(query.last.end, _midnight(entry.end))
    return max(0, (end - start) // _HOUR)


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time(), UTC)


async def _places(store: RowStore, query: Query, entries: Sequence[Entry]) -> list[tuple[str, str]]:
    """The region and deployment type of the calls on each entry's units, if all have the same.

    They choose the price of an entry that does not say them; others need none.
    """
    if not any(_needs_place(entry) for entry in entries):
        return [_NO_PLACE for _ in entries]
    months = query_between(query.first.start, query.last.end, Period.MONTH, _PLACE_GROUPS)
    found: list[set[tuple[str, str]]] = [set() for _ in entries]
    async for row in read_usage(store, months):
        backend, deployment, tier = row.names
        for entry, places in zip(entries, found, strict=True):
            if entry.serves(backend=backend, deployment=deployment, tier=tier):
                places.add(row.sums.place)
    return [places.pop() if len(places) == 1 else _NO_PLACE for places in found]


def _needs_place(entry: Entry) -> bool:
    return entry.price is None and not (entry.region and entry.deployment_type)


def _by_window(sharing: Sharing[Names]) -> dict[Window, dict[Names, Fraction]]:
    found: dict[Window, dict[Names, Fraction]] = {}
    for window, names, amount in sharing.amounts():
        found.setdefault(window, {})[names] = amount
    return found


def _added_up(sharings: Sequence[Sharing[Names]]) -> dict[Window, dict[Names, Fraction]]:
    found: dict[Window, dict[Names, Fraction]] = {}
    for sharing in sharings:
        for window, names, amount in sharing.amounts():
            amounts = found.setdefault(window, {})
            amounts[names] = amounts.get(names, Fraction(0)) + amount
    return found
