"""What was counted of each billed meter of a day, and what of none."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from meter.ledger.keys import Dimensions
from meter.reports.invoice.billed import BilledMeter
from meter.reports.invoice.counted import Counted
from meter.reports.invoice.meaning import Meaning
from meter.reports.invoice.ratios import apportion
from meter.reports.pricing.book import PROVISIONED, Use
from meter.reports.pricing.kinds import PARENTS, Kind


class Unbilled(NamedTuple):
    """What was counted and not billed. The account is empty where its backend has none."""

    account: str
    model: str
    kind: Kind
    deployment_type: str
    tier: str
    context: str


@dataclass(slots=True)
class Shares:
    """What was counted of each billed meter of an account on one day, and of none."""

    meters: Sequence[BilledMeter]
    by_meter: list[list[tuple[Dimensions, int]]] = field(init=False)
    unbilled: Counter[Unbilled] = field(default_factory=Counter)
    _found: dict[tuple[Use, Kind], list[int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_meter = [[] for _ in self.meters]

    def add(self, counted: Counted, account: str) -> None:
        """Find the meters of some usage: of its kind, or of the parent as which it was billed."""
        key = (counted.use, counted.kind)
        places = self._found.get(key)
        if places is None:
            places = self._found[key] = self._places(*key)
        if not places and not (counted.use.tier == PROVISIONED and self._has_units()):
            self.unbilled[unbilled_of(counted, account)] += counted.quantity
        if not places:
            return
        parts = [counted.quantity]
        if len(places) > 1:  # meters of one meaning: the month in which Azure renames one
            weights = [self.meters[place].quantity for place in places]
            parts = apportion(counted.quantity, weights)
        for place, part in zip(places, parts, strict=True):
            if part:
                self.by_meter[place].append((counted.dimensions, part))

    def _places(self, use: Use, kind: Kind) -> list[int]:
        while not (places := closest(use, kind, self._meanings())):
            if kind not in PARENTS:
                return []
            kind = PARENTS[kind]
        return places

    def _has_units(self) -> bool:
        """Whether provisioned use is paid by the hour that day."""
        return any(each is not None and each.kind is Kind.PTU_HOUR for each in self._meanings())

    def _meanings(self) -> Iterable[Meaning | None]:
        return (meter.meaning for meter in self.meters)


def closest(use: Use, kind: Kind, meanings: Iterable[Meaning | None]) -> list[int]:
    """The places of the meanings that are the closest to usage of a kind."""
    best: tuple[int, int] | None = None
    places: list[int] = []
    for place, meaning in enumerate(meanings):
        if meaning is None or meaning.kind is not kind:
            continue
        closeness = meaning.closeness(use)
        if closeness is None or (best is not None and closeness < best):
            continue
        if closeness != best:
            best, places = closeness, []
        places.append(place)
    return places


def unbilled_of(counted: Counted, account: str) -> Unbilled:
    """How usage that was not billed is named."""
    use = counted.use
    return Unbilled(account, use.model, counted.kind, use.deployment_type, use.tier, use.context)
