"""Sending with the unmodified SDK: contents, partitions and refusals."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.core.credentials import AccessToken
from azure.core.exceptions import ClientAuthenticationError
from azure.eventhub import EventData, EventHubProducerClient
from azure.eventhub.aio import EventHubProducerClient as AsyncProducerClient
from azure.eventhub.amqp import AmqpAnnotatedMessage, AmqpMessageBodyType
from azure.eventhub.exceptions import (
    AuthenticationError,
    ConnectError,
    EventDataSendError,
)

from meter.adapters.partition_key import choose_partition
from tests.local.eventhubs.test_harness import (
    HUB,
    PARTITIONS,
    WAIT_SECONDS,
    Served,
    SideBySide,
    bodies,
    receive,
    receive_async,
    send,
    serve,
)

side_by_side = SideBySide()


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with serve(tmp_path_factory.mktemp("data")) as served, side_by_side.run(served):
        yield


@side_by_side
def test_a_single_event_and_a_batch_arrive_in_order(served: Served, hub: str) -> None:
    """Events of one partition are read in the order in which they were acknowledged."""
    with served.producer(hub) as producer:
        producer.send_event(EventData("one"), partition_id="2")
        batch = producer.create_batch(partition_id="2")
        batch.add(EventData("two"))
        batch.add(EventData("three"))
        producer.send_batch(batch)

    received = receive(served, hub, "2", 3)

    assert bodies(received) == ["one", "two", "three"]
    assert [event.sequence_number for event in received] == [0, 1, 2]


@side_by_side
async def test_the_asyncio_producer_does_the_same(served: Served, hub: str) -> None:
    """Both halves of the SDK speak the same protocol to the endpoint."""
    async with served.async_producer(hub) as producer:
        await producer.send_event(EventData("one"), partition_id="1")
        batch = await producer.create_batch(partition_id="1")
        batch.add(EventData("two"))
        await producer.send_batch(batch)

    received = await receive_async(served.async_consumer(hub), 2, partition_id="1")

    assert bodies(received) == ["one", "two"]


@side_by_side
def test_properties_content_type_and_bodies_come_back_as_sent(served: Served, hub: str) -> None:
    """The sender's message is kept; the endpoint adds only its own annotations."""
    event = EventData(b"\x00\x01binary")
    event.properties = {"text": "täxt", "number": 7, "flag": True, "raw": b"\x00"}
    event.content_type = "application/cloudevents+json"
    event.correlation_id = "correlation"
    event.message_id = "message"
    value = AmqpAnnotatedMessage(value_body={"key": [1, "two", None]}, annotations={"own": "kept"})
    sequence = AmqpAnnotatedMessage(sequence_body=[["a", 1], ["b"]])
    with served.producer(hub) as producer:
        batch = producer.create_batch(partition_id="0")
        for message in (event, value, sequence):
            batch.add(message)
        producer.send_batch(batch)

    data, valued, sequenced = receive(served, hub, "0", 3)

    assert _data(data) == b"\x00\x01binary"
    expected = {b"text": "täxt".encode(), b"number": 7, b"flag": True, b"raw": b"\x00"}
    assert data.properties == expected
    assert data.content_type == "application/cloudevents+json"
    assert (data.correlation_id, data.message_id) == ("correlation", "message")
    assert valued.body_type == AmqpMessageBodyType.VALUE
    assert valued.body == {b"key": [1, b"two", None]}
    assert (valued.raw_amqp_message.annotations or {})[b"own"] == b"kept"
    assert sequenced.body_type == AmqpMessageBodyType.SEQUENCE
    assert _sequences(sequenced) == [[b"a", 1], [b"b"]]


@side_by_side
def test_one_key_is_one_partition_sent_directly_or_buffered(served: Served, hub: str) -> None:
    """The SDK hashes keys in buffered mode, the endpoint otherwise; the two agree."""
    key = "subject-a"
    partition_id = str(choose_partition(key, PARTITIONS))
    with served.producer(hub) as producer:
        producer.send_event(EventData("direct"), partition_key=key)
        producer.send_batch([EventData("batched")], partition_key=key)
    with served.producer(
        hub, buffered_mode=True, on_success=lambda *_: None, on_error=lambda *_: None
    ) as buffered:
        buffered.send_event(EventData("buffered"), partition_key=key)

    received = receive(served, hub, partition_id, 3)

    assert bodies(received) == ["direct", "batched", "buffered"]
    assert [event.partition_key for event in received] == [b"subject-a"] * 3


@side_by_side
async def test_the_asyncio_buffered_producer_loses_nothing(served: Served, hub: str) -> None:
    """Every buffered event is reported as sent, and exists."""
    sent: list[str] = []

    async def on_success(events: list[EventData], _: str | None) -> None:
        sent.extend(bodies(events))

    async def on_error(_: object, __: str | None, error: Exception) -> None:
        raise error

    producer = served.async_producer(
        hub, buffered_mode=True, on_success=on_success, on_error=on_error, max_wait_time=1
    )
    async with producer:
        for number in range(30):
            await producer.send_event(EventData(str(number)), partition_id="3")
        await producer.flush()

    received = await asyncio.to_thread(receive, served, hub, "3", 30)

    assert bodies(received) == sent == [str(number) for number in range(30)]


