"""Aggregators on a storage that can be broken, and batches that are redelivered until they succeed."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from copy import replace
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import count
from urllib.parse import urlsplit

from azure.data.tables.aio import TableServiceClient

from local.faults import HttpFaultProxy
from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import StorageUnavailable
from meter.ledger.aggregator import Aggregator, BatchReport
from meter.ledger.decode import Message
from meter.wiring.counting import build_aggregator
from tests.support.events import NOW, RETENTION

RETRY_SECONDS = 0.2  # the trigger waits at least a second; the order of events is the same


@dataclass(frozen=True)
class Clock:
    """A clock a little later than every event."""

    def now(self) -> datetime:
        return NOW + timedelta(hours=2)

    def monotonic(self) -> float:
        return 0.0


@dataclass(frozen=True, slots=True)
class StoragePath:
    """A path to the storage that can be broken."""

    proxy: HttpFaultProxy
    connection_string: str

    @asynccontextmanager
    async def aggregator(self, **options: object) -> AsyncIterator[Aggregator]:
        """An aggregator as in a new process: nothing in memory."""
        # As in the app, except for the waits between the SDK's retries, which would take minutes here.
        merged = {**CLIENT_OPTIONS, "retry_backoff_factor": 0, **options}
        service = TableServiceClient.from_connection_string(self.connection_string, **merged)
        store = TablesRowStore(service, sends_directly=True)
        aggregator = replace(build_aggregator(store, RETENTION), clock=Clock())
        try:
            yield aggregator
        finally:
            await aggregator.showing.stop()
            await store.close()


@asynccontextmanager
async def path_to(azurite: str) -> AsyncIterator[StoragePath]:
    [endpoint] = [part for part in azurite.split(";") if part.startswith("TableEndpoint=")]
    target = urlsplit(endpoint.partition("=")[2]).port or 0
    proxy = HttpFaultProxy("127.0.0.1", target)
    port = await proxy.start()
    yield StoragePath(proxy, azurite.replace(f":{target}/", f":{port}/"))
    await proxy.stop()


async def deliver(
    aggregator: Aggregator, batch: Sequence[Message], *, then: Aggregator | None = None
) -> tuple[BatchReport, int]:
    """Deliver a batch until it succeeds, as the trigger does; redeliveries go to `then`."""
    for failures in count():
        try:
            return await (aggregator if failures == 0 else then or aggregator).handle(
                batch
            ), failures
        except StorageUnavailable:
            assert failures < 100, "the batch never succeeds"
            await asyncio.sleep(RETRY_SECONDS if failures > 3 else 0)
    raise AssertionError
