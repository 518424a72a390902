"""`meter.ports.Outbox` in Table Storage: events the hub did not take, until it does.

Table `Outbox`, partition the hour the call ended, row key the event id (ids sort by time), columns
Subject and Event (the encoded CloudEvent). Rows are deleted once the hub has acknowledged them; a
crash in between publishes them again, which the ledger drops.
"""

import asyncio
import logging
from collections.abc import Awaitable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from uuid import UUID

from meter.adapters.eventhub import MAX_SEND_BYTES, Hub
from meter.adapters.tables import TablesRowStore
from meter.errors import PublishFailed
from meter.ports import Clock, Conflict, Row
from meter.usage import UsageEvent, encode_event
from meter.window import Period, window_of

OUTBOX_TABLE = "Outbox"
ROWS_AT_ONCE = 200
MAX_ROWS_A_WRITE = 100  # of an entity-group transaction
MAX_BYTES_A_WRITE = 400_000  # JSON escapes the quotes again, and a body over 1 MB blocks the loop
MAX_COUNTED = 1_000
RECENT_SECONDS = 10.0
_EVERY_HOUR: Mapping[str, str] = {"first_partition": "0", "last_partition": "9999"}

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """What waits in the outbox: at most `MAX_COUNTED` are counted; the age is the oldest call's."""

    events: int
    oldest_seconds: float


@dataclass(frozen=True, slots=True)
class _Kept:
    """A row of the outbox."""

    hour: str
    key: str
    subject: str
    event: bytes


class TableOutbox:
    """Keeps events and publishes them again. Any number may work on one table at once."""

    def __init__(self, store: TablesRowStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._counting = asyncio.Lock()
        self._counted: Backlog | None = None
        self._counted_at = 0.0

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        """Store the events; one that is there already stays. Raises StorageUnavailable."""
        rows: dict[str, list[Row]] = {}
        for event in events:
            columns = {"Subject": event.subject, "Event": encode_event(event).decode()}
            hour = window_of(event.time, Period.HOUR).name
            rows.setdefault(hour, []).append(Row(key=str(event.id), columns=columns))
        for hour, of_hour in rows.items():
            for group in _writes(of_hour):
                await self._insert(hour, group)

    async def backlog(self) -> Backlog:
        """What waits. Raises StorageUnavailable."""
        count, oldest = 0, None
        rows = self._store.scan(OUTBOX_TABLE, **_EVERY_HOUR, columns=())
        async for _, row in rows:
            count += 1
            oldest = oldest or row.key
            if count == MAX_COUNTED:
                break
        return Backlog(events=count, oldest_seconds=self._age_seconds(oldest))

    async def recent_backlog(self) -> Backlog:
        """What waited at most `RECENT_SECONDS` ago, however often it is asked for.

        Raises StorageUnavailable.
        """
        async with self._counting:
            age = self._clock.monotonic() - self._counted_at
            if self._counted is None or age >= RECENT_SECONDS:
                self._counted = await self.backlog()
                self._counted_at = self._clock.monotonic()
            return self._counted

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

    async def _insert(self, hour: str, rows: Sequence[Row]) -> None:
        written = await self._store.write(OUTBOX_TABLE, hour, insert=rows, update=[])
        if isinstance(written, Conflict) and len(rows) > 1:
            # One of them is there already, and nothing of the transaction was applied.
            for row in rows:
                await self._store.write(OUTBOX_TABLE, hour, insert=[row], update=[])

    def _age_seconds(self, key: str | None) -> float:
        if key is None:
            return 0.0
        try:
            milliseconds = UUID(key).int >> 80  # RFC 9562, section 5.7
        except ValueError:
            return 0.0
        return max(0.0, self._clock.now().timestamp() - milliseconds / 1000)

    async def _republish(self, hub: Hub, rows: Sequence[_Kept]) -> int:
        by_subject: dict[str, list[_Kept]] = {}
        for row in rows:
            by_subject.setdefault(row.subject, []).append(row)
        return sum(await _all(self._republish_subject(hub, kept) for kept in by_subject.values()))

    async def _republish_subject(self, hub: Hub, rows: Sequence[_Kept]) -> int:
        """One send after the other, so that none overtakes; how many the hub took."""
        sent = 0
        for group in _sends(rows):
            try:
                await hub.send(group[0].subject, [row.event for row in group])
            except PublishFailed as exc:
                log.warning("outbox_waits reason=%s", exc)
                break
            await _all(self._store.delete(OUTBOX_TABLE, row.hour, row.key) for row in group)
            sent += len(group)
        return sent


async def _all[T](work: Iterable[Awaitable[T]]) -> list[T]:
    """Do all of it at once; raises the first error when nothing of it is still running."""
    results = await asyncio.gather(*work, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [result for result in results if not isinstance(result, BaseException)]


def _readable(hour: str, row: Row) -> _Kept | None:
    subject, event = row.columns.get("Subject"), row.columns.get("Event")
    if isinstance(subject, str) and isinstance(event, str):
        return _Kept(hour, row.key, subject, event.encode())
    return None


def _writes(rows: Sequence[Row]) -> Iterator[list[Row]]:
    """Split into what one transaction holds."""
    sizes = [len(str(row.columns["Event"])) for row in rows]
    return _split(rows, sizes, most=MAX_ROWS_A_WRITE, most_bytes=MAX_BYTES_A_WRITE)


def _sends(rows: Sequence[_Kept]) -> Iterator[list[_Kept]]:
    """Split into what one send holds."""
    sizes = [len(row.event) for row in rows]
    return _split(rows, sizes, most=ROWS_AT_ONCE, most_bytes=MAX_SEND_BYTES // 2)


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
