"""The outbox on Azurite: what the hub did not take is kept and sent later, in order, once or twice."""

import json
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
from azure.data.tables.aio import TableServiceClient

from meter.adapters.outbox import OUTBOX_TABLE, TableOutbox
from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Row
from meter.usage import encode_event
from tests.contract.test_row_store import running_azurite
from tests.factories import NOW, usage_event


@pytest.fixture(scope="module")
def azurite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_azurite(tmp_path_factory.mktemp("azurite")) as connection_string:
        yield connection_string


@pytest.fixture
async def store(azurite: str) -> AsyncIterator[TablesRowStore]:
    service = TableServiceClient.from_connection_string(azurite, **CLIENT_OPTIONS)
    store = TablesRowStore(service)
    yield store
    for partition, row in await kept(store):
        await store.delete(OUTBOX_TABLE, partition, row.key)
    await store.close()


@pytest.fixture
def outbox(store: TablesRowStore) -> TableOutbox:
    return TableOutbox(store)


@dataclass
class FakeHub:
    """Takes events until it has had enough; `took` are the numbers of those it took."""

    accepts: int = 1_000_000
    took: list[tuple[str, bytes]] = field(default_factory=list)

    async def send(self, subject: str, encoded_event: bytes) -> None:
        if len(self.took) >= self.accepts:
            raise PublishFailed("the hub is full")
        self.took.append((subject, encoded_event))

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.took]


async def kept(store: TablesRowStore) -> list[tuple[str, Row]]:
    return [row async for row in store.scan(OUTBOX_TABLE, first_partition="", last_partition="~")]


async def test_an_empty_outbox_sends_nothing(outbox: TableOutbox) -> None:
    """Its table need not be there."""
    hub = FakeHub()
    sent = await outbox.republish(hub)

    assert (sent, hub.took) == (0, [])


async def test_an_event_is_kept_whole_under_its_id(
    store: TablesRowStore, outbox: TableOutbox
) -> None:
    """Partition is the hour the call ended; the columns are those operators read."""
    event = usage_event(1, subject="zoë|😀")
    await outbox.keep([event])

    ((partition, row),) = await kept(store)
    assert (partition, row.key) == ("2026-11-23T07", str(event.id))
    assert row.columns == {"Subject": "zoë|😀", "Event": encode_event(event).decode()}


async def test_keeping_an_event_twice_keeps_it_once(
    store: TablesRowStore, outbox: TableOutbox
) -> None:
    """A repeated attempt is no error."""
    await outbox.keep([usage_event(1)])
    await outbox.keep([usage_event(1), usage_event(2)])

    assert len(await kept(store)) == 2


async def test_events_are_sent_byte_for_byte_with_the_oldest_first(
    store: TablesRowStore, outbox: TableOutbox
) -> None:
    """Under their own subjects, so that each goes to its hub partition; then they are gone."""
    oldest = usage_event(3, subject="oldest", time=NOW - timedelta(hours=2))
    events = [usage_event(2, subject="newest"), usage_event(1, subject="older"), oldest]
    await outbox.keep(events)
    hub = FakeHub()
    sent = await outbox.republish(hub)

    assert sent == 3
    assert hub.subjects == ["oldest", "older", "newest"]
    assert hub.took[0] == ("oldest", encode_event(oldest))
    assert await kept(store) == []


async def test_a_hub_that_refuses_midway_leaves_the_rest_for_the_next_run(
    store: TablesRowStore, outbox: TableOutbox
) -> None:
    """What it took is gone, what it refused is kept, and the next run goes on from there."""
    await outbox.keep([usage_event(n, subject=f"s{n}") for n in range(5)])
    first, second = FakeHub(accepts=2), FakeHub()
    sent = [await outbox.republish(first), await outbox.republish(second)]

    assert sent == [2, 3]
    assert (first.subjects, second.subjects) == (["s0", "s1"], ["s2", "s3", "s4"])
    assert await outbox.republish(second) == 0


async def test_a_row_that_another_run_has_deleted_is_no_error(
    store: TablesRowStore, outbox: TableOutbox
) -> None:
    """Two runs at once may send an event twice, which the ledger drops."""
    await outbox.keep([usage_event(1), usage_event(2)])

    class Rival(FakeHub):
        async def send(self, subject: str, encoded_event: bytes) -> None:
            await super().send(subject, encoded_event)
            place = json.loads(encoded_event)["id"]
            await store.delete(OUTBOX_TABLE, "2026-11-23T07", place)

    sent = await outbox.republish(Rival())

    assert sent == 2
    assert await kept(store) == []


async def test_more_events_than_a_page_holds_are_all_sent(
    store: TablesRowStore, outbox: TableOutbox
) -> None:
    """Rows are deleted while the next page is read; none is skipped."""
    for hour in range(11):
        events = [usage_event(n, time=NOW - timedelta(hours=hour)) for n in range(100)]
        rows = [Row(key=str(e.id), columns={"Subject": "s", "Event": "{}"}) for e in events]
        await store.write(OUTBOX_TABLE, f"2026-11-23T{hour:02}", insert=rows, update=[])
    hub = FakeHub()
    sent = await outbox.republish(hub)

    assert sent == 1100
    assert await kept(store) == []


async def test_an_event_that_cannot_be_kept_is_refused() -> None:
    """Storage is down; the sink then logs the event in full, so that it is not lost unseen."""
    service = TableServiceClient.from_connection_string(
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;"
        "TableEndpoint=http://127.0.0.1:9/a;",
        **{**CLIENT_OPTIONS, "retry_total": 0},
    )
    store = TablesRowStore(service)

    with pytest.raises(StorageUnavailable):
        await TableOutbox(store).keep([usage_event(1)])
    await store.close()
