"""Event Hubs that disconnects, is busy, frozen, gone or killed: each published event counts once.

The scenarios run concurrently, each on its own hub, since most of their time is the SDK's waiting.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any

import pytest
import pytest_asyncio
from azure.data.tables.aio import TableServiceClient

from local.faults import FaultProxy, Flow, Rules
from local.plan import HUB_NAME
from meter.adapters.clients import build_producer
from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.eventhub import EventHubSender
from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.config.values import AzureEndpoint, HubSettings
from meter.ledger.decode import Message
from meter.publishing.outbox import OUTBOX_TABLE, TableOutbox
from meter.publishing.sink import PublishingSink
from meter.usage import TokenUsage, UsageEvent
from tests.faults.books import assert_counted_once, read_books
from tests.faults.delivery import deliver, path_to
from tests.faults.hub import HubProcess, hub_connection_string, read_hub, running_hub
from tests.support.events import usage_event

PUBLISH_TIMEOUT_SECONDS = 1.0  # the app's default
DRAIN_SECONDS = 30.0
BATCH = 64


type Scenario = Callable[[HubProcess, str], Coroutine[Any, Any, None]]

SCENARIOS: list[Scenario] = []
pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # The SDK does not close connections that break while it opens them.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def beside_the_others(scenario: Scenario) -> Callable[..., Coroutine[Any, Any, None]]:
    """Make a test of a scenario; the test reports its outcome."""
    SCENARIOS.append(scenario)

    async def test(outcomes: Mapping[Scenario, asyncio.Task[None]]) -> None:
        await outcomes[scenario]

    test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
    return test


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def outcomes(
    tmp_path_factory: pytest.TempPathFactory, storage_accounts: Iterator[str]
) -> AsyncIterator[Mapping[Scenario, asyncio.Task[None]]]:
    """All scenarios, started; each has its own storage account, since it empties its outbox."""
    with ExitStack() as parts:
        tasks = {}
        for scenario in SCENARIOS:
            hub = parts.enter_context(running_hub(tmp_path_factory.mktemp("hub")))
            tasks[scenario] = asyncio.create_task(scenario(hub, next(storage_accounts)))
        yield tasks
        await asyncio.gather(*tasks.values(), return_exceptions=True)


@dataclass
class Publisher:
    """A front door's publishing half, on a hub that can be broken."""

    proxy: FaultProxy
    sender: EventHubSender
    outbox: TableOutbox
    sink: PublishingSink
    store: TablesRowStore
    name: str
    published: list[UsageEvent] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    async def publish(self, calls: int) -> None:
        """This many calls of five subjects end at once."""
        events = [
            usage_event(
                number,
                subject=f"{self.name}-{number % 5}",
                usage=TokenUsage(total_tokens=number + 1),
            )
            for number, _ in zip(self._numbers, range(calls), strict=False)
        ]
        self.published += events
        await asyncio.gather(*(self.sink.publish(event) for event in events))

    async def in_outbox(self) -> int:
        """How many events wait for the hub."""
        rows = self.store.scan(OUTBOX_TABLE, first_partition="0", last_partition="9999")
        return len([row async for row in rows])

    async def empty_outbox(self) -> None:
        """Run the outbox as its timer does until it is empty."""
        async with asyncio.timeout(DRAIN_SECONDS):
            while await self.in_outbox():
                if not await self.outbox.republish(self.sender):
                    await asyncio.sleep(0.2)


@asynccontextmanager
async def publisher_to(hub: HubProcess, azurite: str, name: str) -> AsyncIterator[Publisher]:
    proxy = FaultProxy("localhost", hub.port)
    endpoint = AzureEndpoint(connection_string=hub_connection_string(await proxy.start()))
    clock, dice = SystemClock(), system_dice()
    sender = EventHubSender(
        build_producer(HubSettings(endpoint=endpoint, name=HUB_NAME)),
        clock=clock,
        dice=dice,
        patience_seconds=PUBLISH_TIMEOUT_SECONDS,
    )
    service = TableServiceClient.from_connection_string(azurite, **CLIENT_OPTIONS)
    store = TablesRowStore(service)
    outbox = TableOutbox(store, clock)
    sink = PublishingSink(
        sender,
        outbox,
        clock=clock,
        dice=dice,
        acknowledge_timeout_seconds=PUBLISH_TIMEOUT_SECONDS,
        waits_for_acknowledgement=True,
    )
    await sender.warm()
    yield Publisher(proxy, sender, outbox, sink, store, name)
    await sink.close(DRAIN_SECONDS)
    await sender.close()
    await store.close()
    await proxy.stop()


async def assert_each_counts_once(
    publisher: Publisher, hub: HubProcess, azurite: str
) -> Sequence[Message]:
    """Assert that the hub's events, counted by the aggregator, are the published ones."""
    await publisher.proxy.clear()
    await publisher.empty_outbox()
    messages = await read_hub(hub.port)
    async with path_to(azurite) as path, path.aggregator() as aggregator:
        for start in range(0, len(messages), BATCH):
            await deliver(aggregator, messages[start : start + BATCH])
        await aggregator.showing.settle()
    assert_counted_once(read_books(azurite), publisher.published)
    return messages


