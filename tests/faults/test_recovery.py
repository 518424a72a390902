"""The procedures of docs/recovery.md, with a real hub and real tables as far as a machine has them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import replace
from datetime import timedelta
from pathlib import Path

import pytest
from azure.data.tables import TableServiceClient
from azure.eventhub import EventData, EventHubProducerClient

from local.plan import HUB_NAME
from meter.adapters.clock import SystemClock
from meter.upkeep.rebuild import Rebuild, Summary
from meter.usage import UsageEvent, encode_event
from meter.window import Window
from tests.faults.books import assert_counted_once, read_books
from tests.faults.delivery import StoragePath, path_to
from tests.faults.hub import HubProcess, hub_connection_string, read_hub, running_hub
from tests.support.events import NOW, message, usage_event

LEDGER = "Ledger202611"
MONTH = Window("2026-11")
# The SDK does not close connections that break while it opens them.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def empty(azurite: str) -> None:
    with TableServiceClient.from_connection_string(azurite) as service:
        for table in service.list_tables():
            service.delete_table(table.name)


def calls(first: int, last: int) -> list[UsageEvent]:
    """Calls of two subjects, a second apart."""
    return [
        usage_event(number, subject=f"s{number % 2}", time=NOW - timedelta(seconds=number))
        for number in range(first, last)
    ]


def publish(hub: HubProcess, bodies: Sequence[bytes]) -> None:
    text = hub_connection_string(hub.port)
    with EventHubProducerClient.from_connection_string(text, eventhub_name=HUB_NAME) as producer:
        for body in bodies:
            producer.send_batch([EventData(body)], partition_id="0")


def encoded(events: Sequence[UsageEvent]) -> list[bytes]:
    return [encode_event(event) for event in events]


@contextmanager
def ledger_kept(azurite: str) -> Iterator[None]:
    """The ledger goes back at the end to what it was at the beginning; its views do not."""
    with TableServiceClient.from_connection_string(azurite) as service:
        table = service.get_table_client(LEDGER)
        older = list(table.list_entities())
        yield
        for row in table.list_entities():
            table.delete_entity(row["PartitionKey"], row["RowKey"])
        for row in older:
            table.create_entity(row)


async def rebuild(path: StoragePath) -> Summary:
    async with path.aggregator() as aggregator:
        store = aggregator.store
        tables = store
        rebuilding = Rebuild(
            store=store,
            tables=tables,  # type: ignore[arg-type]  # the adapter is both
            clock=SystemClock(),
            month=MONTH,
        )
        return await rebuilding.run(lambda _: None)


async def test_after_a_storage_failover_the_hub_is_read_again(azurite: str, tmp_path: Path) -> None:
    """The ledger is older than the views: nothing is taken from them until its calls are back."""
    with running_hub(tmp_path) as hub:
        publish(hub, encoded(calls(0, 20)))
        first, again = await read_hub(hub.port), await read_hub(hub.port)
    async with path_to(azurite) as path:
        async with path.aggregator() as aggregator:
            await aggregator.handle(first[:10])
            with ledger_kept(azurite):
                await aggregator.handle(first[10:])
        too_early = await rebuild(path)
        async with path.aggregator() as restarted:
            report = await restarted.handle(again)
            rebuilt = await rebuild(path)
            await restarted.handle([message(*calls(20, 25), sequence_number=20)])

    assert (too_early.is_sound, too_early.kept > 0) == (False, True)
    assert (report.new_calls, report.repeated_calls) == (10, 10)
    assert rebuilt.is_sound
    assert_counted_once(read_books(azurite), calls(0, 25))


async def test_a_hub_made_again_numbers_from_0_and_nothing_collides(
    azurite: str, tmp_path: Path
) -> None:
    """Its events count, and a dead letter of an old number is another letter."""
    async with path_to(azurite) as path, path.aggregator() as aggregator:
        for name, events in (("old", calls(0, 5)), ("new", calls(5, 10))):
            with running_hub(tmp_path / name) as hub:
                publish(hub, [f"no JSON {name}".encode(), *encoded(events)])
                messages = await read_hub(hub.port)
            assert [each.sequence_number for each in messages] == list(range(6))
            await aggregator.handle([replace(each, enqueued_at=NOW) for each in messages])

    books = read_books(azurite)
    assert_counted_once(replace(books, dead_letters=()), calls(0, 10))
    assert sorted(row["Body"] for row in books.dead_letters) == ["no JSON new", "no JSON old"]
