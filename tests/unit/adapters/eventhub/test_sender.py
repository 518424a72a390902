"""The sender: gathered per hub partition, in order, and tried again until the patience is over."""

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator
from itertools import pairwise
from typing import cast

import pytest
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import (
    AuthenticationError,
    ConnectError,
    ConnectionLostError,
    EventDataSendError,
    EventHubError,
)

from meter.adapters.eventhub import EventHubSender
from meter.adapters.partition_key import choose_partition, keys_by_partition
from meter.bucket import bucket_of, hub_partition_of
from meter.errors import PublishFailed
from meter.ledger.decode import decode
from meter.usage import BATCH_CONTENT_TYPE, encode_event
from tests.fakes.gateway import FixedDice
from tests.fakes.publishing import FakeProducer, busy
from tests.fakes.virtual_time import LoopClock, VirtualTimeLoop
from tests.support.events import NOW, RETENTION, raw_message, usage_event

PATIENCE_SECONDS = 1.0


def sender_on(producer: FakeProducer, *, dice: float = 1.0) -> EventHubSender:
    return EventHubSender(
        cast(EventHubProducerClient, producer),
        clock=LoopClock(),
        dice=FixedDice(dice),
        patience_seconds=PATIENCE_SECONDS,
    )


@pytest.fixture
def producer() -> FakeProducer:
    return FakeProducer()


@pytest.fixture
async def sender(producer: FakeProducer) -> AsyncIterator[EventHubSender]:
    sender = sender_on(producer)
    await sender.warm()
    yield sender
    await sender.close()


def seconds() -> float:
    return asyncio.get_running_loop().time()


