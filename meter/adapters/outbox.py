"""`meter.ports.Outbox` in Table Storage: events the hub did not take, until it does.

Table `Outbox`, partition the hour the call ended, row key the event id (ids sort by time), columns
Subject and Event (the encoded CloudEvent). Rows are deleted once the hub has acknowledged them; a
crash in between publishes them again, which the ledger drops.
"""

import asyncio
import logging
from collections.abc import Sequence

from meter.adapters.eventhub import Hub
from meter.adapters.tables import TablesRowStore
from meter.errors import PublishFailed
from meter.ports import Row
from meter.usage import UsageEvent, encode_event
from meter.window import Period, window_of

OUTBOX_TABLE = "Outbox"
ROWS_AT_ONCE = 200

log = logging.getLogger(__name__)


class TableOutbox:
    """Keeps events and publishes them again."""

    def __init__(self, store: TablesRowStore) -> None:
        self._store = store

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        """Store the events; one that is there already stays. Raises StorageUnavailable."""
        for event in events:
            hour = window_of(event.time, Period.HOUR)
            columns = {"Subject": event.subject, "Event": encode_event(event).decode()}
            row = Row(key=str(event.id), columns=columns)
            await self._store.write(OUTBOX_TABLE, hour.name, insert=[row], update=[])

    async def republish(self, hub: Hub) -> int:
        """Send what is kept, oldest first, until all is sent or the hub refuses; return how many."""
        sent = 0
        rows: list[tuple[str, Row]] = []
        async for kept in self._store.scan(
            OUTBOX_TABLE, first_partition="0", last_partition="9999"
        ):
            rows.append(kept)
            if len(rows) == ROWS_AT_ONCE:
                published = await self._republish(hub, rows)
                sent += published
                if published < len(rows):
                    return sent
                rows = []
        return sent + await self._republish(hub, rows)

    async def _republish(self, hub: Hub, rows: Sequence[tuple[str, Row]]) -> int:
        results = await asyncio.gather(
            *(
                hub.send(str(row.columns["Subject"]), str(row.columns["Event"]).encode())
                for _, row in rows
            ),
            return_exceptions=True,
        )
        published = [kept for kept, error in zip(rows, results, strict=True) if error is None]
        await asyncio.gather(
            *(self._store.delete(OUTBOX_TABLE, hour, row.key) for hour, row in published)
        )
        for error in results:
            if isinstance(error, PublishFailed):
                log.warning("outbox_waits reason=%s", error)
                break
            if error is not None:
                raise error
        return len(published)
