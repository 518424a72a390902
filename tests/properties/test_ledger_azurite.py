"""The ledger on Azurite: through redelivery, cuts and races, the stored sums equal the events'."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count as count_up
from urllib.parse import urlsplit

from azure.data.tables.aio import TableServiceClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import StorageUnavailable
from meter.ledger.commit import Committer
from meter.ledger.fold import Sums, fold
from meter.ledger.keys import ledger_partition
from meter.ledger.marks import Marks
from meter.ledger.rows import SumRow, read_sums
from meter.ledger.views.shards import Shards
from meter.ledger.views.view import ViewWriter
from meter.usage import TokenUsage, UsageEvent
from meter.window import Window
from tests.fakes.gateway import FakeClock
from tests.support.events import usage_event
from tests.support.ledger import new_writer

END = datetime(2026, 11, 23, 8, 30, tzinfo=UTC)
MONTH = Window("2026-11")
DIMENSION_COLUMNS = ("ClientApp", "Deployment", "Model", "Backend", "Tier", "Context")
VIEWS = ("UsageByHour", "UsageByDay", "UsageByMonth")


@dataclass(slots=True)
class CuttingProxy:
    """Between the SDK and Azurite: lets requests through and cuts the connection before the answer."""

    target_port: int
    cuts: list[bool] = field(default_factory=list)
    port: int = 0
    _server: asyncio.Server | None = None
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def _serve(self, down: asyncio.StreamReader, answer: asyncio.StreamWriter) -> None:
        up, request = await asyncio.open_connection("127.0.0.1", self.target_port)
        self._writers += [answer, request]
        try:
            await asyncio.gather(self._copy(down, request), self._answer(up, answer))
        except ConnectionError:
            pass
        finally:
            answer.close()
            request.close()

    async def _copy(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            sink.write(data)
            await sink.drain()
        sink.close()

    async def _answer(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
        while data := await source.read(65_536):
            if self.cuts and self.cuts.pop(0):
                raise ConnectionAbortedError
            sink.write(data)
            await sink.drain()
        sink.close()


def event_of(number: int, subject: str) -> UsageEvent:
    return usage_event(
        number,
        subject=subject,
        time=END + timedelta(minutes=number % 3 * 20),
        deployment=f"d{number % 2}",
        usage=TokenUsage(prompt_tokens=2**31 + number, total_tokens=2**31 + number),
    )


def new_store(connection_string: str, **options: object) -> TablesRowStore:
    merged = {**CLIENT_OPTIONS, **options}
    service = TableServiceClient.from_connection_string(connection_string, **merged)
    return TablesRowStore(service, sends_directly=True)


async def count(store: TablesRowStore, subject: str, batch: list[UsageEvent]) -> None:
    clock = FakeClock()
    sums: list[SumRow] = []
    committer = Committer(store, Marks(store, clock, new_writer()), sums.extend)
    counted = await committer.commit(ledger_partition(subject), MONTH, batch)
    latest = {row.key: row for row in sorted(sums, key=lambda row: row.revision)}
    await ViewWriter(store, Shards(store, clock)).write(latest.values())
    for failure in counted.failed.values():
        raise failure


async def shown(store: TablesRowStore, subject: str) -> dict[tuple[str, ...], Sums]:
    found = {}
    for table in VIEWS:
        async for window, row in store.scan(table, first_partition="", last_partition="~"):
            if row.columns["Subject"] == subject:
                names = (str(row.columns[name]) for name in DIMENSION_COLUMNS)
                found[window, *names] = read_sums(row.columns)
    return found


def expected(events: list[UsageEvent]) -> dict[tuple[str, ...], Sums]:
    return {
        (key.window.name, *key.dimensions[1:]): sums
        for key, sums in fold("s", {event.id: event for event in events}.values()).items()
    }


BATCHES = st.lists(st.lists(st.integers(0, 12), min_size=1, max_size=6), min_size=1, max_size=4)
EXAMPLES = count_up()  # each example has a subject of its own, since all share one store


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(batches=BATCHES)
async def test_batches_at_once_and_again_add_up(azurite: str, batches: list[list[int]]) -> None:
    """Several processes count overlapping batches concurrently, then all batches once more."""
    store, subject = new_store(azurite), f"zoë|{next(EXAMPLES)}"
    parts = [[event_of(number, subject) for number in batch] for batch in batches]
    await asyncio.gather(*(count(store, subject, part) for part in parts))
    for part in parts:
        await count(store, subject, part)
    found = await shown(store, subject)
    await store.close()

    assert found == expected([event for part in parts for event in part])


@settings(
    max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(cuts=st.lists(st.booleans(), max_size=12), retries=st.integers(0, 1))
async def test_answers_that_are_cut_off_are_not_counted_twice(
    azurite: str, cuts: list[bool], retries: int
) -> None:
    """The SDK or the hub retries a write that may have been applied; the markers decide."""
    address = next(p for p in azurite.split(";") if p.startswith("TableEndpoint=")).split("=")[1]
    proxy = CuttingProxy(target_port=urlsplit(address).port or 0, cuts=list(cuts))
    await proxy.start()
    store = new_store(
        azurite.replace(f":{proxy.target_port}", f":{proxy.port}"),
        retry_total=retries,
        retry_backoff_factor=0,
    )
    subject = f"zoë|{next(EXAMPLES)}"
    events = [event_of(number, subject) for number in range(5)]
    for _ in range(20):
        try:
            await count(store, subject, events)
            break
        except StorageUnavailable:
            continue
    found = await shown(store, subject)
    await store.close()
    await proxy.stop()

    assert found == expected(events)
