"""Checks a price book against a month's usage: what has no price, or several, and what nobody uses."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from operator import add
from typing import NamedTuple

from meter.errors import AmbiguousPrice
from meter.ledger.keys import view_range, view_window
from meter.ledger.rows import Place
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.reports.pricing.book import PROVISIONED, Price, PriceBook, Use
from meter.reports.pricing.cost import Unpriced, unpriced_of
from meter.reports.pricing.kinds import TOKEN_KINDS, Kind, quantities_of
from meter.reports.pricing.ties import ties_between
from meter.reports.query import query_between
from meter.reports.stored import CALL_NAMES, read_stored
from meter.usage import COUNT_NAMES, TokenUsage
from meter.window import Period, Window

type Watch = Callable[[int, Window], None]
"""Called now and then with how many stored rows were read, and the day of the latest."""
_WATCHED_ROWS = 1_000

_TABLE = VIEW_TABLES[Period.DAY]
_USE_COLUMNS = tuple("".join(map(str.capitalize, name.split("_"))) for name in Use._fields)


class Standing(StrEnum):
    """What a book says of some usage, where it does not simply have a price of its own kind."""

    UNPRICED = "unpriced"
    AMBIGUOUS = "ambiguous"
    CHARGED_AS_PARENT = "charged_as_parent"
    BY_CAPACITY = "by_capacity"


class Finding(NamedTuple):
    """What was found of some usage.

    `detail` names the equally good rows of an ambiguous price, or the kind whose price is charged.
    """

    standing: Standing
    usage: Unpriced
    detail: tuple[str, ...] = ()


@dataclass(slots=True)
class Extent:
    """How much of some usage there was, and on which days."""

    quantity: int = 0
    days: set[date] = field(default_factory=set)


@dataclass(frozen=True, slots=True, kw_only=True)
class BookCheck:
    """What was found, the largest first.

    `used` is how many rows usage is charged at, `unused` the rows that could be and are not, and
    `others` how many are not valid in the month, or price the hours of capacity. `ties` names rows that
    would be equally good for usage that the month does not have.
    """

    month: Window
    currency: str
    has_usage: bool
    found: Mapping[Finding, Extent]
    unused: tuple[Price, ...]
    used: int
    others: int
    ties: tuple[tuple[str, ...], ...] = ()

    def with_standing(self, standing: Standing) -> list[tuple[Finding, Extent]]:
        """The findings of that standing."""
        return [each for each in self.found.items() if each[0].standing is standing]

    @property
    def is_priced(self) -> bool:
        """Whether all usage of the month has one price; tokens of capacity are not asked for one."""
        standings = {finding.standing for finding in self.found}
        return standings.isdisjoint({Standing.UNPRICED, Standing.AMBIGUOUS})


async def check_book(
    store: RowStore, month: Window, book: PriceBook, watch: Watch | None = None
) -> BookCheck:
    """Check the book against the month's days. Raises StorageUnavailable, LedgerDamaged."""
    usage, judge = _Usage(), _Judge(book)
    rows = 0
    async for partition, row in _days_of(store, month):
        rows += 1
        usage.add(row, Place(_TABLE, partition, row.key))
        if watch is not None and rows % _WATCHED_ROWS == 0:
            watch(rows, Window(view_window(partition)))
    for day, use, quantities in usage.by_day():
        judge.add(day, use, quantities)
    valid = [price for price in book.prices if _is_asked_for(price, month)]
    ties = ties_between(book, month.start.date(), month.end.date())
    unused = tuple(price for price in valid if not judge.has_used(price))
    return BookCheck(
        month=month,
        currency=book.currency,
        has_usage=rows > 0,
        found=judge.found(),
        unused=unused,
        used=len(valid) - len(unused),
        others=len(book.prices) - len(valid),
        ties=tuple(rows for rows in ties if not judge.has_met(rows)),
    )


def _days_of(store: RowStore, month: Window) -> AsyncIterator[tuple[str, Row]]:
    """The view's rows of all days of the month."""
    days = query_between(month.start, month.end, Period.DAY)
    first, last = view_range(days.first, days.last)
    return store.scan(_TABLE, first_partition=first, last_partition=last)


class _Usage:
    """A month's usage: added up per day and use as plain numbers, since rows may be millions."""

    def __init__(self) -> None:
        self._counts: dict[tuple[object, ...], list[int]] = {}

    def add(self, row: Row, at: Place) -> None:
        """Add a row: its counts and their adjustments are what is charged. Raises LedgerDamaged."""
        stored = read_stored(row.columns, at)
        key = (view_window(at.partition), *map(row.columns.get, _USE_COLUMNS))
        counts = self._counts.setdefault(key, [0] * len(COUNT_NAMES))
        for numbers in (stored.counts[len(CALL_NAMES) :], stored.adjusted[1:]):
            if numbers:
                counts[:] = map(add, counts, numbers)

    def by_day(self) -> Iterator[tuple[date, Use, Mapping[Kind, int]]]:
        """The quantities per day and use."""
        for (day, *names), counts in self._counts.items():
            use = Use(*("" if name is None else str(name) for name in names))
            usage = TokenUsage(**dict(zip(COUNT_NAMES, counts, strict=True)))
            yield date.fromisoformat(str(day)), use, quantities_of(usage)


class _Judge:
    """Looks up the price of all usage."""

    def __init__(self, book: PriceBook) -> None:
        self._book = book
        self._extents: dict[Finding, Extent] = {}
        self._used: set[Price] = set()
        self._ties: set[tuple[str, ...]] = set()

    def add(self, day: date, use: Use, quantities: Mapping[Kind, int]) -> None:
        """Judge the usage of a day."""
        for kind, quantity in quantities.items():
            finding = self._finding(day, use, kind)
            if finding is not None:
                extent = self._extents.setdefault(finding, Extent())
                extent.quantity += quantity
                extent.days.add(day)

    def found(self) -> dict[Finding, Extent]:
        """The findings, the largest first. Usage that was taken back altogether needs no price."""
        kept = [
            (finding, extent)
            for finding, extent in self._extents.items()
            if extent.quantity or finding.standing is Standing.AMBIGUOUS
        ]
        return dict(sorted(kept, key=lambda each: (-abs(each[1].quantity), each[0])))

    def has_used(self, price: Price) -> bool:
        """Whether the row is a price of some usage, or one of several."""
        return price in self._used or any(price.place in rows for rows in self._ties)

    def has_met(self, rows: tuple[str, ...]) -> bool:
        """Whether some usage has these rows as its prices."""
        return rows in self._ties

    def _finding(self, day: date, use: Use, kind: Kind) -> Finding | None:
        usage = unpriced_of(use, kind)
        try:
            price = self._book.prices_of(day, use)[kind]
        except AmbiguousPrice as exc:
            self._ties.add(exc.rows)
            return Finding(Standing.AMBIGUOUS, usage, exc.rows)
        if price is None:
            is_paid = use.tier == PROVISIONED and kind in TOKEN_KINDS
            return Finding(Standing.BY_CAPACITY if is_paid else Standing.UNPRICED, usage)
        self._used.add(price)
        if price.kind is kind:
            return None
        return Finding(Standing.CHARGED_AS_PARENT, usage, (price.kind,))


def _is_asked_for(price: Price, month: Window) -> bool:
    """Whether usage of the month could be charged at the price."""
    first, end = month.start.date(), month.end.date()
    begins, ends = price.effective_from, price.effective_to
    is_valid = begins < end and (ends is None or first < ends)
    return is_valid and price.kind is not Kind.PTU_HOUR
