"""A running endpoint for the contract tests, and the SDK's clients set up to talk to it."""

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azure.eventhub import EventData, EventHubConsumerClient, EventHubProducerClient
from azure.eventhub.aio import CheckpointStore
from azure.eventhub.aio import EventHubConsumerClient as AsyncConsumerClient
from azure.eventhub.aio import EventHubProducerClient as AsyncProducerClient

from local.eventhubs import Config, Endpoint, HubConfig
from meter.adapters.clients import hub_trust

HUB = "usage-events"
KEY_NAME = "RootManageSharedAccessKey"
KEY = "SAS_KEY_VALUE"
PARTITIONS = 4
WAIT_SECONDS = 60.0
FIRST_MS = 1_700_000_000_000
GROUPS = tuple(f"group-{number}" for number in range(8))
OWNERS = "owners"
HUBS = (HUB, *(f"hub-{number}" for number in range(24)))
CONFIG = Config(
    hubs=tuple(
        HubConfig(name=hub, partition_count=PARTITIONS, consumer_groups=(*GROUPS, OWNERS))
        for hub in HUBS
    )
)


type Scenario = (
    Callable[["Served", str], None] | Callable[["Served", str], Coroutine[Any, Any, None]]
)


class SideBySide:
    """Runs the scenarios of one module concurrently, and reports each as its own test.

    The SDK sleeps half a second per link it opens and a second per consumer it closes; in sequence,
    the scenarios of a module would take a minute.
    """

    def __init__(self) -> None:
        self._scenarios: list[Scenario] = []
        self._outcomes: dict[str, Future[None]] = {}

    def __call__(self, scenario: Scenario) -> Callable[[None], None]:
        """Make a test of a scenario, which gets the endpoint and its own hub."""
        self._scenarios.append(scenario)

        def test(outcomes: None) -> None:
            self._outcomes[scenario.__name__].result(2 * WAIT_SECONDS)

        test.__name__, test.__doc__ = scenario.__name__, scenario.__doc__
        test.__module__ = scenario.__module__
        return test

    @contextmanager
    def run(self, served: "Served") -> Iterator[None]:
        """Start every scenario; at the end, wait for all of them."""
        with ThreadPoolExecutor(len(self._scenarios)) as pool:
            for scenario, hub in zip(self._scenarios, HUBS, strict=False):
                self._outcomes[scenario.__name__] = pool.submit(_play, scenario, served, hub)
            yield


def _play(scenario: Scenario, served: "Served", hub: str) -> None:
    playing = scenario(served, hub)
    if playing is not None:
        asyncio.run(playing)


class SteppingClock:
    """A clock that advances one second per read, so that no two sends share a time."""

    def __init__(self) -> None:
        self._now_ms = FIRST_MS

    def __call__(self) -> int:
        self._now_ms += 1000
        return self._now_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """The address of a running endpoint, and its clients that are still closing."""

    port: int
    closing: list[threading.Thread] = field(default_factory=list)

    def connection_string(self, key: str = KEY) -> str:
        return (
            f"Endpoint=sb://localhost:{self.port};SharedAccessKeyName={KEY_NAME};"
            f"SharedAccessKey={key};UseDevelopmentEmulator=true"
        )

    def producer(self, hub: str = HUB, **settings: Any) -> EventHubProducerClient:
        return EventHubProducerClient.from_connection_string(
            self.connection_string(),
            eventhub_name=hub,
            retry_total=0,
            ssl_context=hub_trust(),
            **settings,
        )

    def async_producer(self, hub: str = HUB, **settings: Any) -> AsyncProducerClient:
        return AsyncProducerClient.from_connection_string(
            self.connection_string(),
            eventhub_name=hub,
            retry_total=0,
            ssl_context=hub_trust(),
            **settings,
        )

    def consumer(self, hub: str = HUB, group: str = "$Default") -> EventHubConsumerClient:
        return EventHubConsumerClient.from_connection_string(
            self.connection_string(),
            group,
            eventhub_name=hub,
            retry_total=0,
            ssl_context=hub_trust(),
        )

    def async_consumer(
        self, hub: str = HUB, group: str = "$Default", **settings: Any
    ) -> AsyncConsumerClient:
        return AsyncConsumerClient.from_connection_string(
            self.connection_string(),
            group,
            eventhub_name=hub,
            retry_total=0,
            ssl_context=hub_trust(),
            **settings,
        )


