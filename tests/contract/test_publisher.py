"""The sender on the Event Hubs wire: a hub that is busy, restarts or goes silent, and the fake's."""

import asyncio
import inspect
import json
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import EventDataSendError

from local.eventhubs import Endpoint
from meter.adapters.clients import PRODUCER_OPTIONS, hub_trust
from meter.adapters.clock import SystemClock
from meter.adapters.eventhub import EventHubSender
from meter.adapters.hub.message import message_of
from meter.errors import PublishFailed
from meter.usage import BATCH_CONTENT_TYPE
from tests.fakes.publishing import FakeProducer, busy
from tests.local.eventhubs.test_harness import (
    CONFIG,
    HUB,
    KEY,
    KEY_NAME,
    PARTITIONS,
    Served,
    receive_async,
)


@dataclass
class Hub:
    """An endpoint that can be stopped, started again on its port, and made busy."""

    data: Path
    port: int = 0
    busy_sends: int = 0
    idle_seconds: float = 240.0
    _endpoint: Endpoint | None = None

    async def start(self) -> None:
        """Listen on the same port each time."""
        self._endpoint = Endpoint(
            CONFIG, self.data, KEY_NAME, KEY, refuse=self._refuse, idle_seconds=self.idle_seconds
        )
        self.port = await self._endpoint.start(port=self.port)

    @property
    def endpoint(self) -> Endpoint:
        """The one that listens."""
        assert self._endpoint is not None, "started"
        return self._endpoint

    async def stop(self) -> None:
        """End all connections."""
        if self._endpoint is not None:
            await self._endpoint.stop()

    async def numbers(self, count: int) -> list[int]:
        """One subject's events, in the order of their partition."""
        consumer = Served(port=self.port).async_consumer(HUB)
        events = await receive_async(consumer, count)
        return [number for event in events for number in json.loads(event.body_as_str())]

    def _refuse(self, hub: str, partition_id: str) -> bool:
        self.busy_sends -= 1
        return self.busy_sends >= 0


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path)
    await hub.start()
    yield hub
    await hub.stop()


def producer_at(port: int) -> EventHubProducerClient:
    """A sender as the app builds it."""
    return EventHubProducerClient.from_connection_string(
        Served(port=port).connection_string(),
        eventhub_name=HUB,
        ssl_context=hub_trust(),
        **PRODUCER_OPTIONS,
    )


@asynccontextmanager
async def sender_at(
    port: int,
    *,
    patience_seconds: float = 1.0,
    send_timeout_seconds: float = 10.0,
    keep_alive_seconds: float = 60.0,
) -> AsyncIterator[EventHubSender]:
    sender = EventHubSender(
        producer_at(port),
        clock=SystemClock(),
        dice=random.Random(7),
        patience_seconds=patience_seconds,
        send_timeout_seconds=send_timeout_seconds,
        keep_alive_seconds=keep_alive_seconds,
    )
    await sender.warm()
    try:
        yield sender
    finally:
        await sender.close()


async def test_a_hub_that_is_busy_for_a_moment_is_not_noticed(hub: Hub) -> None:
    """Within the publish timeout; each event is stored once, in order."""
    async with sender_at(hub.port, patience_seconds=20) as sender:
        hub.busy_sends = 3
        await asyncio.gather(*(sender.send("alice", [b"%d" % n]) for n in range(20)))
        await sender.send("alice", [b"20"])

    assert await hub.numbers(2) == list(range(21))


async def test_a_link_without_calls_stays_open(tmp_path: Path) -> None:
    """The hub ends silent connections; a call after a pause must not wait for a new one."""
    hub = Hub(tmp_path, idle_seconds=3.0)
    await hub.start()
    async with (
        sender_at(hub.port, keep_alive_seconds=0.2) as kept,
        sender_at(hub.port, keep_alive_seconds=3_600.0) as silent,
    ):
        await asyncio.gather(kept.send("alice", [b"0"]), silent.send("alice", [b"1"]))
        async with asyncio.timeout(30):
            while hub.endpoint.connections > 1:  # noqa: ASYNC110  # the endpoint has no event for it
                await asyncio.sleep(0.05)
        accepted = hub.endpoint.accepted
        await kept.send("alice", [b"2"])

        assert hub.endpoint.accepted == accepted
        assert hub.endpoint.connections == 1
    await hub.stop()


async def test_a_hub_that_stays_busy_is_an_error_within_the_patience(hub: Hub) -> None:
    """The reason is the service's own condition."""
    async with sender_at(hub.port) as sender:
        hub.busy_sends = 1000
        async with asyncio.timeout(60):  # it would try for longer
            with pytest.raises(PublishFailed, match="server-busy"):
                await sender.send("alice", [b"1"])


async def test_a_hub_that_restarts_is_connected_to_again(hub: Hub) -> None:
    """Events of a short outage reach the hub, in order, after it."""
    async with sender_at(hub.port, patience_seconds=30) as sender:
        await sender.send("alice", [b"0"])
        await hub.stop()
        sends = [asyncio.ensure_future(sender.send("alice", [b"%d" % n])) for n in range(1, 6)]
        await asyncio.wait(sends, timeout=0.3)
        were_waiting = [not send.done() for send in sends]
        await hub.start()
        await asyncio.gather(*sends)

    assert were_waiting == [True] * 5
    found = await hub.numbers(2)
    assert sorted(set(found)) == [0, 1, 2, 3, 4, 5]


