"""Publishing: acknowledged by the hub, or in the outbox, or in the log; gathered, and in one partition."""

import asyncio
import json
import logging
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import cast

import pytest
from azure.eventhub import EventData
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import ConnectError, EventDataSendError, EventHubError

from meter.adapters.eventhub import EventHubSender, PublishingSink
from meter.adapters.partition_key import choose_partition
from meter.errors import PublishFailed, StorageUnavailable
from meter.ledger.decode import decode
from meter.usage import BATCH_CONTENT_TYPE, UsageEvent, encode_event
from tests.factories import NOW, RETENTION, raw_message, usage_event

SOON_SECONDS = 0.05


@dataclass
class FakeHub:
    """Acknowledges when its gate is open; `failure` is what it answers instead."""

    gate: asyncio.Event = field(default_factory=asyncio.Event)
    failure: Exception | None = None
    took: list[bytes] = field(default_factory=list)

    async def send(self, subject: str, encoded_event: bytes) -> None:
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        self.took.append(encoded_event)


@dataclass
class FakeOutbox:
    """Keeps events in a list, or is out of order."""

    is_down: bool = False
    kept: list[UsageEvent] = field(default_factory=list)

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        if self.is_down:
            raise StorageUnavailable("Outbox: no answer")
        self.kept.extend(events)


@dataclass
class FakeProducer:
    """Stands for `EventHubProducerClient`: remembers which partition the hub chose."""

    partitions: int = 4
    failures: list[BaseException | None] = field(default_factory=list)
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    is_sending: asyncio.Event = field(default_factory=asyncio.Event)
    sent: defaultdict[int, list[EventData]] = field(default_factory=lambda: defaultdict(list))
    connects: int = 0
    is_closed: bool = False

    def __post_init__(self) -> None:
        self.gate.set()

    async def get_partition_ids(self) -> list[str]:
        self.connects += 1
        self._fail()
        return [str(number) for number in range(self.partitions)]

    async def create_batch(self) -> None:
        """Opens the link; what it gives is not used."""

    async def send_batch(self, messages: list[EventData], *, partition_key: str) -> None:
        self.is_sending.set()
        await self.gate.wait()
        self._fail()
        self.sent[choose_partition(partition_key, self.partitions)].extend(messages)

    async def close(self) -> None:
        self.is_closed = True

    def _fail(self) -> None:
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure

    @property
    def bodies(self) -> list[bytes]:
        return [message.body_as_str().encode() for part in self.sent.values() for message in part]


def sink_on(hub: FakeHub, outbox: FakeOutbox, *, waits: bool = True) -> PublishingSink:
    return PublishingSink(
        hub, outbox, acknowledge_timeout_seconds=SOON_SECONDS, waits_for_acknowledgement=waits
    )


def sender_on(producer: FakeProducer) -> EventHubSender:
    return EventHubSender(cast(EventHubProducerClient, producer))


@pytest.fixture
def hub() -> FakeHub:
    return FakeHub()


@pytest.fixture
def outbox() -> FakeOutbox:
    return FakeOutbox()


@pytest.fixture
def producer() -> FakeProducer:
    return FakeProducer()


@pytest.fixture
async def sender(producer: FakeProducer) -> AsyncIterator[EventHubSender]:
    sender = sender_on(producer)
    yield sender
    producer.gate.set()
    await sender.close()


async def turns(number: int = 5) -> None:
    """Let everything that can run, run."""
    for _ in range(number):
        await asyncio.sleep(0)


