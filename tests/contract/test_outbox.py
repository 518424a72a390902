"""The outbox on the fake and on Azurite: events that the hub refused are sent later, in order."""

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from copy import replace
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, cast

import pytest
from azure.data.tables.aio import TableServiceClient

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog, Conflict, Row, RowStore, Written
from meter.publishing.outbox import OUTBOX_TABLE, TableOutbox
from meter.usage import encode_event, new_event_id
from meter.wiring.counting import build_aggregator
from tests.fakes.gateway import FakeClock
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW, RETENTION, raw_message, usage_event

EVERYTHING = {"first_partition": "", "last_partition": "~"}


@pytest.fixture(params=["fake", "azurite"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[RowStore]:
    if request.param == "fake":
        yield MemoryRowStore()
        return
    service = TableServiceClient.from_connection_string(
        request.getfixturevalue("azurite"), **CLIENT_OPTIONS
    )
    store = TablesRowStore(service)
    yield store
    await store.drop(OUTBOX_TABLE)
    await store.close()


@pytest.fixture
def outbox(store: RowStore) -> TableOutbox:
    return TableOutbox(store, FakeClock())


@dataclass
class FakeHub:
    """Accepts events up to a limit; `took` are the numbers of the accepted ones."""

    accepts: int = 1_000_000
    took: list[tuple[str, bytes]] = field(default_factory=list)

    async def send(self, subject: str, events: Sequence[bytes]) -> None:
        if len(self.took) >= self.accepts:
            raise PublishFailed("the hub is full")
        self.took += [(subject, event) for event in events]

    @property
    def subjects(self) -> list[str]:
        return [subject for subject, _ in self.took]


async def kept(store: RowStore) -> list[tuple[str, Row]]:
    return [row async for row in store.scan(OUTBOX_TABLE, first_partition="", last_partition="~")]


async def test_an_empty_outbox_sends_nothing(outbox: TableOutbox) -> None:
    """Its table need not exist."""
    hub = FakeHub()
    sent = await outbox.republish(hub)

    assert (sent, hub.took) == (0, [])


async def test_an_event_is_kept_whole_under_its_id(store: RowStore, outbox: TableOutbox) -> None:
    """Partition is the hour the call ended; the columns are those operators read."""
    event = usage_event(1, subject="zoë|😀")
    await outbox.keep([event])

    ((partition, row),) = await kept(store)
    assert (partition, row.key) == ("2026-11-23T07", str(event.id))
    assert row.columns == {"Subject": "zoë|😀", "Event": encode_event(event).decode()}


async def test_keeping_an_event_twice_keeps_it_once(store: RowStore, outbox: TableOutbox) -> None:
    """A repeated attempt is no error."""
    await outbox.keep([usage_event(1)])
    await outbox.keep([usage_event(1), usage_event(2)])

    assert len(await kept(store)) == 2


async def test_events_are_sent_byte_for_byte_with_the_oldest_first(
    store: RowStore, outbox: TableOutbox
) -> None:
    """Each is sent under its own subject, so to its hub partition, and then deleted."""
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
    store: RowStore, outbox: TableOutbox
) -> None:
    """Accepted events are deleted, refused ones are kept, and the next run continues there."""
    await outbox.keep([usage_event(n, subject=f"s{n}") for n in range(5)])
    first, second = FakeHub(accepts=2), FakeHub()
    sent = [await outbox.republish(first), await outbox.republish(second)]

    assert sent == [2, 3]
    assert (first.subjects, second.subjects) == (["s0", "s1"], ["s2", "s3", "s4"])
    assert await outbox.republish(second) == 0


async def test_a_row_that_another_run_has_deleted_is_no_error(
    store: RowStore, outbox: TableOutbox
) -> None:
    """Concurrent runs may send an event twice; the ledger drops the duplicate."""
    await outbox.keep([usage_event(1), usage_event(2)])

    class Rival(FakeHub):
        async def send(self, subject: str, events: Sequence[bytes]) -> None:
            await super().send(subject, events)
            for hour, row in await kept(store):
                await store.write(OUTBOX_TABLE, hour, insert=[], update=[], delete=[row])

    sent = await outbox.republish(Rival())

    assert sent == 2
    assert await kept(store) == []


async def test_more_events_than_a_page_holds_are_all_sent(
    store: RowStore, outbox: TableOutbox
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


async def test_two_hundred_events_of_an_hour_are_kept_by_two_writes(
    store: RowStore, outbox: TableOutbox
) -> None:
    """While the hub is down, as many events as a transaction holds share one write."""
    events = [usage_event(n) for n in range(200)]
    counting = Counting(store)
    await TableOutbox(cast(RowStore, counting), FakeClock()).keep(events)

    assert [len(rows) for rows in counting.writes] == [100, 100]
    assert {row.key for _, row in await kept(store)} == {str(event.id) for event in events}


@dataclass
class Counting:
    """Remembers the rows of each write."""

    store: RowStore
    writes: list[Sequence[Row]] = field(default_factory=list)

    def scan(self, table: str, **options: Any) -> AsyncIterator[tuple[str, Row]]:
        return self.store.scan(table, **options)

    async def write(
        self,
        table: str,
        partition: str,
        *,
        insert: Sequence[Row] = (),
        update: Sequence[Row] = (),
        delete: Sequence[Row] = (),
    ) -> Written | Conflict:
        self.writes.append([*insert, *delete])
        return await self.store.write(table, partition, insert=insert, update=update, delete=delete)


async def test_two_hundred_events_of_an_hour_are_deleted_by_two_writes(
    store: RowStore, outbox: TableOutbox
) -> None:
    """Whatever their subjects: a request per row would take longer than sending them."""
    await outbox.keep([usage_event(n, subject=f"s{n % 7}") for n in range(200)])
    counting = Counting(store)
    sent = await TableOutbox(cast(RowStore, counting), FakeClock()).republish(FakeHub())

    assert (sent, [len(rows) for rows in counting.writes]) == (200, [100, 100])
    assert await kept(store) == []


async def test_a_row_that_is_gone_does_not_keep_the_others_of_its_transaction(
    store: RowStore, outbox: TableOutbox
) -> None:
    """A transaction with a missing row changes nothing, so its rows are then deleted singly."""
    await outbox.keep([usage_event(n) for n in range(3)])

    class Rival(FakeHub):
        async def send(self, subject: str, events: Sequence[bytes]) -> None:
            await super().send(subject, events)
            _, (hour, row), _ = await kept(store)
            await store.write(OUTBOX_TABLE, hour, insert=[], update=[], delete=[row])

    counting = Counting(store)
    sent = await TableOutbox(cast(RowStore, counting), FakeClock()).republish(Rival())

    assert (sent, [len(rows) for rows in counting.writes]) == (3, [3, 1, 1, 1])
    assert await kept(store) == []


async def test_large_events_are_kept_too(store: RowStore, outbox: TableOutbox) -> None:
    """A transaction holds 4 MiB: a hundred of the longest events are more than one write."""
    raw = {"words": '"' * 15_000}
    events = [usage_event(n, usage_raw=raw) for n in range(100)]
    await outbox.keep(events)

    assert len(await kept(store)) == 100
    assert len(encode_event(events[0])) > 30_000


async def test_events_of_one_subject_are_sent_in_order_together(
    store: RowStore, outbox: TableOutbox
) -> None:
    """One send after the other, so that none overtakes when the hub refuses in between."""
    await outbox.keep([usage_event(n, subject=f"s{n % 2}") for n in range(150)])
    hub = FakeHub()
    await outbox.republish(hub)

    of_one = [json.loads(event)["id"] for subject, event in hub.took if subject == "s1"]
    assert of_one == sorted(of_one)
    assert len(of_one) == 75


@dataclass
class Dying:
    """A store whose process is killed at its `after`-th delete."""

    store: RowStore
    after: int

    def scan(self, table: str, **options: Any) -> AsyncIterator[tuple[str, Row]]:
        return self.store.scan(table, **options)

    async def write(self, table: str, partition: str, **rows: Any) -> Written | Conflict:
        self.after -= 1
        if self.after < 0:
            raise Killed
        return await self.store.write(table, partition, **rows)


class Killed(Exception):
    """Ends a run at any point."""


@pytest.mark.parametrize("after", [0, 1, 4])
async def test_a_run_that_is_killed_before_its_deletes_doubles_events_that_count_once(
    store: RowStore, outbox: TableOutbox, after: int
) -> None:
    """Acknowledged and not deleted: the next run sends it again, and the ledger drops the repeat."""
    hours = [NOW - timedelta(hours=n) for n in range(5)]  # a transaction for each
    await outbox.keep([usage_event(n, subject="alice", time=t) for n, t in enumerate(hours)])
    hub = FakeHub()
    dying = TableOutbox(cast(RowStore, Dying(store, after)), FakeClock())
    with pytest.raises(Killed):
        await dying.republish(hub)
    again = await outbox.republish(hub)

    rows = MemoryRowStore()
    aggregator = replace(build_aggregator(rows, RETENTION), clock=FakeClock(moment=NOW))
    await aggregator.handle([raw_message(event) for _, event in hub.took])
    sums = [row async for _, row in rows.scan("UsageByMonth", **EVERYTHING)]
    assert (again, len(hub.took)) == (5 - after, 10 - after)
    assert [row.columns["Calls"] for row in sums] == [5]
    assert await kept(store) == []


async def test_two_runs_at_once_are_harmless(store: RowStore, outbox: TableOutbox) -> None:
    """Each event is sent once or twice, none remains, and neither run fails."""
    await outbox.keep([usage_event(n, subject=f"s{n % 7}") for n in range(120)])
    hub = FakeHub()
    await asyncio.gather(outbox.republish(hub), outbox.republish(hub))

    ids = [json.loads(event)["id"] for _, event in hub.took]
    assert set(ids) == {str(usage_event(n).id) for n in range(120)}
    assert max(ids.count(each) for each in ids) <= 2
    assert await kept(store) == []


async def test_a_row_that_is_no_event_does_not_stop_the_others(
    store: RowStore, outbox: TableOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """A foreign row stays, with a line in the log."""
    foreign = Row(key="0", columns={"Note": "mine"})
    await store.write(OUTBOX_TABLE, "2026-11-23T07", insert=[foreign], update=[])
    await outbox.keep([usage_event(1)])
    hub = FakeHub()
    sent = await outbox.republish(hub)

    assert (sent, hub.subjects) == (1, ["alice"])
    assert [row.key for _, row in await kept(store)] == ["0"]
    assert "outbox_row_unreadable partition=2026-11-23T07 row=0" in caplog.messages


async def test_the_backlog_has_how_many_wait_and_how_old_the_oldest_is(
    store: RowStore,
) -> None:
    """The age comes from the ids, which hold the time at which the call began."""
    clock = FakeClock()
    outbox = TableOutbox(store, clock)
    empty = await outbox.backlog()
    begun = [clock.now() - timedelta(minutes=minutes) for minutes in (90, 5, 1)]
    ids = [new_event_id(moment, bytes(10)) for moment in begun]
    await outbox.keep(
        [replace(usage_event(1), id=i, time=t) for i, t in zip(ids, begun, strict=True)]
    )

    assert empty == Backlog(events=0, oldest_seconds=0)
    assert await outbox.backlog() == Backlog(events=3, oldest_seconds=5400)


async def test_the_backlog_costs_no_more_than_a_thousand_rows(store: RowStore) -> None:
    """`/readyz` is public."""
    rows = [Row(key=f"{n:04}", columns={"Subject": "s", "Event": "{}"}) for n in range(1100)]
    for first in range(0, 1100, 100):
        await store.write(
            OUTBOX_TABLE, "2026-11-23T07", insert=rows[first : first + 100], update=[]
        )

    assert (await TableOutbox(store, FakeClock()).backlog()).events == 1000


async def test_an_event_that_cannot_be_kept_is_refused() -> None:
    """When storage is down, the sink logs the event in full, so that it is not lost silently."""
    service = TableServiceClient.from_connection_string(
        "DefaultEndpointsProtocol=http;AccountName=a;AccountKey=YQ==;"
        "TableEndpoint=http://127.0.0.1:9/a;",
        **{**CLIENT_OPTIONS, "retry_total": 0},
    )
    store = TablesRowStore(service)

    with pytest.raises(StorageUnavailable):
        await TableOutbox(store, FakeClock()).keep([usage_event(1)])
    await store.close()
