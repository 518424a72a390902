"""The rows of a usage report: the usage of one group in one window, and what it is charged."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from meter.ledger.fold import Sums, total_sums
from meter.reports.pricing.cost import Bill, Unpriced
from meter.window import Window

_SUMS_AT_ONCE = 1_000


@dataclass(slots=True, kw_only=True)
class Charge:
    """What usage is charged, and how much of that is for adjustments.

    `share` is that of its window's cost; None where either is not known, or the whole is 0.
    """

    bill: Bill = field(default_factory=Bill)
    adjusted: Bill = field(default_factory=Bill)
    share: Fraction | None = None

    def add(self, other: "Charge") -> None:
        """Add what other usage is charged."""
        self.bill += other.bill
        self.adjusted += other.adjusted


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageRow:
    """The usage of one group in one window. The total of all rows has no window and no names.

    `charge` is None where there is no price book. `corrects` is a closed month for which the usage
    arrived in this window. `others` is of how many rows this is the rest, if it is one.
    """

    window: Window | None = None
    names: tuple[str, ...] = ()
    sums: Sums = field(default_factory=Sums)
    charge: Charge | None = None
    corrects: Window | None = None
    others: int = 0

    @property
    def label(self) -> str:
        """The window's name, or `total`."""
        return self.window.name if self.window else "total"

    @property
    def cost(self) -> Fraction | None:
        """The exact cost of what has a price; None where nothing has."""
        return None if self.charge is None else self.charge.bill.cost

    @property
    def unpriced(self) -> list[tuple[Unpriced, int]]:
        """The usage without a price, and how much of it there is, in order."""
        found = {} if self.charge is None else self.charge.bill.unpriced
        return sorted((key, quantity) for key, quantity in found.items() if quantity)


@dataclass(slots=True)
class Total:
    """Rows added up, while they are written; up to `most` of them are held until then."""

    most: int = _SUMS_AT_ONCE
    _sums: list[Sums] = field(default_factory=list)
    _charge: Charge | None = None

    def add(self, row: UsageRow) -> None:
        """Add a row."""
        self._sums.append(row.sums)
        if len(self._sums) == self.most:
            self._sums = [total_sums(self._sums)]
        if row.charge is not None:
            self._charge = self._charge or Charge()
            self._charge.add(row.charge)

    def row(self) -> UsageRow:
        """The total so far."""
        return UsageRow(sums=total_sums(self._sums), charge=self._charge)


def total_of(rows: Iterable[UsageRow]) -> UsageRow:
    """The rows added up."""
    total = Total()
    for row in rows:
        total.add(row)
    return total.row()


def note_shares(rows: Sequence[UsageRow]) -> None:
    """Note in all rows of one window their shares of its cost."""
    costs = [row.cost for row in rows]
    whole = sum((cost for cost in costs if cost is not None), Fraction(0))
    for row, cost in zip(rows, costs, strict=True):
        if row.charge is not None and cost is not None and whole:
            row.charge.share = cost / whole
