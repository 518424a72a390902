"""Provisioned capacity as its file declares it: units, days, price, and the policy for idle units."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from meter.ledger.keys import Dimensions
from meter.reports.pricing.book import PROVISIONED, compared_model, undated


class Idle(StrEnum):
    """Who pays for units that nobody used."""

    BY_USE = "by-use"
    BY_SHARE = "by-share"
    SEPARATE = "separate"


class HolderKind(StrEnum):
    """What a holder of a share is. A subject is written without its kind."""

    SUBJECT = "subject"
    TEAM = "team"
    COST_CENTRE = "cost_centre"


class Holder(NamedTuple):
    """A subject, team or cost centre that holds a share of the idle units."""

    kind: HolderKind
    name: str

    def __str__(self) -> str:
        return self.name if self.kind is HolderKind.SUBJECT else f"{self.kind}:{self.name}"


type Payer = Dimensions | Holder | None
"""Who an amount is charged to: calls of these dimensions, a holder of idle units, or the idle line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a capacity file: the PTUs of a backend, or of a deployment, from day to day.

    Either `backend` or `deployment` is empty. `end` is exclusive; None leaves it open. Without a
    `price` it is the price book's. `region` and `deployment_type` are empty where the file does not
    say them. `place` names the entry for people.
    """

    backend: str = ""
    deployment: str = ""
    ptus: int
    first: date
    end: date | None = None
    price: Fraction | None
    currency: str
    idle: Idle
    ratios: Mapping[str, Fraction] = field(default_factory=dict)
    tokens_per_minute: Mapping[str, Fraction] = field(default_factory=dict)
    shares: Mapping[Holder, Fraction] = field(default_factory=dict)
    region: str = ""
    deployment_type: str = ""
    place: str = ""

    @property
    def label(self) -> str:
        """The backend or the deployment, with the word for which it is."""
        return f"backend {self.backend}" if self.backend else f"deployment {self.deployment}"

    def is_valid_on(self, day: date) -> bool:
        """Whether the units are provisioned on that day (UTC)."""
        return self.first <= day and (self.end is None or day < self.end)

    def serves(self, *, backend: str, deployment: str, tier: str) -> bool:
        """Whether such calls used the units, whatever their day. Spilled calls are standard."""
        if tier != PROVISIONED:
            return False
        if self.backend:
            return backend == self.backend
        return deployment == self.deployment

    def overlaps(self, other: "Entry") -> bool:
        """Whether both declare the units of one backend, or one deployment, on one day."""
        if (self.backend, self.deployment) != (other.backend, other.deployment):
            return False
        later = max(self.first, other.first)
        return self.is_valid_on(later) and other.is_valid_on(later)


@dataclass(frozen=True, slots=True, kw_only=True)
class Capacity:
    """All entries of a file, in its order. No two of them overlap."""

    entries: Sequence[Entry]

    def valid_between(self, first: date, end: date) -> tuple[Entry, ...]:
        """The entries that are valid on a day from `first` to before `end`."""
        return tuple(
            entry
            for entry in self.entries
            if entry.first < end and (entry.end is None or first < entry.end)
        )


def of_model(numbers: Mapping[str, Fraction], model: str) -> Fraction | None:
    """The number of a model, which stands under its name or its undated one, as it is compared."""
    name = compared_model(model)
    return numbers.get(name, numbers.get(undated(name)))