def occurrences(messages: Sequence[Message]) -> int:
    """How many events are on the hub, duplicates included."""
    return sum(len(json.loads(message.body)) for message in messages)


@beside_the_others
async def test_an_acknowledgement_that_is_lost_makes_repeats_that_count_once(
    hub: HubProcess, azurite: str
) -> None:
    """The connection drops after the hub has appended: the events are sent again."""
    async with publisher_to(hub, azurite, "unacknowledged") as publisher:
        await publisher.publish(10)
        for _ in range(2):
            await publisher.proxy.put(Rules(drop_answers=True, count=1))
            await publisher.publish(10)
        messages = await assert_each_counts_once(publisher, hub, azurite)

    assert len(publisher.published) == 30
    assert occurrences(messages) > 30


@beside_the_others
async def test_a_connection_cut_anywhere_loses_and_doubles_nothing(
    hub: HubProcess, azurite: str
) -> None:
    """Cut in either direction, within a frame, by reset or close; also while it reconnects."""
    dice = Random(20261123)
    async with publisher_to(hub, azurite, "cut") as publisher:
        for after in (0, 100, 500, 1_000, 2_500):
            flow = Flow(end_after_bytes=after + dice.randrange(50))
            await publisher.proxy.put(Rules(up=flow, count=1 + after % 3))
            await publisher.publish(5)
            await publisher.proxy.put(Rules(down=flow, count=1 + after % 2))
            await publisher.publish(5)
        await assert_each_counts_once(publisher, hub, azurite)

    assert len(publisher.published) == 50
    assert publisher.proxy.stats()["ended"] > 0


@beside_the_others
async def test_events_that_a_busy_hub_refuses_for_a_moment_are_counted_once(
    hub: HubProcess, azurite: str
) -> None:
    """`com.microsoft:server-busy` once: they are sent again."""
    async with publisher_to(hub, azurite, "busy-once") as publisher:
        for _ in range(4):
            hub.be_busy(1)
            await publisher.publish(10)
        await assert_each_counts_once(publisher, hub, azurite)

    assert len(publisher.published) == 40


@beside_the_others
async def test_events_that_a_busy_hub_refuses_for_long_are_counted_once(
    hub: HubProcess, azurite: str
) -> None:
    """`com.microsoft:server-busy` to every send: all go to the outbox, and later to the hub."""
    async with publisher_to(hub, azurite, "busy") as publisher:
        hub.be_busy(1_000_000)
        for _ in range(4):
            await publisher.publish(10)
        waiting = await publisher.in_outbox()
        hub.be_busy(0)
        await assert_each_counts_once(publisher, hub, azurite)

    assert waiting == 40


@beside_the_others
async def test_events_wait_in_the_outbox_while_the_hub_is_gone(
    hub: HubProcess, azurite: str
) -> None:
    """Connections are refused: events are safe within a call's time; outbox runs wait, then send them."""
    async with publisher_to(hub, azurite, "gone") as publisher:
        await publisher.publish(5)
        before = await publisher.in_outbox()  # where the hub was slow to begin with
        await publisher.proxy.put(Rules(refuse=True))
        for _ in range(2):
            await publisher.publish(20)
        waiting = await publisher.in_outbox() - before
        run_in_vain = asyncio.create_task(publisher.outbox.republish(publisher.sender))
        await asyncio.sleep(1)
        await assert_each_counts_once(publisher, hub, azurite)
        await run_in_vain

    assert waiting == 40


@beside_the_others
async def test_events_that_reach_a_slow_hub_after_all_are_counted_once(
    hub: HubProcess, azurite: str
) -> None:
    """The hub is frozen for longer than a call waits: the event is in the outbox and on the hub."""
    async with publisher_to(hub, azurite, "frozen") as publisher:
        await publisher.proxy.put(Rules(freeze=True))
        await publisher.publish(10)
        waiting = await publisher.in_outbox()
        messages = await assert_each_counts_once(publisher, hub, azurite)

    assert waiting == 10
    assert occurrences(messages) > 10


@beside_the_others
async def test_a_hub_that_is_killed_in_the_middle_of_sends_loses_and_doubles_nothing(
    hub: HubProcess, azurite: str
) -> None:
    """kill -9 while events are being sent, three times; what it acknowledged is on its disk."""
    async with publisher_to(hub, azurite, "killed") as publisher:
        for round_ in range(3):
            publishing = asyncio.create_task(_publish_steadily(publisher, 30))
            await asyncio.sleep(0.05 + 0.03 * round_)
            hub.kill()
            await asyncio.to_thread(hub.start)
            await publishing
        await assert_each_counts_once(publisher, hub, azurite)

    assert len(publisher.published) == 180


async def _publish_steadily(publisher: Publisher, rounds: int) -> None:
    async with asyncio.TaskGroup() as tasks:
        for _ in range(rounds):
            tasks.create_task(publisher.publish(2))
            await asyncio.sleep(0.01)