async def test_publishing_returns_when_the_hub_has_acknowledged(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Not before: the last byte of an answer waits for it."""
    publishing = asyncio.create_task(sink_on(hub, outbox).publish(usage_event(1)))
    await turns()
    was_done = publishing.done()
    hub.gate.set()
    await publishing

    assert not was_done
    assert hub.took == [encode_event(usage_event(1))]
    assert outbox.kept == []


async def test_an_event_that_the_hub_refuses_is_kept(hub: FakeHub, outbox: FakeOutbox) -> None:
    """The caller notices nothing."""
    hub.failure = PublishFailed("busy")
    hub.gate.set()
    await sink_on(hub, outbox).publish(usage_event(1))

    assert outbox.kept == [usage_event(1)]


async def test_an_event_that_the_hub_is_slow_to_take_is_kept(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """A call does not wait longer than the timeout."""
    await sink_on(hub, outbox).publish(usage_event(1))

    assert outbox.kept == [usage_event(1)]


async def test_an_event_that_nobody_takes_is_logged_in_full_and_once(
    hub: FakeHub, outbox: FakeOutbox, caplog: pytest.LogCaptureFixture
) -> None:
    """The log is then the only place that knows of the call; publishing still does not raise."""
    hub.failure, outbox.is_down = PublishFailed("busy"), True
    hub.gate.set()
    await sink_on(hub, outbox).publish(usage_event(1, subject="zoë"))

    critical = [record for record in caplog.records if record.levelno == logging.CRITICAL]
    assert len(critical) == 1
    name, _, logged = critical[0].getMessage().partition(" event=")
    found = decode([raw_message(logged.encode())], now=NOW, retention=RETENTION)
    assert name == "usage_event_unpublished"
    assert found.events == (usage_event(1, subject="zoë"),)


async def test_a_caller_who_leaves_does_not_take_the_event_along(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """Publishing goes on though nobody waits for it."""
    sink = sink_on(hub, outbox)
    publishing = asyncio.create_task(sink.publish(usage_event(1)))
    await turns()
    publishing.cancel()
    await turns()
    hub.gate.set()
    await sink.close()

    assert publishing.cancelled()
    assert hub.took == [encode_event(usage_event(1))]


async def test_in_the_background_publishing_returns_at_once_and_closing_waits(
    hub: FakeHub, outbox: FakeOutbox
) -> None:
    """`METER_DURABILITY=background`: nothing is lost in an orderly end."""
    sink = sink_on(hub, outbox, waits=False)
    for number in range(3):
        await sink.publish(usage_event(number))
    closing = asyncio.create_task(sink.close())
    await turns()
    was_closed = closing.done()
    hub.gate.set()
    await closing

    assert not was_closed
    assert len(hub.took) == 3


async def test_calls_that_end_together_share_a_message(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """One CloudEvents batch a partition, with its content type, events in order."""
    events = [encode_event(usage_event(number)) for number in range(5)]
    await asyncio.gather(*(sender.send("alice", event) for event in events))

    (messages,) = producer.sent.values()
    assert [message.content_type for message in messages] == [BATCH_CONTENT_TYPE]
    found = decode([raw_message(body) for body in producer.bodies], now=NOW, retention=RETENTION)
    assert list(found.events) == [usage_event(number) for number in range(5)]


async def test_while_a_message_is_under_way_the_next_one_gathers(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Load makes messages larger, not more."""
    producer.gate.clear()
    first = asyncio.create_task(sender.send("alice", b"1"))
    await producer.is_sending.wait()
    rest = [asyncio.create_task(sender.send("alice", b"2")) for _ in range(9)]
    await turns()
    producer.gate.set()
    await asyncio.gather(first, *rest)

    assert [len(json.loads(body)) for body in producer.bodies] == [1, 9]


async def test_all_events_of_a_subject_go_to_one_partition(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """So that one aggregator counts them; many subjects use all partitions."""
    subjects = [f"subject-{number % 50}" for number in range(500)]
    await asyncio.gather(*(sender.send(s, json.dumps(s).encode()) for s in subjects))

    places = defaultdict(set)
    for partition, messages in producer.sent.items():
        for message in messages:
            for subject in json.loads(message.body_as_str()):
                places[subject].add(partition)
    assert {len(partitions) for partitions in places.values()} == {1}
    assert set(producer.sent) == {0, 1, 2, 3}


async def test_another_process_chooses_the_same_partition() -> None:
    """The choice hangs on the subject and the number of partitions only."""
    producers = [FakeProducer(partitions=12), FakeProducer(partitions=12)]
    for producer in producers:
        sender = sender_on(producer)
        for subject in ("alice", "zoë", "x" * 255):
            await sender.send(subject, b"{}")
        await sender.close()

    assert list(producers[0].sent) == list(producers[1].sent)


async def test_messages_stay_below_64_kilobytes(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """More is billed as two; every event is sent, and one that is larger goes alone."""
    sizes = [900] * 150 + [40_000, 40_000, 70_000, 10, 59_000, 2_000]
    events = [b'"' + b"x" * (size - 2) + b'"' for size in sizes]
    await asyncio.gather(*(sender.send("alice", event) for event in events))

    counts = [len(json.loads(body)) for body in producer.bodies]
    assert sum(counts) == 156
    assert [c for c, body in zip(counts, producer.bodies, strict=True) if len(body) > 64_000] == [1]


@pytest.mark.parametrize(
    "failure",
    [
        EventDataSendError("busy"),
        ConnectError("down"),
        EventHubError("other"),
        TimeoutError(),
        ConnectionResetError(),
        ValueError("too large"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_what_the_hub_refuses_fails_for_each_event_and_the_next_is_sent(
    producer: FakeProducer, sender: EventHubSender, failure: Exception
) -> None:
    """No library's exception crosses the port; a refusal is not for ever."""
    await sender.warm()
    producer.failures = [failure]
    first = await asyncio.gather(
        *(sender.send("alice", event) for event in (b"1", b"2")), return_exceptions=True
    )
    await sender.send("alice", b"3")

    assert [type(result) for result in first] == [PublishFailed, PublishFailed]
    assert producer.bodies == [b"[3]"]


async def test_a_partition_that_is_stuck_does_not_hold_up_the_others(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Each partition has its own queue."""
    stuck_gate, open_gate = asyncio.Event(), asyncio.Event()
    open_gate.set()
    producer.gate = stuck_gate
    stuck = asyncio.create_task(sender.send("alice", b'"stuck"'))
    await producer.is_sending.wait()
    producer.gate = open_gate
    others = [asyncio.create_task(sender.send(f"s{n}", b'"free"')) for n in range(40)]
    await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED)
    was_done = stuck.done()
    stuck_gate.set()
    await asyncio.gather(stuck, *others)

    assert not was_done
    assert len(producer.sent) == 4


async def test_a_hub_that_cannot_be_reached_is_connected_to_later(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Many calls share one attempt; the next call makes another."""
    producer.failures = [ConnectError("down")]
    first = await asyncio.gather(
        *(sender.send("alice", b"1") for _ in range(3)), return_exceptions=True
    )
    await sender.send("alice", b"2")

    assert [type(result) for result in first] == [PublishFailed] * 3
    assert producer.connects == 2
    assert producer.bodies == [b"[2]"]


async def test_closing_sends_what_is_pending_then_disconnects(producer: FakeProducer) -> None:
    """An orderly end loses nothing."""
    sender = sender_on(producer)
    await sender.warm()
    sending = asyncio.create_task(sender.send("alice", b"1"))
    await turns()
    await sender.close()
    await sending

    assert producer.bodies == [b"[1]"]
    assert producer.is_closed


async def test_an_unforeseen_error_does_not_block_the_partition_for_ever() -> None:
    """Whatever the SDK raises, the waiting calls hear of it and the next send is tried."""
    producer = BrokenOnce()
    sender = EventHubSender(cast(EventHubProducerClient, producer))
    with pytest.raises(PublishFailed):
        await sender.send("alice", b"1")
    await sender.send("alice", b"2")

    assert producer.sent == ["[2]"]


class BrokenOnce:
    """A producer whose first send fails in a way that nobody foresaw."""

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.is_broken = True

    async def get_partition_ids(self) -> list[str]:
        return ["0"]

    async def create_batch(self) -> None:
        return None

    async def send_batch(self, messages: list[EventData], **_options: object) -> None:
        if self.is_broken:
            self.is_broken = False
            raise RuntimeError("a fault in the SDK")
        self.sent += [message.body_as_str() for message in messages]


class Unforeseen:
    """A hub and an outbox that fail in ways that nobody foresaw, or never answer."""

    def __init__(self, *, hangs: bool = False) -> None:
        self.hangs = hangs

    async def send(self, subject: str, encoded_event: bytes) -> None:
        raise RuntimeError("hub")

    async def keep(self, events: Sequence[UsageEvent]) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        raise ValueError("outbox")


@pytest.mark.parametrize("hangs", [False, True])
async def test_faults_that_nobody_foresaw_leave_the_event_in_the_log(
    hangs: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Publishing never raises, never waits for ever and never drops an event silently."""
    both = Unforeseen(hangs=hangs)
    sink = PublishingSink(
        both, both, acknowledge_timeout_seconds=0.01, waits_for_acknowledgement=True
    )
    await sink.publish(usage_event(1))

    assert "usage_event_unpublished" in caplog.text
    assert str(usage_event(1).id) in caplog.text