@contextmanager
def serve(
    data_dir: Path,
    *,
    config: Config = CONFIG,
    refuse: Callable[[str, str], bool] | None = None,
    now_ms: Callable[[], int] | None = None,
) -> Iterator[Served]:
    """Run an endpoint in its own thread, where the blocking SDK cannot block it."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    clock = now_ms or SteppingClock()
    endpoint = Endpoint(config, data_dir, KEY_NAME, KEY, refuse=refuse, now_ms=clock)
    try:
        started = asyncio.run_coroutine_threadsafe(endpoint.start(), loop)
        served = Served(port=started.result(WAIT_SECONDS))
        yield served
        for closing in served.closing:
            closing.join(WAIT_SECONDS)
    finally:
        asyncio.run_coroutine_threadsafe(endpoint.stop(), loop).result(WAIT_SECONDS)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(WAIT_SECONDS)
        loop.close()


def send(served: Served, hub: str, bodies: Iterable[str], **where: Any) -> None:
    """Send one batch with the blocking SDK."""
    with served.producer(hub) as producer:
        batch = producer.create_batch(**where)
        for body in bodies:
            batch.add(EventData(body))
        producer.send_batch(batch)


def receive(
    served: Served,
    hub: str,
    partition_id: str,
    count: int,
    start: Any = "-1",
    group: str = "$Default",
    **settings: Any,
) -> list[EventData]:
    """Receive `count` events of one partition with the blocking SDK.

    The SDK takes a second to close a consumer; that overlaps with the next test.
    """
    consumer = served.consumer(hub, group)
    received: list[EventData] = []
    done = threading.Event()

    def on_batch(_: object, events: list[EventData]) -> None:
        received.extend(events)
        if len(received) >= count:
            done.set()

    def run() -> None:
        with consumer:
            consumer.receive_batch(
                on_batch, partition_id=partition_id, starting_position=start, **settings
            )

    def close() -> None:
        consumer.close()
        running.join()

    running = threading.Thread(target=run)
    running.start()
    done.wait(WAIT_SECONDS)
    closing = threading.Thread(target=close)
    closing.start()
    served.closing.append(closing)
    return received


async def receive_async(
    consumer: AsyncConsumerClient, count: int, start: Any = "-1", **settings: Any
) -> list[EventData]:
    """Receive `count` events with the asyncio SDK, then close the consumer."""
    received: list[EventData] = []
    done = asyncio.Event()

    async def on_batch(context: Any, events: list[EventData]) -> None:
        received.extend(events)
        if events and consumer_has_store(consumer):
            await context.update_checkpoint(events[-1])
        if len(received) >= count:
            done.set()

    async with consumer:
        receiving = asyncio.create_task(
            consumer.receive_batch(on_batch, starting_position=start, **settings)
        )
        try:
            await asyncio.wait_for(done.wait(), WAIT_SECONDS)
        finally:
            receiving.cancel()
            await asyncio.gather(receiving, return_exceptions=True)
    return received


def consumer_has_store(consumer: AsyncConsumerClient) -> bool:
    """Whether the consumer keeps checkpoints."""
    return getattr(consumer, "_checkpoint_store", None) is not None


def bodies(events: Iterable[EventData]) -> list[str]:
    """Return the events' bodies as text."""
    return [event.body_as_str() for event in events]


class MemoryCheckpointStore(CheckpointStore):
    """Ownerships and checkpoints in memory, with the compare-and-set that the SDK needs."""

    def __init__(self) -> None:
        self.ownerships: dict[str, dict[str, Any]] = {}
        self.checkpoints: dict[str, dict[str, Any]] = {}
        self._etag = 0

    async def list_ownership(self, *_: str, **__: Any) -> Iterable[dict[str, Any]]:
        return [dict(ownership) for ownership in self.ownerships.values()]

    async def claim_ownership(
        self, ownership_list: Iterable[dict[str, Any]], **_: Any
    ) -> Iterable[dict[str, Any]]:
        claimed = []
        for wanted in ownership_list:
            current = self.ownerships.get(wanted["partition_id"])
            if current is None or current["etag"] == wanted.get("etag"):
                self._etag += 1
                stored = {**wanted, "etag": self._etag, "last_modified_time": _now_seconds()}
                self.ownerships[wanted["partition_id"]] = stored
                claimed.append(dict(stored))
        return claimed

    async def update_checkpoint(self, checkpoint: dict[str, Any], **_: Any) -> None:
        self.checkpoints[checkpoint["partition_id"]] = dict(checkpoint)

    async def list_checkpoints(self, *_: str, **__: Any) -> Iterable[dict[str, Any]]:
        return [dict(checkpoint) for checkpoint in self.checkpoints.values()]


def _now_seconds() -> float:
    # The SDK compares this with its own wall clock to find abandoned ownerships.
    return time.time()