async def test_a_hub_that_is_down_is_an_error_within_the_patience(hub: Hub) -> None:
    """The next event after its return is accepted."""
    async with sender_at(hub.port, patience_seconds=4) as sender:
        await hub.stop()
        async with asyncio.timeout(60):
            with pytest.raises(PublishFailed):
                await sender.send("alice", [b"1"])
        await hub.start()
        await sender.send("alice", [b"2"])

    assert await hub.numbers(1) == [2]


@dataclass
class Wire:
    """A TCP relay in front of the hub, on which connections can go silent without an end."""

    to: int
    _silences: list[asyncio.Event] = field(default_factory=list)
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection both ways."""
        upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", self.to)
        self._writers += [writer, upstream_writer]
        silence = asyncio.Event()
        self._silences.append(silence)
        for source, sink in ((reader, upstream_writer), (upstream_reader, writer)):
            task = asyncio.create_task(self._pump(source, sink, silence))
            self._tasks.add(task)

    def go_silent(self) -> None:
        """Silence all open connections without closing them; new ones work."""
        for silence in self._silences:
            silence.set()

    async def close(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        for writer in self._writers:
            writer.close()

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, silence: asyncio.Event
    ) -> None:
        while data := await source.read(65_536):
            if silence.is_set():
                continue
            sink.write(data)
        sink.close()


async def test_a_connection_that_went_silent_is_replaced(hub: Hub) -> None:
    """Without an answer or a close, as after a lost route, the next send reconnects."""
    wire = Wire(hub.port)
    server = await asyncio.start_server(wire.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with sender_at(port, patience_seconds=60, send_timeout_seconds=2.5) as sender:
        await sender.send("alice", [b"0"])
        wire.go_silent()
        async with asyncio.timeout(60):
            await sender.send("alice", [b"1"])
    await wire.close()
    server.close()

    assert sorted(set(await hub.numbers(2))) == [0, 1]


async def test_a_message_is_as_the_sdk_makes_one(hub: Hub) -> None:
    """What is left out of a message, the SDK would leave out as it sends it."""
    own = EventData("[1]")
    own.content_type = BATCH_CONTENT_TYPE
    producer = producer_at(hub.port)
    for message in (own, message_of([b"1"])):
        await producer.send_event(message, partition_key="key", timeout=5)
    await producer.close()

    events = await receive_async(Served(port=hub.port).async_consumer(HUB), 2)
    assert [event.content_type for event in events] == [BATCH_CONTENT_TYPE] * 2
    assert [event.partition_key for event in events] == [b"key"] * 2
    own_parts, parts = (event.raw_amqp_message for event in events)
    assert parts.header == own_parts.header
    assert parts.properties == own_parts.properties
    assert parts.application_properties == own_parts.application_properties
    assert list(parts.body) == list(own_parts.body)


async def test_the_fake_says_busy_as_the_sdk_does(hub: Hub) -> None:
    """The sender reads the condition; the fake must show it in the same place."""
    producer = producer_at(hub.port)
    hub.busy_sends = 1000
    with pytest.raises(EventDataSendError) as raised:
        await producer.send_batch([EventData("{}")], partition_key="key", timeout=5)
    await producer.close()

    fake = busy()
    assert type(fake) is type(raised.value)
    assert fake.error == raised.value.error == "server-busy"


def test_the_fake_accepts_the_arguments_of_the_sdk() -> None:
    """Each argument that the sender passes exists in the SDK."""
    for method in (
        FakeProducer.send_event,
        FakeProducer.send_batch,
        FakeProducer.get_partition_ids,
        FakeProducer.create_batch,
        FakeProducer.close,
    ):
        own = inspect.signature(method).parameters
        real: Callable[..., object] = getattr(EventHubProducerClient, method.__name__)
        names = set(inspect.signature(real).parameters)
        keyword_only = {p.name for p in own.values() if p.kind is p.KEYWORD_ONLY}
        assert keyword_only <= names


async def test_the_fake_chooses_partitions_as_the_hub_does(hub: Hub) -> None:
    """One subject goes to one partition, the same in both."""
    subjects = [f"subject-{number}" for number in range(20)]
    fake = FakeProducer(partitions=PARTITIONS)
    for producer in (producer_at(hub.port), fake):
        sender = EventHubSender(
            producer,  # type: ignore[arg-type]  # the fake's turn
            clock=SystemClock(),
            dice=random.Random(7),
            patience_seconds=1.0,
        )
        await sender.warm()
        await asyncio.gather(*(sender.send(s, [json.dumps(s).encode()]) for s in subjects))
        await sender.close()

    expected = {
        partition: sorted(s for m in messages for s in json.loads(m.body_as_str()))
        for partition, messages in fake.sent.items()
    }
    found: dict[int, list[str]] = {}
    for partition in expected:
        consumer = Served(port=hub.port).async_consumer(HUB)
        for event in await receive_async(consumer, 1, partition_id=str(partition)):
            found.setdefault(partition, []).extend(json.loads(event.body_as_str()))
    assert {partition: sorted(names) for partition, names in found.items()} == expected
