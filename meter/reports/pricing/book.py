"""A price book: prices, and which of them is the one for some usage on some day.

Names compare as people mean them: models, deployment types, regions, tiers and contexts in any case,
and regions also by their display name (`Sweden Central` is `swedencentral`). Deployments compare
exactly, as the front door tells them apart.
"""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

from meter.errors import AmbiguousPrice, InvalidInput
from meter.reports.pricing.kinds import PARENTS, Kind

ANY = "*"
DEPLOYMENT_PREFIX = "deployment:"
PROVISIONED = "provisioned"
_DATED = re.compile(r"(.+)-\d{4}-\d\d-\d\d", re.ASCII)


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
    """One row of a book: `price` for `unit` of a kind, from a day on, until before another (UTC).

    `model`, `deployment_type`, `region`, `tier` and `context` are `*` where any is meant, and kept as
    they are compared. `file` counts the files of the book from 0; `place` names the row for people.
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
    rate: Fraction = field(init=False)
    """The price of one."""

    def __post_init__(self) -> None:
        for name, compared in _COMPARED.items():
            object.__setattr__(self, name, compared(getattr(self, name)))
        object.__setattr__(self, "rate", Fraction(self.price) / self.unit)

    def is_valid_on(self, day: date) -> bool:
        """Whether the price applies on that day (UTC)."""
        return self.effective_from <= day and (self.effective_to is None or day < self.effective_to)

    def matches(self, use: Use) -> bool:
        """Whether the price is of such usage, whatever its kind and day."""
        use = compared_use(use)
        return (
            self._is_of_tier(use.tier)
            and self.deployment_type in (ANY, use.deployment_type)
            and self.region in (ANY, use.region)
            and self.context in (ANY, use.context)
            and self.model in _models_of(use)
        )

    def _is_of_tier(self, tier: str) -> bool:
        """Tokens of provisioned capacity are paid by the hour: no `*` prices them, but the hour."""
        if self.tier != ANY:
            return self.tier == tier
        return tier != PROVISIONED or self.kind is Kind.PTU_HOUR

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


def compared_model(text: str) -> str:
    """A model, or `deployment:` and a name, as it is compared: a model in any case, a name exactly."""
    text = text.strip()
    prefix, name = text[: len(DEPLOYMENT_PREFIX)], text[len(DEPLOYMENT_PREFIX) :]
    if prefix.lower() == DEPLOYMENT_PREFIX:
        return DEPLOYMENT_PREFIX + name.strip()
    return text.lower()


def compared_region(text: str) -> str:
    """A region as it is compared: Azure's short name, which its display name makes, too."""
    return "".join(text.split()).lower()


def compared_word(text: str) -> str:
    """A deployment type, tier or context as it is compared: `Data Zone` is `data-zone`."""
    return "-".join(text.lower().replace("_", " ").split())


# There are few different names, and many prices.
_COMPARED: Mapping[str, Callable[[str], str]] = {
    "model": lru_cache(maxsize=4_096)(compared_model),
    "region": lru_cache(maxsize=4_096)(compared_region),
    "deployment_type": lru_cache(maxsize=4_096)(compared_word),
    "tier": lru_cache(maxsize=4_096)(compared_word),
    "context": lru_cache(maxsize=4_096)(compared_word),
}


def compared_use(use: Use) -> Use:
    """The usage as prices are compared with it."""
    return Use(
        use.model.strip().lower(),
        use.deployment,
        compared_word(use.deployment_type),
        compared_region(use.region),
        compared_word(use.tier),
        compared_word(use.context),
    )


def undated(model: str) -> str:
    """The model without its date suffix `-YYYY-MM-DD`."""
    match = _DATED.fullmatch(model)
    return match[1] if match else model


def _models_of(use: Use) -> tuple[str, ...]:
    """What the column `model` of a price of such usage may say."""
    return f"{DEPLOYMENT_PREFIX}{use.deployment}", use.model, undated(use.model), ANY


class Charges(dict[Kind, Price | None]):
    """What each kind of some usage is charged at on a day; None: no price.

    A kind is looked up when it is first asked for, which raises AmbiguousPrice: rows that tie for a
    kind that nobody used do no harm.
    """

    def __init__(self, own_price: Callable[[Kind], Price | None]) -> None:
        super().__init__()
        self._own_price = own_price

    def __missing__(self, kind: Kind) -> Price | None:
        found = self._own_price(kind)
        if found is None and kind in PARENTS:
            found = self[PARENTS[kind]]
        self[kind] = found
        return found


@dataclass(slots=True)
class PriceBook:
    """The prices of some files, all in one currency. Lookups are remembered."""

    prices: Sequence[Price]
    currency: str
    _places: dict[tuple[str, str], list[Price]] = field(init=False, repr=False)
    _of_use: dict[Use, dict[Kind, list[Price]]] = field(init=False, repr=False)
    _found: dict[tuple[date, Use], Charges] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._places, self._of_use, self._found = {}, {}, {}
        for price in self.prices:
            if price.currency != self.currency:
                raise ValueError(f"a book in {self.currency} holds no price in {price.currency}")
            self._places.setdefault((price.model, price.region), []).append(price)

    def prices_of(self, day: date, use: Use) -> Charges:
        """What each kind of such usage is charged at on that day, as itself or as its parent."""
        known = self._found.get((day, use))
        if known is None:
            known = self._found[day, use] = Charges(lambda kind: self.own_price(day, use, kind))
        return known

    def own_price(self, day: date, use: Use, kind: Kind) -> Price | None:
        """The price of that kind itself. Raises AmbiguousPrice."""
        prices = self._prices_of_use(use).get(kind, ())
        best = _best(price for price in prices if price.is_valid_on(day))
        if len(best) > 1:
            raise AmbiguousPrice(f"{kind} of {use.model} on {day}", [price.place for price in best])
        return best[0] if best else None

    def _prices_of_use(self, use: Use) -> Mapping[Kind, Sequence[Price]]:
        """The prices that match such usage, by kind, whatever their days."""
        known = self._of_use.get(use)
        if known is None:
            known = self._of_use[use] = {}
            compared = compared_use(use)
            # A model or region may be named alike by several of its names: each place once.
            places = {
                (model, region): None
                for model in _models_of(compared)
                for region in (compared.region, ANY)
            }
            for place in places:
                for price in self._places.get(place, ()):
                    if price.matches(compared):
                        known.setdefault(price.kind, []).append(price)
        return known


def book_in(
    prices: Sequence[Price], currency: str | None, *, choice: str = "--currency"
) -> PriceBook:
    """The book of the prices in that currency; None: in the only one. Raises InvalidInput.

    `choice` is by what people choose the currency.
    """
    known = sorted({price.currency for price in prices})
    if not known:
        raise InvalidInput(["the price book has no prices"])
    if currency is None and len(known) > 1:
        raise InvalidInput(
            [f"the prices are in {' and '.join(known)}: choose one currency with {choice}"]
        )
    chosen = currency or known[0]
    if chosen not in known:
        raise InvalidInput([f"there are no prices in {chosen}; they are in {', '.join(known)}"])
    return PriceBook([price for price in prices if price.currency == chosen], chosen)


def _best(prices: Iterable[Price]) -> list[Price]:
    """The prices that share the highest rank."""
    best: list[Price] = []
    for price in prices:
        if not best or price.rank > best[0].rank:
            best = [price]
        elif price.rank == best[0].rank:
            best.append(price)
    return best
