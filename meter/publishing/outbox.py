"""`meter.ports.Outbox` in tables: keeps events that the hub did not acknowledge, until it does.

Table `Outbox`, partition the hour the call ended, row key the event id (ids sort by time), columns
Subject and Event (the encoded CloudEvent). Rows are deleted after the hub has acknowledged them. A
crash in between publishes them again, and the ledger drops the duplicates.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from operator import itemgetter
from uuid import UUID

from msgspec import Struct

from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import (
    MAX_SEND_BYTES,
    MAX_TRANSACTION_ROWS,
    Backlog,
    Clock,
    Conflict,
    Hub,
    Row,
    RowStore,
    Written,
)
from meter.usage import UsageEvent, encode_event
from meter.window import Period, window_of

OUTBOX_TABLE = "Outbox"
ROWS_AT_ONCE = 200
# JSON escapes the quotes again, and a body over 1 MB blocks the loop.
MAX_TRANSACTION_BYTES = 400_000
MAX_COUNTED = 1_000
_EVERY_HOUR: Mapping[str, str] = {"first_partition": "0", "last_partition": "9999"}

log = logging.getLogger(__name__)


class _Kept(Struct, frozen=True):
    """A readable row of the outbox."""

    hour: str
    row: Row
    subject: str
    event: bytes


class TableOutbox:
    """Keeps events and publishes them again. Any number may work on one table at once."""

    def __init__(self, store: RowStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        """Store the events; one that is there already stays. Raises StorageUnavailable."""
        await _write(map(_row_of, events), self._insert)

    async def backlog(self) -> Backlog:
        """What waits, counted up to `MAX_COUNTED`. Raises StorageUnavailable."""
        count, oldest = 0, None
        async for _, row in self._store.scan(OUTBOX_TABLE, **_EVERY_HOUR, columns=()):
            count += 1
            oldest = oldest or row.key
            if count == MAX_COUNTED:
                break
        return Backlog(events=count, oldest_seconds=self._age_seconds(oldest))

    async def republish(self, hub: Hub) -> int:
        """Send what is kept, oldest first, until all is sent or the hub refuses; return how many.

        The events of one subject are sent in order. Raises StorageUnavailable.
        """
        sent = 0
        rows: list[_Kept] = []
        async for hour, row in self._store.scan(OUTBOX_TABLE, **_EVERY_HOUR):
            kept = _readable(hour, row)
            if kept is None:
                log.error("outbox_row_unreadable partition=%s row=%s", hour, row.key)
                continue
            rows.append(kept)
            if len(rows) == ROWS_AT_ONCE:
                published = await self._republish(hub, rows)
                sent += published
                if published < len(rows):
                    return sent
                rows = []
        return sent + await self._republish(hub, rows)

    async def _insert(self, hour: str, rows: Sequence[Row]) -> Written | Conflict:
        result = await self._store.write(OUTBOX_TABLE, hour, insert=rows)
        if isinstance(result, Conflict) and not result.exists and len(rows) == 1:
            raise StorageUnavailable(f"{OUTBOX_TABLE}: a conflict, and the row is not there")
        return result

    def _age_seconds(self, key: str | None) -> float:
        if key is None:
            return 0.0
        try:
            milliseconds = UUID(key).int >> 80  # RFC 9562, section 5.7
        except ValueError:
            return 0.0
        return max(0.0, self._clock.now().timestamp() - milliseconds / 1000)

    async def _republish(self, hub: Hub, rows: Sequence[_Kept]) -> int:
        """Send the rows' events and delete those that the hub took; how many they were."""
        by_subject: dict[str, list[_Kept]] = {}
        for row in rows:
            by_subject.setdefault(row.subject, []).append(row)
        sends = (_send_in_order(hub, of_subject) for of_subject in by_subject.values())
        sent = [kept for part in await asyncio.gather(*sends) for kept in part]
        await _write(
            ((kept.hour, kept.row) for kept in sent),
            lambda hour, rows: self._store.write(OUTBOX_TABLE, hour, delete=rows),
        )
        return len(sent)


async def _send_in_order(hub: Hub, rows: Sequence[_Kept]) -> Sequence[_Kept]:
    """Send one subject's events one group after the other; the rows of those that the hub took."""
    sent = 0
    sizes = [len(row.event) for row in rows]
    for group in _split(rows, sizes, most=ROWS_AT_ONCE, most_bytes=MAX_SEND_BYTES // 2):
        try:
            await hub.send(group[0].subject, [row.event for row in group])
        except PublishFailed as exc:
            log.warning("outbox_publish_failed reason=%s", exc)
            break
        sent += len(group)
    return rows[:sent]


async def _write(
    rows: Iterable[tuple[str, Row]],
    write: Callable[[str, Sequence[Row]], Awaitable[Written | Conflict]],
) -> None:
    """Write the rows of each hour together. Another run may have written some of them already."""
    for hour, of_hour in groupby(sorted(rows, key=itemgetter(0)), key=itemgetter(0)):
        in_hour = [row for _, row in of_hour]
        sizes = [len(str(row.columns["Event"])) for row in in_hour]
        for group in _split(
            in_hour, sizes, most=MAX_TRANSACTION_ROWS, most_bytes=MAX_TRANSACTION_BYTES
        ):
            if isinstance(await write(hour, group), Conflict) and len(group) > 1:
                # One of the rows is there, or gone, already, and none of the group was written.
                for row in group:
                    await write(hour, [row])


def _row_of(event: UsageEvent) -> tuple[str, Row]:
    columns = {"Subject": event.subject, "Event": encode_event(event).decode()}
    return window_of(event.time, Period.HOUR).name, Row(key=str(event.id), columns=columns)


def _readable(hour: str, row: Row) -> _Kept | None:
    subject, event = row.columns.get("Subject"), row.columns.get("Event")
    if isinstance(subject, str) and isinstance(event, str):
        return _Kept(hour, row, subject, event.encode())
    return None


def _split[T](
    items: Sequence[T], sizes: Sequence[int], *, most: int, most_bytes: int
) -> Iterator[list[T]]:
    group: list[T] = []
    group_bytes = 0
    for item, size in zip(items, sizes, strict=True):
        if group and (len(group) == most or group_bytes + size > most_bytes):
            yield group
            group, group_bytes = [], 0
        group.append(item)
        group_bytes += size
    if group:
        yield group
