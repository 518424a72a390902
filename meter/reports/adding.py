"""Adds up stored rows per group, and per price where there is a book.

There may be millions of rows, so their counts are added as plain numbers; values are made once per
group, and quantities are multiplied by prices once per price.
"""

from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from operator import add, attrgetter

from meter.ledger.fold import NO_PLACE, Sums, total_sums
from meter.ledger.keys import view_subject_key
from meter.ledger.rows import PLACE_COLUMNS, Place
from meter.ports import Row
from meter.reports.capacity.costs import NO_CAPACITY, PAID_KINDS, CapacityCosts
from meter.reports.owners import Owners
from meter.reports.pricing.book import PriceBook, Use
from meter.reports.pricing.cost import Bill
from meter.reports.pricing.kinds import Kind, quantities_of
from meter.reports.query import Grouping
from meter.reports.rows import Charge, UsageRow, note_shares
from meter.reports.stored import CALL_NAMES, COUNTS, read_stored
from meter.usage import COUNT_NAMES, TokenUsage
from meter.window import Window

type Names = tuple[str, ...]
"""The values of what rows are grouped by."""

type _Key = tuple[object, ...]

_DAY_CHARS = len("2026-11-23")
# In the order of `Use`.
_USE_COLUMNS = ("Model", "Deployment", "DeploymentType", "Region", "Tier", "Context")


@dataclass(slots=True)
class _Part:
    """The rows of a group that have the same prices, added up."""

    counts: list[int] = field(default_factory=lambda: [0] * COUNTS)
    adjusted: list[int] | None = None
    first_call_at: datetime | None = None
    last_call_at: datetime | None = None
    place: tuple[str, str] = NO_PLACE

    def add(self, row: Row, at: Place) -> None:
        counts, adjusted, first, last = read_stored(row.columns, at)
        self.counts = list(map(add, self.counts, counts))
        if adjusted:
            before = self.adjusted or [0] * len(adjusted)
            self.adjusted = list(map(add, before, adjusted))
        if first is not None and (self.first_call_at is None or first < self.first_call_at):
            self.first_call_at = first
        if last is not None and (self.last_call_at is None or last > self.last_call_at):
            self.last_call_at, self.place = last, _place(row)

    @property
    def used(self) -> TokenUsage:
        return _usage(self.counts[len(CALL_NAMES) :])

    @property
    def adjusted_usage(self) -> TokenUsage:
        return _usage(self.adjusted[1:] if self.adjusted else ())

    def sums(self) -> Sums:
        return Sums(
            **dict(zip(CALL_NAMES, self.counts, strict=False)),
            tokens=self.used,
            first_call_at=self.first_call_at,
            last_call_at=self.last_call_at,
            place=self.place,
            adjustments=self.adjusted[0] if self.adjusted else 0,
            adjusted=self.adjusted_usage,
        )


def _place(row: Row) -> tuple[str, str]:
    region, deployment_type = (str(row.columns.get(name, "")) for name in PLACE_COLUMNS)
    return region, deployment_type


def _usage(counts: Iterable[int]) -> TokenUsage:
    return TokenUsage(**dict(zip(COUNT_NAMES, counts, strict=False)))


class DayPrices:
    """The prices of a book, and on which days they are the same."""

    def __init__(self, book: PriceBook) -> None:
        self.book = book
        days = {each.effective_from for each in book.prices}
        days |= {each.effective_to for each in book.prices if each.effective_to is not None}
        self._changes = sorted(days)
        self._days: dict[str, date] = {}
        self._first: dict[int, date] = {}

    def day_like(self, day: str) -> date:
        """The first of all days asked for on which every price is that of this day."""
        known = self._days.get(day)
        if known is None:
            own = date.fromisoformat(day)
            known = self._first.setdefault(bisect_right(self._changes, own), own)
            self._days[day] = known
        return known


@dataclass(slots=True)
class Groups:
    """The usage of one window by group, while its rows are read."""

    labels: Sequence[Callable[[Row], str]]
    prices: DayPrices | None
    capacity: CapacityCosts = NO_CAPACITY
    _found: dict[Names, dict[_Key, _Part]] = field(default_factory=dict)

    def add(self, row: Row, at: Place) -> None:
        """Add a row of the window, or of a shorter one in it. Raises LedgerDamaged."""
        names = tuple(label(row) for label in self.labels)
        parts = self._found.get(names)
        if parts is None:
            parts = self._found[names] = {}
        key = self._key(row, at)
        part = parts.get(key)
        if part is None:
            part = parts[key] = _Part()
        part.add(row, at)

    def _key(self, row: Row, at: Place) -> _Key:
        """What rows with the same prices have in common."""
        if self.prices is None:
            return ()
        day = at.partition[:_DAY_CHARS]
        is_paid = self.capacity.pays(day, row.columns)
        return (self.prices.day_like(day), is_paid, *map(row.columns.get, _USE_COLUMNS))

    def rows(self, window: Window) -> Iterator[UsageRow]:
        """One row per group, in order of names; once. Raises AmbiguousPrice."""
        shares = self.capacity.amounts_in(window)
        found = [
            UsageRow(
                window=window,
                names=names,
                sums=total_sums([part.sums() for part in parts.values()]),
                charge=None
                if self.prices is None
                else _charge(self.prices.book, parts, shares.get(names)),
            )
            for names in sorted(self._found.keys() | shares.keys())
            for parts in [self._found.pop(names, {})]
        ]
        note_shares(found)
        yield from found


def _charge(book: PriceBook, parts: Mapping[_Key, _Part], share: Fraction | None) -> Charge:
    """What the parts are charged by the token, and the group's share of provisioned capacity."""
    charge = Charge()
    if share is not None:
        charge.bill.add_other(share)
    for (day, is_paid, *names), part in parts.items():
        assert isinstance(day, date)
        use = Use(*("" if name is None else str(name) for name in names))
        if is_paid:
            charge.bill.add_other(Fraction(0))  # nothing, which is not unknown
        charge.bill.add(book, day, use, _quantities(part.used, is_paid=bool(is_paid)))
        if part.adjusted:
            adjusted = Bill()
            quantities = _quantities(part.adjusted_usage, is_paid=bool(is_paid))
            adjusted.add(book, day, use, quantities)
            charge.add(Charge(bill=adjusted, adjusted=adjusted))
    return charge


def _quantities(usage: TokenUsage, *, is_paid: bool) -> Mapping[Kind, int]:
    """What has a price of its own: all, or what capacity does not pay."""
    found = quantities_of(usage)
    return {kind: n for kind, n in found.items() if kind not in PAID_KINDS} if is_paid else found


def labels_of(groups: Iterable[Grouping], owners: Owners) -> list[Callable[[Row], str]]:
    """How to read from a row what it is grouped by."""
    return [_joined(each, owners) if each.is_joined else _dimension(each) for each in groups]


def _joined(group: Grouping, owners: Owners) -> Callable[[Row], str]:
    value = attrgetter(group.value)
    return lambda row: str(value(owners.of_key(view_subject_key(row.key))))


def _dimension(group: Grouping) -> Callable[[Row], str]:
    column = group.column
    return lambda row: str(row.columns.get(column, ""))
