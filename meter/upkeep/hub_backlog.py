"""Measures what the hub holds and the ledger has not counted, and for how long at least.

The hub says when it took the last message of a partition, not when it took those before. So each
measurement is remembered: a message that was the last one then, and is not counted now, has waited
since. Without memory, in a process that has just begun, the age may be too low, never too high.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from meter.ledger.positions import read_positions
from meter.ports import Clock, HubPartition, RowStore
from meter.upkeep.closing.backlog import first_unread

# Of a partition. When it is full, newer ones are remembered once some of these are counted.
MOST_REMEMBERED = 500

type Partitions = Callable[[], Awaitable[Sequence[HubPartition]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Uncounted:
    """Messages that wait, the age of the oldest, and how many the hub took and the ledger counted.

    The last two are sums of the partitions' numbers: they only grow, unless the hub is made anew.
    """

    messages: int
    oldest_seconds: float
    taken: int
    counted: int


@dataclass(slots=True, kw_only=True)
class HubBacklog:
    """The backlog of a hub, `namespace/name`. `partitions` asks the hub; it may raise HubUnavailable."""

    store: RowStore
    clock: Clock
    hub: str
    partitions: Partitions
    _remembered: dict[str, list[tuple[int, datetime]]] = field(default_factory=dict)

    async def measure(self) -> Uncounted:
        """What waits now. Raises HubUnavailable, StorageUnavailable."""
        # In this order: what is counted meanwhile is not held to be waiting.
        partitions = await self.partitions()
        positions = await read_positions(self.store, self.hub)
        now = self.clock.now()
        messages, oldest, taken, counted = 0, now, 0, 0
        for partition in partitions:
            first = first_unread(partition, positions.get(partition.id))
            taken += partition.last_number + 1
            counted += min(first, partition.last_number + 1)
            since = self._waiting_since(partition, first)
            if first <= partition.last_number:
                messages += partition.last_number - first + 1
                oldest = min(oldest, since)
        return Uncounted(
            messages=messages,
            oldest_seconds=(now - oldest).total_seconds(),
            taken=taken,
            counted=counted,
        )

    def _waiting_since(self, partition: HubPartition, first: int) -> datetime:
        """When the hub had taken the message with that number, at the latest."""
        remembered = [each for each in self._remembered.get(partition.id, []) if first <= each[0]]
        latest = partition.last_number, partition.last_enqueued_at
        is_new = not remembered or remembered[-1] != latest
        if is_new and first <= partition.last_number and len(remembered) < MOST_REMEMBERED:
            remembered.append(latest)
        self._remembered[partition.id] = remembered
        return min((at for _, at in remembered), default=partition.last_enqueued_at)
