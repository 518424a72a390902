"""A price book: prices, and which of them is the one for some usage on some day."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from meter.errors import MeterError
from meter.reports.pricing.kinds import PARENTS, Kind

ANY = "*"
DEPLOYMENT_PREFIX = "deployment:"
PROVISIONED = "provisioned"
_DATED = re.compile(r"(.+)-\d{4}-\d\d-\d\d", re.ASCII)


class AmbiguousPrice(MeterError):
    """Two rows of one file have the same claim to be the price of some usage."""


class Origin(StrEnum):
    """Where a price comes from: a contract goes before a list."""

    CONTRACTED = "contracted"
    LIST = "list"


class Use(NamedTuple):
    """What a price is looked up for. Texts are empty where they are not known."""

    model: str
    deployment: str
    deployment_type: str
    region: str
    tier: str
    context: str


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)  # a row equals itself alone
class Price:
    """One row of a book: `price` for `unit` of a kind, from a day on, until before another.

    `model`, `deployment_type`, `region`, `tier` and `context` are `*` where any is meant. `file` counts
    the files of the book from 0; `place` names the row for people.
    """

    model: str
    kind: Kind
    deployment_type: str = ANY
    region: str = ANY
    tier: str = ANY
    context: str = ANY
    unit: int
    price: Decimal
    currency: str
    effective_from: date
    effective_to: date | None = None
    origin: Origin = Origin.LIST
    source: str = ""
    meter_id: str = ""
    meter_name: str = ""
    file: int = 0
    place: str = ""

    @property
    def rate(self) -> Fraction:
        """The price of one."""
        return Fraction(self.price) / self.unit

    def is_valid_on(self, day: date) -> bool:
        """Whether the price applies on that day (UTC)."""
        return self.effective_from <= day and (self.effective_to is None or day < self.effective_to)

    def matches(self, use: Use) -> bool:
        """Whether the price is of such usage, whatever its kind and day."""
        is_tier = self.tier == use.tier or (self.tier == ANY and use.tier != PROVISIONED)
        return (
            is_tier
            and self.deployment_type in (ANY, use.deployment_type)
            and self.region in (ANY, use.region)
            and self.context in (ANY, use.context)
            and self._is_of_model(use)
        )

    def _is_of_model(self, use: Use) -> bool:
        if self.model.startswith(DEPLOYMENT_PREFIX):
            return self.model.removeprefix(DEPLOYMENT_PREFIX) == use.deployment
        return self.model in (ANY, use.model, undated(use.model))

    @property
    def rank(self) -> tuple[int, int, int, int]:
        """The price with the highest rank wins."""
        columns = (self.model, self.deployment_type, self.region, self.tier, self.context)
        return (
            int(self.origin is Origin.CONTRACTED),
            sum(column != ANY for column in columns),
            self._model_rank,
            self.file,
        )

    @property
    def _model_rank(self) -> int:
        if self.model == ANY:
            return 0
        if self.model.startswith(DEPLOYMENT_PREFIX):
            return 3
        return 2 if _DATED.fullmatch(self.model) else 1


def undated(model: str) -> str:
    """The model without its date suffix `-YYYY-MM-DD`."""
    match = _DATED.fullmatch(model)
    return match[1] if match else model


@dataclass(slots=True)
class PriceBook:
    """The prices of some files, all in one currency. Lookups are remembered."""

    prices: Sequence[Price]
    currency: str
    _by_kind: dict[Kind, list[Price]] = field(default_factory=dict)
    _found: dict[tuple[date, Use], Mapping[Kind, Price | None]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for price in self.prices:
            self._by_kind.setdefault(price.kind, []).append(price)

    def prices_of(self, day: date, use: Use) -> Mapping[Kind, Price | None]:
        """What each kind of such usage is charged at on that day, parents included; None: no price.

        Raises AmbiguousPrice.
        """
        known = self._found.get((day, use))
        if known is None:
            own = {kind: self.own_price(day, use, kind) for kind in Kind}
            known = self._found[day, use] = {kind: _inherited(own, kind) for kind in Kind}
        return known

    def own_price(self, day: date, use: Use, kind: Kind) -> Price | None:
        """The price of that kind itself. Raises AmbiguousPrice."""
        valid = [
            each
            for each in self._by_kind.get(kind, ())
            if each.is_valid_on(day) and each.matches(use)
        ]
        return _winner(valid)


def _inherited(own: Mapping[Kind, Price | None], kind: Kind) -> Price | None:
    found = own[kind]
    while found is None and kind in PARENTS:
        kind = PARENTS[kind]
        found = own[kind]
    return found


def _winner(prices: Iterable[Price]) -> Price | None:
    ranked = sorted(prices, key=lambda price: price.rank, reverse=True)
    if len(ranked) > 1 and ranked[0].rank == ranked[1].rank:
        one, other = ranked[0], ranked[1]
        raise AmbiguousPrice(
            f"{one.place} and {other.place}: both are the price of {one.kind} with the same claim; "
            "make one of them more specific, or end it"
        )
    return ranked[0] if ranked else None
