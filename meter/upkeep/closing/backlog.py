"""Calls of a month that are not counted yet: in the outbox, on the hub, among the dead letters.

They are looked for in the order in which a call moves on, so none can pass unseen. What cannot be
read may be of the month, and is named.
"""

import asyncio
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import batched

from meter.errors import HubUnavailable
from meter.ledger.keys import FIRST_KEY, LAST_KEY
from meter.ledger.positions import Position, read_positions
from meter.ports import HubPartition, HubReader, RowStore
from meter.publishing.outbox import OUTBOX_TABLE
from meter.upkeep.replay import read_letters
from meter.usage import format_time
from meter.window import Window

MOST_NAMED = 20
MOST_READ = 100_000
PARTITIONS_AT_ONCE = 8

type Watermark = Mapping[str, object]


@dataclass(slots=True)
class Found:
    """Calls of a month at one place, by the keys of what holds them."""

    month: Window
    calls: int = 0
    keys: list[str] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)

    def look(self, key: str, body: bytes | None) -> None:
        """Look into an event, or into a message with several of them."""
        moments = [None] if body is None else list(moments_of(body))
        of_month = sum(
            moment is not None and self.month.start <= moment < self.month.end for moment in moments
        )
        self.calls += of_month
        if of_month:
            self.keys.append(key)
        if None in moments:
            self.unreadable.append(key)

    def reasons(self, place: str) -> Iterator[str]:
        """What is to be said of it."""
        if self.calls:
            calls = "1 call" if self.calls == 1 else f"{self.calls} calls"
            yield f"{place}: {calls} of {self.month.name}: {_named(self.keys)}"
        if self.unreadable:
            yield (
                f"{place}: {len(self.unreadable)} whose time cannot be read, possibly of "
                f"{self.month.name}: {_named(self.unreadable)}"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What was found, as reasons against closing the month, and how far the hub was read."""

    reasons: tuple[str, ...]
    watermark: Watermark


async def read_backlog(
    store: RowStore, hub: HubReader | str, month: Window, *, now: datetime
) -> Backlog:
    """Look for calls of the month. Raises StorageUnavailable.

    `hub` is why it cannot be asked, where that is so.
    """
    reasons = [*(await _in_outbox(store, month)).reasons("the outbox")]
    watermark: dict[str, object] = {"time": format_time(now), "hub": "", "partitions": {}}
    if isinstance(hub, str):
        reasons.append(f"the hub cannot be asked for unread events: {hub}")
    else:
        watermark["hub"] = hub.name
        try:
            partitions = await hub.partitions()
            positions = await read_positions(store, hub.name)
            watermark["partitions"] = {
                each.id: {
                    "number": each.last_number,
                    "enqueued_at": format_time(each.last_enqueued_at),
                }
                for each in partitions
            }
            for some in batched(partitions, PARTITIONS_AT_ONCE, strict=False):
                looks = (_unread(hub, each, positions.get(each.id), month) for each in some)
                for found in await asyncio.gather(*looks, return_exceptions=True):
                    if isinstance(found, BaseException):
                        raise found
                    reasons += found
        except HubUnavailable as exc:
            reasons.append(f"the hub cannot be asked for unread events: {exc}")
    reasons += (await _in_letters(store, month)).reasons("dead letters")
    return Backlog(reasons=tuple(reasons), watermark=watermark)


async def _in_outbox(store: RowStore, month: Window) -> Found:
    found = Found(month)
    rows = store.scan(OUTBOX_TABLE, first_partition=FIRST_KEY, last_partition=LAST_KEY)
    async for hour, row in rows:
        event = row.columns.get("Event")
        found.look(f"{hour}/{row.key}", event.encode() if isinstance(event, str) else None)
    return found


async def _in_letters(store: RowStore, month: Window) -> Found:
    found = Found(month)
    async for letter in read_letters(store):
        found.look(letter.key, letter.body)
    return found


async def _unread(
    hub: HubReader, partition: HubPartition, position: Position | None, month: Window
) -> list[str]:
    """Reasons of one hub partition."""
    place, reasons = f"hub partition {partition.id}", list[str]()
    first, last = first_unread(partition, position), partition.last_number
    if first > last:
        return []
    if first < partition.first_number or partition.is_empty:
        gone = last if partition.is_empty else partition.first_number - 1
        reasons.append(
            f"{place}: events {first} to {gone} were dropped unread: recover them from Capture"
        )
        first = gone + 1
    if last - first >= MOST_READ:
        text = f"{last - first + 1} unread events: wait until the aggregator has caught up"
        return [*reasons, f"{place}: {text}"]
    found, number = Found(month), first
    if first <= last:
        async for body in hub.read(partition.id, first=first, last=last):
            found.look(str(number), body)
            number += 1
    return [*reasons, *found.reasons(f"{place}, unread")]


def first_unread(partition: HubPartition, position: Position | None) -> int:
    """The number of the first event that the aggregator has not counted."""
    if position is None:
        # The aggregator never saw it: what there was before is not known to be lost.
        return partition.last_number + 1 if partition.is_empty else partition.first_number
    latest = Position(number=partition.last_number, enqueued_at=partition.last_enqueued_at)
    if partition.last_number <= position.number and position.is_before(latest):
        return partition.first_number  # the hub was made anew
    return position.number + 1


def moments_of(body: bytes) -> Iterator[datetime | None]:
    """When the calls of a message's events ended; None for each that does not say."""
    try:
        # No number is looked at, however long.
        document = json.loads(body.decode(), parse_int=len)
    except (ValueError, RecursionError):
        document = None
    for each in document if isinstance(document, list) and document else [document]:
        yield _moment(each.get("time")) if isinstance(each, dict) else None


def _moment(text: object) -> datetime | None:
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None
    return moment if moment is not None and moment.tzinfo is not None else None


def _named(keys: Sequence[str]) -> str:
    more = f" and {len(keys) - MOST_NAMED} more" if len(keys) > MOST_NAMED else ""
    return ", ".join(keys[:MOST_NAMED]) + more
