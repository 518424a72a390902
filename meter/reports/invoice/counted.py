"""What was counted on one day, and which billed meters it belongs to."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from meter.gateway.backend import Backend
from meter.ledger.fold import UNKNOWN
from meter.ledger.keys import DIMENSION_NAMES, Dimensions
from meter.ledger.rows import Place, read_sums
from meter.ledger.views.shards import Splits
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import RowStore
from meter.reports.invoice.billed import BilledMeter
from meter.reports.invoice.meaning import Meaning
from meter.reports.invoice.ratios import apportion
from meter.reports.pricing.book import PROVISIONED, Use
from meter.reports.pricing.kinds import PARENTS, Kind, quantities_of
from meter.usage import Tier
from meter.window import Window

_TOOLS = frozenset({Kind.WEB_SEARCH, Kind.FILE_SEARCH, Kind.CODE_INTERPRETER})
_COLUMNS = {
    name: "".join(part.capitalize() for part in name.split("_")) for name in DIMENSION_NAMES
}


class Counted(NamedTuple):
    """What was counted of one kind under some dimensions. Never negative."""

    dimensions: Dimensions
    use: Use
    kind: Kind
    quantity: int


class Unbilled(NamedTuple):
    """What was counted and not billed. The account is empty where its backend has none."""

    account: str
    model: str
    kind: Kind
    deployment_type: str
    tier: str
    context: str


async def read_counted(
    store: RowStore, splits: Splits, day: Window, backends: Mapping[str, Backend]
) -> AsyncIterator[Counted]:
    """What was counted that day, by dimensions and kind. Raises StorageUnavailable, LedgerDamaged.

    Adjustments are part of it. A sum that adjustments make negative is no share of anything.
    """
    table = VIEW_TABLES[day.period]
    for partition in splits.partitions_of(day):
        async for _, row in store.scan(table, first_partition=partition, last_partition=partition):
            sums = read_sums(row.columns, Place(table, partition, row.key))
            found = Dimensions(*(str(row.columns.get(each, "")) for each in _COLUMNS.values()))
            use = _use(found, sums.place, backends.get(found.backend))
            used = sums.tokens + sums.adjusted if sums.adjustments else sums.tokens
            for kind, quantity in quantities_of(used).items():
                if quantity > 0:
                    yield Counted(found, _use_of(use, kind), kind, quantity)


def _use(found: Dimensions, place: tuple[str, str], backend: Backend | None) -> Use:
    """What a meter is looked up for. What the rows do not know, the backends document may."""
    model, (region, deployment_type) = found.model, place
    if backend is not None:
        if model == UNKNOWN:
            model = backend.model_of(found.deployment) or UNKNOWN
        deployment_type = deployment_type or backend.deployment_type_of(found.deployment) or ""
    return Use(model, found.deployment, deployment_type, region, found.tier, found.context)


def _use_of(use: Use, kind: Kind) -> Use:
    """Tools are bought by the call, whatever tier the model's tokens have."""
    return use._replace(tier=str(Tier.STANDARD)) if kind in _TOOLS else use


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
