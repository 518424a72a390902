"""What was counted on one day, by dimensions and kind."""

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from operator import add
from typing import NamedTuple

from meter.gateway.backend import Backend
from meter.ledger.fold import UNKNOWN
from meter.ledger.keys import DIMENSION_NAMES, Dimensions
from meter.ledger.rows import Place
from meter.ledger.views.shards import Splits, read_splits
from meter.ledger.views.view import VIEW_TABLES
from meter.ports import Row, RowStore
from meter.reports.pricing.book import Use
from meter.reports.pricing.kinds import Kind, quantities_of
from meter.reports.query import Grouping, query_between
from meter.reports.stored import Stored, read_stored
from meter.usage import COUNT_NAMES, Tier, TokenUsage
from meter.window import Period, Window

_TABLE = VIEW_TABLES[Period.DAY]
_TOOLS = frozenset({Kind.WEB_SEARCH, Kind.FILE_SEARCH, Kind.CODE_INTERPRETER})
_COLUMNS = tuple(Grouping(name).column for name in DIMENSION_NAMES)


class Counted(NamedTuple):
    """What was counted of one kind under some dimensions. Never negative."""

    dimensions: Dimensions
    use: Use
    kind: Kind
    quantity: int


@dataclass(slots=True)
class Usage:
    """The usage that was counted, read from the view of days."""

    store: RowStore
    backends: Mapping[str, Backend]
    _splits: Splits | None = None

    async def on(self, day: Window) -> AsyncIterator[Counted]:
        """What was counted that day. Raises StorageUnavailable, LedgerDamaged.

        Adjustments are part of it. A sum that they make negative is no share of anything.
        """
        if self._splits is None:
            self._splits = await read_splits(self.store)
        for partition in self._splits.partitions_of(day):
            rows = self.store.scan(_TABLE, first_partition=partition, last_partition=partition)
            async for _, row in rows:
                for counted in self._counted(row, partition):
                    yield counted

    def _counted(self, row: Row, partition: str) -> Iterator[Counted]:
        get = row.columns.get
        stored = read_stored(row.columns, Place(_TABLE, partition, row.key))
        found = Dimensions(*(str(get(each, "")) for each in _COLUMNS))
        place = (str(get("Region", "")), str(get("DeploymentType", "")))
        use = _use(found, place, self.backends.get(found.backend))
        for kind, quantity in quantities_of(_used(stored)).items():
            if quantity > 0:
                yield Counted(found, _use_of(use, kind), kind, quantity)


def days_of(month: Window) -> Iterator[Window]:
    """The days of a month, in order."""
    return query_between(month.start, month.end, Period.DAY).windows()


def _used(stored: Stored) -> TokenUsage:
    """The counts of a row, adjustments included."""
    used = stored.counts[-len(COUNT_NAMES) :]
    return TokenUsage(*map(add, used, stored.adjusted[1:]) if stored.adjusted else used)


def _use(found: Dimensions, place: tuple[str, str], backend: Backend | None) -> Use:
    """What a meter is looked up for. What the rows do not know, the backends document may."""
    model, (region, deployment_type) = found.model, place
    if backend is not None:
        if model == UNKNOWN:
            model = backend.terms_of(found.deployment).model or UNKNOWN
        deployment_type = (
            deployment_type or backend.terms_of(found.deployment).deployment_type or ""
        )
    return Use(model, found.deployment, deployment_type, region, found.tier, found.context)


def _use_of(use: Use, kind: Kind) -> Use:
    """Tools are bought by the call, whatever tier the model's tokens have."""
    return use._replace(tier=str(Tier.STANDARD)) if kind in _TOOLS else use
