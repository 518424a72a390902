"""Notices messages that the hub dropped: its partitions number them without gaps.

| table        | partition | row key                      | columns                                      |
|--------------|-----------|------------------------------|----------------------------------------------|
| HubPositions | `hub`     | hub `|` hub partition        | SequenceNumber, EnqueuedAt of the last one   |

A row is written after each batch and before its checkpoint, so the next owner of a hub partition
knows where it stands, and an aggregator that gets it back asks before it reports anything. Without
a row there is nothing to compare with, so a first start reports nothing. Lower numbers are a
redelivery, unless the hub took them later than the last one: then it was made anew. Nothing is later
than a moment in the future: a row that has one counts as none and is replaced, a message's is cut.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from meter.errors import StorageUnavailable
from meter.ledger.decode import MAX_AHEAD, Message
from meter.ledger.keys import escape, unescape
from meter.ledger.optimistic import OptimisticRows
from meter.ports import Clock, Row, RowStore

POSITIONS_TABLE = "HubPositions"
POSITIONS_PARTITION = "hub"
# The service's own clock may go back a little when a hub partition moves to another machine.
RESTART_MARGIN = timedelta(seconds=10)
_NEVER = datetime(1970, 1, 1, tzinfo=UTC)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Position:
    """The last message of a hub partition that an aggregator has received."""

    number: int
    enqueued_at: datetime

    def is_before(self, other: "Position") -> bool:
        """Whether the other is further on, also on a hub that was made anew."""
        if other.number > self.number:
            return other.enqueued_at >= self.enqueued_at - RESTART_MARGIN
        return other.enqueued_at > self.enqueued_at + RESTART_MARGIN


async def read_positions(store: RowStore, hub: str) -> dict[str, Position]:
    """Where the aggregator stands in a hub, by hub partition. Raises StorageUnavailable.

    Azure ignores the case of names.
    """
    found: dict[str, Position] = {}
    scan = store.scan(
        POSITIONS_TABLE, first_partition=POSITIONS_PARTITION, last_partition=POSITIONS_PARTITION
    )
    async for _, row in scan:
        name, _, partition = row.key.rpartition("|")
        position = _position_of(row)
        if position is None or name.lower() != escape(hub).lower():
            continue
        partition = unescape(partition) or partition
        known = found.get(partition)
        if known is None or known.is_before(position):
            found[partition] = position
    return found


class HubPositions:
    """Where each hub partition stands, in memory and in storage."""

    def __init__(self, store: RowStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._rows = OptimisticRows(store=store)
        self._last: dict[tuple[str, str], Position] = {}
        self._unsaved: set[tuple[str, str]] = set()

    async def receive(self, messages: Sequence[Message]) -> bool:
        """Report gaps before and in the batch; gives whether it may be a redelivery."""
        places: dict[tuple[str, str], list[Position]] = {}
        now = self._clock.now()
        for message in messages:
            at = message.enqueued_at or _NEVER
            position = Position(
                number=message.sequence_number,
                enqueued_at=now if at > now + MAX_AHEAD else at,
            )
            places.setdefault((message.hub, message.hub_partition), []).append(position)
        may_be_repeats = False
        for place, positions in places.items():
            for of_one_hub in _hubs(positions):
                of_one_hub.sort(key=lambda each: each.number)
                may_be_repeats |= await self._receive(place, of_one_hub)
        return may_be_repeats

    async def save(self) -> None:
        """Store where the hub partitions stand. An outage is logged: no call depends on it."""
        for place in sorted(self._unsaved):
            try:
                await self._save(place)
            except StorageUnavailable as exc:
                log.warning("hub_position_unsaved partition=%s reason=%s", place[1], exc)
            else:
                self._unsaved.discard(place)

    async def _receive(self, place: tuple[str, str], positions: Sequence[Position]) -> bool:
        first = positions[0]
        last = self._last.get(place)
        if last is None or first.number != last.number + 1:
            last = await self._latest(place, last)
        is_next = last is not None and first.number == last.number + 1
        if last is not None and first.number <= last.number and last.is_before(first):
            log.error(
                "hub_restarted partition=%s last=%d first=%d", place[1], last.number, first.number
            )
            last = None
        for position in positions:
            if last is not None and position.number > last.number + 1:
                log.critical(
                    "hub_events_missing partition=%s first=%d last=%d count=%d",
                    place[1],
                    last.number + 1,
                    position.number - 1,
                    position.number - last.number - 1,
                )
            if last is None or position.number > last.number:
                last = position
        assert last is not None, "a batch has a message"
        if self._last.get(place) != last:
            self._last[place] = last
            self._unsaved.add(place)
        return not is_next

    async def _latest(self, place: tuple[str, str], known: Position | None) -> Position | None:
        """The further one of what is known here and what other aggregators stored."""
        if not place[0]:
            return known  # without the hub's name there is no row
        key = _key(place)
        try:
            rows = await self._store.read(POSITIONS_TABLE, POSITIONS_PARTITION, [key])
        except StorageUnavailable as exc:
            log.warning("hub_position_unread partition=%s reason=%s", place[1], exc)
            return None
        stored = self._read(rows.get(key))
        if known is None or (stored is not None and known.is_before(stored)):
            return stored
        return known

    async def _save(self, place: tuple[str, str]) -> None:
        if not place[0]:
            return
        position, key = self._last[place], _key(place)

        def build(stored: Mapping[str, Row]) -> list[Row]:
            before = self._read(stored.get(key))
            if before is not None and not before.is_before(position):
                return []
            columns = {"SequenceNumber": position.number, "EnqueuedAt": position.enqueued_at}
            return [Row(key=key, columns=columns, etag=stored[key].etag if key in stored else None)]

        await self._rows.change(POSITIONS_TABLE, POSITIONS_PARTITION, [key], build)

    def _read(self, row: Row | None) -> Position | None:
        position = None if row is None else _position_of(row)
        if row is None or position is None:
            return None
        at = position.enqueued_at
        if at > self._clock.now() + MAX_AHEAD:
            log.warning("hub_position_unread partition=%s reason=EnqueuedAt is %s", row.key, at)
            return None
        return position


def _position_of(row: Row) -> Position | None:
    number, at = row.columns.get("SequenceNumber"), row.columns.get("EnqueuedAt")
    if type(number) is not int:
        return None
    return Position(number=number, enqueued_at=at if isinstance(at, datetime) else _NEVER)


def _hubs(positions: Sequence[Position]) -> list[list[Position]]:
    """The positions apart where the hub was made anew between two of them, which may be any two."""
    by_time = sorted(positions, key=lambda each: each.enqueued_at)
    earlier = iter(by_time)
    before, highest = next(earlier), -1
    for index, each in enumerate(by_time):
        while before.enqueued_at < each.enqueued_at - RESTART_MARGIN:
            highest, before = max(highest, before.number), next(earlier)
        if each.number <= highest:
            return [by_time[:index], *_hubs(by_time[index:])]
    return [by_time]


def _key(place: tuple[str, str]) -> str:
    return "|".join(map(escape, place))