@side_by_side
def test_without_a_key_events_go_round_the_partitions(served: Served, hub: str) -> None:
    """With round robin, as many sends as partitions put one event in each."""
    with served.producer(hub) as producer:
        for _ in range(PARTITIONS):
            producer.send_event(EventData("x"))
        last = [
            producer.get_partition_properties(partition_id)["last_enqueued_sequence_number"]
            for partition_id in producer.get_partition_ids()
        ]

    assert last == [0] * PARTITIONS


@side_by_side
def test_a_large_message_is_accepted_and_a_larger_one_refused(served: Served, hub: str) -> None:
    """The limit is 1,048,576 bytes per message; beyond it, the error condition says so."""
    with served.producer(hub) as producer:
        producer.send_event(EventData(b"x" * 1_000_000), partition_id="0")
        with pytest.raises(EventDataSendError) as refused:
            producer.send_event(EventData(b"y" * 1_100_000), partition_id="0")
        producer.send_event(EventData(b"z"), partition_id="0")

    received = receive(served, hub, "0", 2)

    assert refused.value.error == "link:message-size-exceeded"
    assert [len(_data(event)) for event in received] == [1_000_000, 1]


@side_by_side
def test_hub_and_partition_properties_describe_what_was_sent(served: Served, hub: str) -> None:
    """`$management` answers from the log: sequence numbers from 0, -1 for an empty partition."""
    send(served, hub, ["a", "b"], partition_id="1")
    with served.producer(hub) as producer:
        described = producer.get_eventhub_properties()
        filled = producer.get_partition_properties("1")
        empty = producer.get_partition_properties("0")
    last = receive(served, hub, "1", 2)[-1]

    assert (described["eventhub_name"], described["partition_ids"]) == (hub, ["0", "1", "2", "3"])
    assert filled["last_enqueued_sequence_number"] == 1
    assert filled["last_enqueued_offset"] == last.offset
    assert filled["last_enqueued_time_utc"] == last.enqueued_time
    assert (filled["beginning_sequence_number"], filled["is_empty"]) == (0, False)
    assert (empty["last_enqueued_sequence_number"], empty["is_empty"]) == (-1, True)


@side_by_side
def test_a_wrong_key_is_an_authentication_error(served: Served, hub: str) -> None:
    """`$cbs` checks the signature: another key gets 401 and no link."""
    producer = EventHubProducerClient.from_connection_string(
        served.connection_string("another key"), eventhub_name=hub, retry_total=0
    )

    with producer, pytest.raises((AuthenticationError, ClientAuthenticationError), match="401"):
        producer.send_event(EventData("x"))


@side_by_side
async def test_an_entra_token_is_accepted_unverified(served: Served, hub: str) -> None:
    """A token credential works, since its issuer is not on this machine."""

    class Credential:
        async def get_token(self, *_: str, **__: Any) -> AccessToken:
            return AccessToken("eyJhbGciOiJub25lIn0.eyJzdWIiOiJ4In0.", 4_000_000_000)

        async def close(self) -> None: ...

        async def __aenter__(self) -> "Credential":
            return self

        async def __aexit__(self, *_: object) -> None: ...

    producer = AsyncProducerClient(
        f"localhost:{served.port}", hub, Credential(), use_tls=False, retry_total=0
    )
    async with producer:
        await producer.send_event(EventData("x"), partition_id="0")
        properties = await producer.get_partition_properties("0")

    assert properties["last_enqueued_sequence_number"] == 0


@side_by_side
def test_an_unknown_hub_and_an_unknown_partition_fail_at_once(served: Served, hub: str) -> None:
    """404 for a hub and 400 for a partition, as in Azure, and no waiting for a timeout."""
    with served.producer("no-such-hub") as producer, pytest.raises(ConnectError, match="404"):
        producer.send_event(EventData("x"))
    with served.producer(hub) as producer, pytest.raises(ConnectError, match="400"):
        producer.get_partition_properties("9")


def test_a_refused_send_is_server_busy_and_is_not_stored(tmp_path: Path) -> None:
    """The fault hook decides per send; refused events never reach the log."""
    refusals = iter([True, False])
    with serve(tmp_path, refuse=lambda _, __: next(refusals)) as served:
        with served.producer() as producer:
            with pytest.raises(EventDataSendError) as refused:
                producer.send_event(EventData("refused"), partition_id="0")
            producer.send_event(EventData("taken"), partition_id="0")
        received = receive(served, HUB, "0", 1)

    assert refused.value.error == "server-busy"
    assert bodies(received) == ["taken"]


@side_by_side
async def test_many_senders_at_once_get_distinct_sequence_numbers(served: Served, hub: str) -> None:
    """Sends of several connections to one partition get one order, without gaps."""

    async def send_ten(name: str) -> None:
        async with served.async_producer(hub) as producer:
            for number in range(10):
                await producer.send_event(EventData(f"{name}{number}"), partition_id="0")

    await asyncio.wait_for(asyncio.gather(*(send_ten(name) for name in "abc")), WAIT_SECONDS)
    received = await asyncio.to_thread(receive, served, hub, "0", 30)

    assert [event.sequence_number for event in received] == list(range(30))
    by_sender = [[body for body in bodies(received) if body[0] == name] for name in "abc"]
    assert by_sender == [[f"{name}{number}" for number in range(10)] for name in "abc"]


def _data(event: EventData) -> bytes:
    """Return a data body, which the SDK yields in pieces."""
    pieces: Any = event.body
    return b"".join(pieces)


def _sequences(event: EventData) -> list[list[Any]]:
    """Return a sequence body, which the SDK yields in pieces."""
    pieces: Any = event.body
    return list(pieces)
