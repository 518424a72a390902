"""What provisioned capacity adds to a report: amounts by window and group, and totals per entry."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from fractions import Fraction

from meter.reports.capacity.entries import Entry
from meter.reports.capacity.sharing import Totals
from meter.reports.pricing.book import PROVISIONED
from meter.reports.pricing.kinds import Kind
from meter.window import Window

type Names = tuple[str, ...]
"""The values of what a report's rows are grouped by."""

# Tokens. Calls of hosted tools are bought one by one, whatever serves the tokens.
PAID_KINDS = frozenset(
    {
        Kind.INPUT,
        Kind.CACHED_INPUT,
        Kind.CACHE_WRITE,
        Kind.OUTPUT,
        Kind.AUDIO_INPUT,
        Kind.AUDIO_CACHED_INPUT,
        Kind.AUDIO_OUTPUT,
        Kind.IMAGE_INPUT,
        Kind.IMAGE_CACHED_INPUT,
        Kind.IMAGE_OUTPUT,
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryTotals:
    """What an entry cost, by the report's windows, and whom; `to_come` are hours that have not begun."""

    entry: Entry
    by_window: Mapping[Window, Totals]
    amounts: Mapping[Window, Mapping[Names, Fraction]] = field(default_factory=dict)
    to_come: int = 0

    @property
    def whole(self) -> Totals:
        """All windows added up."""
        return sum(self.by_window.values(), Totals())


@dataclass(frozen=True, slots=True, kw_only=True)
class CapacityCosts:
    """The costs of all entries that are valid in a report's range."""

    entries: Sequence[EntryTotals] = ()
    amounts: Mapping[Window, Mapping[Names, Fraction]] = field(default_factory=dict)

    def amounts_in(self, window: Window) -> Mapping[Names, Fraction]:
        """What each group of a window is charged of the capacity."""
        return self.amounts.get(window, {})

    def parts_of(self, window: Window, names: Names) -> Iterator[tuple[EntryTotals, Fraction]]:
        """What a group is charged in a window, by entry."""
        for each in self.entries:
            amount = each.amounts.get(window, {}).get(names)
            if amount:
                yield each, amount

    def pays(self, day: str, columns: Mapping[str, object]) -> bool:
        """Whether the tokens of a stored row of that day are paid with capacity, not one by one."""
        if not self.entries or columns.get("Tier") != PROVISIONED:
            return False
        backend, deployment = (str(columns.get(name, "")) for name in ("Backend", "Deployment"))
        return any(
            each.entry.is_valid_on(date.fromisoformat(day))
            and each.entry.serves(backend=backend, deployment=deployment, tier=PROVISIONED)
            for each in self.entries
        )


NO_CAPACITY = CapacityCosts()
