"""Finds rows of a price book that are equally good for usage that may come.

Such rows are of one file, kind, origin and model, and have equally many columns other than `*`, but
not the same ones: one a region, say, and the other a tier. Usage in that region at that tier has no
price then, unless another row is better for it.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from itertools import combinations, islice

from meter.errors import AmbiguousPrice
from meter.reports.pricing.book import ANY, DEPLOYMENT_PREFIX, Price, PriceBook, Use

MOST_PAIRS = 10_000

_COLUMNS = ("deployment_type", "region", "tier", "context")
_USUAL_TIER = "standard"  # of usage for which both rows say `*`


def ties_between(book: PriceBook, first: date, end: date) -> list[tuple[str, ...]]:
    """The places of rows that tie for some usage from the first day to before `end`, each tie once.

    Of a book with very many rows that may tie, not all are found: `MOST_PAIRS` are looked at.
    """
    found: dict[tuple[str, ...], None] = {}
    for one, other in islice(_pairs(book.prices), MOST_PAIRS):
        day = max(one.effective_from, other.effective_from, first)
        if day < end and one.is_valid_on(day) and other.is_valid_on(day):
            try:
                book.own_price(day, _use_of_both(one, other), one.kind)
            except AmbiguousPrice as tie:
                found[tie.rows] = None
    return list(found)


def _pairs(prices: Iterable[Price]) -> Iterator[tuple[Price, Price]]:
    """The pairs of rows that rank alike, and of which no column excludes the other."""
    alike: dict[tuple[object, ...], dict[tuple[str, ...], list[Price]]] = {}
    for price in prices:
        rank = (price.kind, price.model, price.rank)
        names = tuple(name for name in _COLUMNS if getattr(price, name) != ANY)
        alike.setdefault(rank, defaultdict(list))[names].append(price)
    for by_names in alike.values():
        for names, others in combinations(by_names, 2):
            common = [name for name in names if name in others]
            yield from _joined(by_names[names], by_names[others], common)


def _joined(
    ones: Sequence[Price], others: Sequence[Price], common: Sequence[str]
) -> Iterator[tuple[Price, Price]]:
    by_values: dict[tuple[str, ...], list[Price]] = defaultdict(list)
    for other in others:
        by_values[_values(other, common)].append(other)
    for one in ones:
        for other in by_values.get(_values(one, common), ()):
            yield one, other


def _values(price: Price, names: Sequence[str]) -> tuple[str, ...]:
    return tuple(getattr(price, name) for name in names)


def _use_of_both(one: Price, other: Price) -> Use:
    """The most general usage of which both are the price; of nothing where none is."""
    words = {
        name: next((v for v in (getattr(one, name), getattr(other, name)) if v != ANY), "")
        for name in _COLUMNS
    }
    is_deployment = one.model.startswith(DEPLOYMENT_PREFIX)
    name = one.model.removeprefix(DEPLOYMENT_PREFIX)
    return Use(
        model="" if is_deployment or name == ANY else name,
        deployment=name if is_deployment else "",
        deployment_type=words["deployment_type"],
        region=words["region"],
        tier=words["tier"] or _USUAL_TIER,
        context=words["context"],
    )
