"""Adds up rows of a report under the values of a panel, quickly and exactly."""

from collections import Counter
from fractions import Fraction

from meter.reports.rows import UsageRow

_COUNTS = (
    *("calls", "failed", "estimated", "missing"),
    *("prompt", "cached", "completion", "total"),
)


class Tally:
    """What some rows add up to. Costs are added per denominator: there are few, and many rows."""

    __slots__ = (
        "_parts",
        "cached",
        "calls",
        "completion",
        "estimated",
        "failed",
        "has_cost",
        "missing",
        "prompt",
        "total",
    )

    def __init__(self) -> None:
        self.calls = self.failed = self.estimated = self.missing = 0
        self.prompt = self.cached = self.completion = self.total = 0
        self.has_cost = False
        self._parts: Counter[int] = Counter()

    def add(self, row: UsageRow, cost: Fraction | None) -> None:
        """Add a row whose cost that is."""
        sums = row.sums
        tokens = sums.tokens
        self.calls += sums.calls
        self.failed += sums.failed_calls
        self.estimated += sums.estimated_calls
        self.missing += sums.missing_calls
        self.prompt += tokens.prompt_tokens
        self.cached += tokens.cached_tokens
        self.completion += tokens.completion_tokens
        self.total += tokens.total_tokens
        if cost is not None:
            self.has_cost = True
            self._parts[cost.denominator] += cost.numerator

    def merge(self, other: "Tally") -> None:
        """Add what another one has."""
        for name in _COUNTS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.has_cost = self.has_cost or other.has_cost
        self._parts.update(other._parts)

    @property
    def cost(self) -> Fraction | None:
        """The exact cost of what has a price; None where nothing has."""
        if not self.has_cost:
            return None
        return sum((Fraction(n, d) for d, n in self._parts.items()), Fraction(0))