async def test_calls_that_end_together_share_a_message(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """One CloudEvents batch a partition, with its content type, events in order."""
    events = [encode_event(usage_event(number)) for number in range(5)]
    await asyncio.gather(*(sender.send("alice", [event]) for event in events))

    (messages,) = producer.sent.values()
    assert [message.content_type for message in messages] == [BATCH_CONTENT_TYPE]
    found = decode([raw_message(body) for body in producer.bodies], now=NOW, retention=RETENTION)
    assert list(found.events) == [usage_event(number) for number in range(5)]


async def test_an_event_is_sent_in_the_turn_after_its_calls_end(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """The caller waits for each further turn, and each costs CPU."""
    sending = asyncio.ensure_future(sender.send("alice", [b"1"]))
    before = list(producer.tries)
    await asyncio.sleep(0)

    assert (len(before), len(producer.tries)) == (0, 1)
    await sending


async def test_while_a_message_is_under_way_the_next_one_gathers(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Load makes messages larger, not more."""
    producer.takes_seconds = 0.1
    first = asyncio.ensure_future(sender.send("alice", [b"1"]))
    await asyncio.sleep(0.05)
    rest = [asyncio.ensure_future(sender.send("alice", [b"2"])) for _ in range(9)]
    await asyncio.gather(first, *rest)

    assert [len(json.loads(body)) for body in producer.bodies] == [1, 9]


async def test_while_another_partition_is_sent_to_the_next_message_gathers(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """The SDK sends one batch at a time: a message that was made before its turn would wait unfilled."""
    producer.takes_seconds = 0.1
    names = [_subject_of(partition) for partition in (0, 1)]
    first = asyncio.ensure_future(sender.send(names[0], [b"1"]))
    await asyncio.sleep(0.01)
    rest = []
    for _ in range(9):
        rest.append(asyncio.ensure_future(sender.send(names[1], [b"2"])))
        await asyncio.sleep(0.005)
    await asyncio.gather(first, *rest)

    assert [len(json.loads(body)) for body in producer.bodies] == [1, 9]


async def test_where_no_call_waits_a_send_gathers_for_some_time(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Calls that end after one another share it, too; each of the next sends gathers as long."""
    sender.linger_seconds = 0.02
    sends = []
    for _ in range(8):
        sends.append(asyncio.ensure_future(sender.send("alice", [b"1"])))
        await asyncio.sleep(0.005)
    await asyncio.gather(*sends)

    assert [len(json.loads(body)) for body in producer.bodies] == [4, 4]
    assert [round(after - before, 3) for before, after in pairwise(producer.tries)] == [0.02]


@pytest.mark.parametrize(("partitions", "waits"), [(1, 0.02), (2, 0.04), (4, 0.08), (9, 0.1)])
async def test_the_more_partitions_are_in_use_the_longer_each_gathers(
    partitions: int, waits: float
) -> None:
    """A send costs as much for one event as for fifty: sends per second stay few, and waits bounded."""
    producer = FakeProducer(partitions=partitions)
    sender = sender_on(producer)
    await sender.warm()
    sender.linger_seconds = 0.02
    names = [_subject_of(partition, partitions) for partition in range(partitions)]

    async def calls() -> None:
        until = seconds() + 1
        while seconds() < until:
            await asyncio.gather(*(sender.send(name, [b"1"]) for name in names))

    begun = seconds()
    await calls()
    await sender.close()

    waited = [b - a for a, b in pairwise([begun, *sorted(set(producer.tries))])]
    assert max(waited) == pytest.approx(waits)


def _subject_of(partition: int, partitions: int = 4) -> str:
    keys = keys_by_partition(partitions)
    names = (f"s{number}" for number in range(1_000))
    return next(
        name
        for name in names
        if choose_partition(keys[hub_partition_of(name, partitions)], partitions) == partition
    )


async def test_all_events_of_a_subject_go_to_one_partition(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """So that one aggregator counts them; many subjects use all partitions."""
    subjects = [f"subject-{number % 50}" for number in range(500)]
    await asyncio.gather(*(sender.send(s, [json.dumps(s).encode()]) for s in subjects))

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
            await sender.send(subject, [b"{}"])
        await sender.close()

    assert list(producers[0].sent) == list(producers[1].sent)


async def test_messages_stay_below_64_kilobytes(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """More is billed as two; every event is sent, and one that is larger goes alone."""
    sizes = [900] * 150 + [40_000, 40_000, 70_000, 10, 59_000, 2_000]
    events = [b'"' + b"x" * (size - 2) + b'"' for size in sizes]
    await asyncio.gather(*(sender.send("alice", [event]) for event in events))

    counts = [len(json.loads(body)) for body in producer.bodies]
    assert sum(counts) == 156
    assert [c for c, body in zip(counts, producer.bodies, strict=True) if len(body) > 64_000] == [1]


async def test_a_send_stays_below_a_megabyte(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """The service takes no more at once; what is over goes with the next send."""
    events = [b'"' + b"x" * 29_998 + b'"'] * 60
    await asyncio.gather(*(sender.send("alice", [event]) for event in events))

    assert len(producer.tries) == 3
    assert sum(len(json.loads(body)) for body in producer.bodies) == 60


async def test_a_busy_hub_is_tried_again_with_doubling_pauses(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """The SDK does not try again what the service rejects; the pauses end at 0.4 s."""
    producer.failures = [busy()] * 4
    begun = seconds()
    await sender.send("alice", [b"1"])

    assert producer.bodies == [b"[1]"]
    tried_at = [round(moment - begun, 3) for moment in producer.tries]
    assert tried_at == [0.0, 0.05, 0.15, 0.35, 0.75]


async def test_pauses_differ_between_instances(producer: FakeProducer) -> None:
    """The dice take up to half of a pause, so that instances do not all come back at once."""
    sender = sender_on(producer, dice=0.0)
    await sender.warm()
    producer.failures = [busy()] * 2
    await sender.send("alice", [b"1"])

    pauses = [b - a for a, b in pairwise(producer.tries)]
    assert [round(pause, 3) for pause in pauses] == [0.025, 0.05]


async def test_a_hub_that_stays_busy_fails_when_the_patience_is_over(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """And not later, with the last reason; the next event is tried anew."""
    producer.is_down = True
    begun = seconds()
    with pytest.raises(PublishFailed, match="EventDataSendError server-busy"):
        await sender.send("alice", [b"1"])
    took = seconds() - begun
    producer.is_down = False
    await sender.send("alice", [b"2"])

    assert 0.5 < took <= PATIENCE_SECONDS
    assert producer.bodies == [b"[2]"]


async def test_what_is_tried_again_stays_before_what_came_later(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """The events of a subject reach the hub in the order in which their calls ended."""
    producer.failures = [busy(), busy()]
    sends = []
    for number in range(10):
        sends.append(asyncio.ensure_future(sender.send("alice", [b"%d" % number])))
        await asyncio.sleep(0.01)
    await asyncio.gather(*sends)

    order = [number for body in producer.bodies for number in json.loads(body)]
    assert order == list(range(10))


async def test_an_event_that_no_call_waits_for_is_not_sent(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Its call has put it into the outbox meanwhile."""
    producer.takes_seconds = 0.5
    under_way = asyncio.ensure_future(sender.send("alice", [b"1"]))
    await asyncio.sleep(0.1)
    left = asyncio.ensure_future(sender.send("alice", [b"2"]))
    stays = asyncio.ensure_future(sender.send("alice", [b"3"]))
    await asyncio.sleep(0.1)
    left.cancel()
    await asyncio.gather(under_way, stays)

    assert producer.bodies == [b"[1]", b"[3]"]


@pytest.mark.parametrize(
    "failure",
    [
        busy(),
        ConnectError("down"),
        ConnectionLostError("cut"),
        AuthenticationError("Authorization timeout."),
        EventHubError("other"),
        TimeoutError(),
        ConnectionResetError(),
        RuntimeError("a fault in the SDK"),
    ],
    ids=lambda failure: type(failure).__name__,
)
async def test_what_may_pass_is_tried_again(
    producer: FakeProducer, sender: EventHubSender, failure: Exception
) -> None:
    """A hub that restarts within the patience is not noticed."""
    producer.failures = [failure]
    await sender.send("alice", [b"1"])

    assert producer.bodies == [b"[1]"]


class _Rejected(Exception):
    """What the SDK's transport raises inside for a condition of the service."""

    description = "no"

    def __init__(self, condition: bytes) -> None:
        self.condition = condition


def rejected(condition: bytes) -> EventDataSendError:
    return EventDataSendError("no", _Rejected(condition))  # type: ignore[arg-type]  # as the SDK does


@pytest.mark.parametrize(
    "failure",
    [
        rejected(b"amqp:link:message-size-exceeded"),
        rejected(b"amqp:unauthorized-access"),
        rejected(b"amqp:not-found"),
        rejected(b"com.microsoft:entity-disabled"),
        ValueError("too large"),
    ],
    ids=lambda failure: getattr(failure, "error", None) or type(failure).__name__,
)
async def test_what_will_not_pass_is_refused_at_once_for_each_event(
    producer: FakeProducer, sender: EventHubSender, failure: Exception
) -> None:
    """No library's exception crosses the port; a refusal is not for ever."""
    producer.failures = [failure]
    begun = seconds()
    first = await asyncio.gather(
        *(sender.send("alice", [event]) for event in (b"1", b"2")), return_exceptions=True
    )
    took = seconds() - begun
    await sender.send("alice", [b"3"])

    assert [type(result) for result in first] == [PublishFailed, PublishFailed]
    assert took < 0.01
    assert producer.bodies == [b"[3]"]


async def test_a_partition_that_is_stuck_does_not_hold_up_the_others(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """Each partition has its own queue."""
    producer.takes_seconds = 30.0
    stuck = asyncio.ensure_future(sender.send("alice", [b'"stuck"']))
    await asyncio.sleep(0.1)
    producer.takes_seconds = 0.0
    others = [asyncio.ensure_future(sender.send(f"s{n}", [b'"free"'])) for n in range(40)]
    done, waiting = await asyncio.wait(others, timeout=0.5)

    assert done
    assert set(producer.sent) == {0, 1, 2, 3} - {_partition_of_alice()}
    for task in (stuck, *waiting):
        task.cancel()


async def test_a_send_that_a_busy_loop_is_late_to_end_goes_before_the_next(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """It is not stuck: the loop had no turn for it. What waits for it gathers meanwhile."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualTimeLoop)
    producer.takes_seconds = 0.1
    names = [_subject_of(partition) for partition in (0, 1)]
    first = asyncio.ensure_future(sender.send(names[0], [b"1"]))
    await asyncio.sleep(0.05)
    second = asyncio.ensure_future(sender.send(names[1], [b"2"]))
    await asyncio.sleep(0.01)
    loop.pass_by(5)
    third = asyncio.ensure_future(sender.send(names[1], [b"3"]))
    await asyncio.gather(first, second, third)

    assert producer.bodies == [b"[1]", b"[2,3]"]


def _partition_of_alice() -> int:
    return choose_partition(keys_by_partition(4)[hub_partition_of("alice", 4)], 4)


async def test_the_subjects_of_a_bucket_share_a_hub_partition(
    producer: FakeProducer, sender: EventHubSender
) -> None:
    """So a batch of one hub partition meets few ledger partitions, and transactions share them."""
    names = [f"s{number}" for number in range(200)]
    await asyncio.gather(*(sender.send(name, [f'"{name}"'.encode()]) for name in names))
    met = [
        {bucket_of(name) for message in sent for name in json.loads(message.body_as_str())}
        for sent in producer.sent.values()
    ]

    assert len(met) == producer.partitions
    assert sum(map(len, met)) == len({bucket_of(name) for name in names})


async def test_a_hub_that_cannot_be_reached_is_connected_to_later() -> None:
    """Many calls share each attempt, which are as far apart as tries to send."""
    producer = FakeProducer(failures=[ConnectError("down")] * 2)
    sender = sender_on(producer)
    await asyncio.gather(*(sender.send("alice", [b"1"]) for _ in range(3)))
    await sender.close()

    assert producer.connects == 3
    assert producer.bodies == [b"[1,1,1]"]


async def test_a_hub_that_is_never_reached_fails_when_the_patience_is_over() -> None:
    """With the reason; the next event connects anew."""
    producer = FakeProducer(is_down=True)
    sender = sender_on(producer)
    begun = seconds()
    with pytest.raises(PublishFailed, match="partitions are not known"):
        await sender.send("alice", [b"1"])
    took = seconds() - begun
    producer.is_down = False
    await sender.send("alice", [b"2"])
    await sender.close()

    assert took <= PATIENCE_SECONDS
    assert producer.bodies == [b"[2]"]


async def test_closing_sends_what_is_pending_then_disconnects(producer: FakeProducer) -> None:
    """An orderly end loses nothing."""
    sender = sender_on(producer)
    await sender.warm()
    producer.takes_seconds = 0.5
    sending = asyncio.ensure_future(sender.send("alice", [b"1"]))
    await asyncio.sleep(0.1)
    await sender.close()
    await sending

    assert producer.bodies == [b"[1]"]
    assert producer.is_closed


async def test_closing_does_not_wait_for_a_hub_that_hangs(producer: FakeProducer) -> None:
    """A process that ends has other events to save."""
    sender = sender_on(producer)
    await sender.warm()
    producer.takes_seconds = 30.0
    sending = asyncio.ensure_future(sender.send("alice", [b"1"]))
    await asyncio.sleep(0.1)
    begun = seconds()
    await sender.close()

    assert seconds() - begun <= 2
    assert producer.is_closed
    sending.cancel()
