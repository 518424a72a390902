"""`meter.ports.Outbox` in Table Storage: events the hub did not take, until it does.

Table `Outbox`, partition the hour the call ended, row key the event id (ids sort by time), columns
Subject and Event (the encoded CloudEvent). Rows are deleted once the hub has acknowledged them; a
crash in between publishes them again, which the ledger drops.
"""

import logging
from collections.abc import Sequence

from meter.adapters.eventhub import Hub
from meter.adapters.tables import TablesRowStore
from meter.errors import PublishFailed
from meter.ports import Row
from meter.usage import UsageEvent, encode_event
from meter.window import Period, window_of

OUTBOX_TABLE = "Outbox"
MAX_A_RUN = 5_000

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
        async for partition, row in self._store.scan(
            OUTBOX_TABLE, first_partition="0", last_partition="9999"
        ):
            try:
                await hub.send(str(row.columns["Subject"]), str(row.columns["Event"]).encode())
            except PublishFailed as exc:
                log.warning("outbox_waits", extra={"reason": str(exc)})
                break
            await self._store.delete(OUTBOX_TABLE, partition, row.key)
            sent += 1
            if sent >= MAX_A_RUN:
                break
        return sent
