"""Sending over the SDK's open link: the same messages, errors and reconnects as with the SDK's own send."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from azure.eventhub._pyamqp._encode import encode_frame
from azure.eventhub._pyamqp.outcomes import Accepted, Modified, Released
from azure.eventhub._pyamqp.performatives import DispositionFrame
from azure.eventhub.aio import EventHubProducerClient
from azure.eventhub.exceptions import (
    EventDataSendError,
    EventHubError,
)

from local.eventhubs.links import INTAKE_CREDIT
from meter.adapters.hub.link import ALL_PARTITIONS, HubLink
from meter.adapters.hub.message import message_of
from meter.errors import PublishFailed
from meter.usage import BATCH_CONTENT_TYPE
from meter.waiting.alarms import Alarms
from tests.contract.test_publisher import Hub, producer_at
from tests.local.eventhubs.test_harness import HUB, Served, receive_async

KEY = "key"
LONGER_THAN_A_FRAME = b"1" * 66_000


@pytest.fixture
async def hub(tmp_path: Path) -> AsyncIterator[Hub]:
    hub = Hub(tmp_path)
    await hub.start()
    yield hub
    await hub.stop()


class Sender:
    """A producer client whose link is open, the link, and how often the SDK itself was asked to send."""

    def __init__(self, producer: EventHubProducerClient, link: HubLink) -> None:
        self.producer = producer
        self.link = link
        self.sdk_sends = 0
        own = self.owner.send

        async def send(*arguments: Any, **options: Any) -> None:
            self.sdk_sends += 1
            await own(*arguments, **options)

        self.owner.send = send

    @property
    def owner(self) -> Any:
        """The SDK's object that has the link."""
        return self.producer._producers[ALL_PARTITIONS]

    async def send(self, event: bytes) -> bool:
        """Whether the link has sent it; else the SDK has."""
        is_sent = await self.link.send([event], KEY)
        if not is_sent:
            await self.producer.send_event(message_of([event]), partition_key=KEY, timeout=5)
        return is_sent


@asynccontextmanager
async def sender_at(
    port: int, *, send_timeout_seconds: float = 5.0, limit_seconds: float = 15.0
) -> AsyncIterator[Sender]:
    producer = producer_at(port)
    await producer.create_batch()
    link = HubLink(
        producer,
        deadlines=Alarms(),
        send_timeout_seconds=send_timeout_seconds,
        limit_seconds=limit_seconds,
    )
    try:
        yield Sender(producer, link)
    finally:
        await producer.close()


async def bodies(hub: Hub, count: int) -> list[str]:
    """What the hub holds, in order."""
    events = await receive_async(Served(port=hub.port).async_consumer(HUB), count)
    return [event.body_as_str() for event in events]


async def test_an_open_link_sends_without_the_sdk(hub: Hub) -> None:
    """Fails where a private attribute has changed, and the SDK's own send would be used."""
    async with sender_at(hub.port) as sender:
        sent = [await sender.send(b"%d" % number) for number in range(3)]

        assert sent == [True, True, True]
        assert sender.sdk_sends == 0
    assert await bodies(hub, 3) == ["[0]", "[1]", "[2]"]


async def test_a_message_is_as_the_sdk_sends_it(hub: Hub) -> None:
    """Bytes and counters alike, for lengths of one byte and of four."""
    events = [b"1", b"2" * 300]
    async with sender_at(hub.port) as sender:
        for event in events:
            await sender.link.send([event], KEY)
            await sender.producer.send_event(message_of([event]), partition_key=KEY)
        counted = _counters(sender.owner)
    async with sender_at(hub.port) as sender:
        for event in [*events, *events]:
            await sender.producer.send_event(message_of([event]), partition_key=KEY)
        by_the_sdk = _counters(sender.owner)

    found = await receive_async(Served(port=hub.port).async_consumer(HUB), 8)
    texts = [each.body_as_str() for each in found]
    assert counted == by_the_sdk
    assert texts[0:2] == texts[4:5] * 2
    assert texts[2:4] == texts[5:6] * 2
    for each in found:
        assert each.partition_key == KEY.encode()
        assert each.content_type == BATCH_CONTENT_TYPE
        assert each.raw_amqp_message.header == found[1].raw_amqp_message.header
        assert each.raw_amqp_message.properties == found[1].raw_amqp_message.properties
        assert each.raw_amqp_message.application_properties == {}


def _counters(owner: Any) -> list[int]:
    link = owner._handler._link
    session = link._session
    windows = [session.remote_incoming_window, session.outgoing_window]
    return [
        link.delivery_count,
        link.current_link_credit,
        session.next_outgoing_id,
        *windows,
    ]


async def test_credit_is_restored_as_it_is_used(hub: Hub) -> None:
    """The hub's flow frames are the SDK's to handle; each message is sent once."""
    async with sender_at(hub.port) as sender:
        for _ in range(INTAKE_CREDIT + 10):
            assert await sender.send(b"1")
        link = sender.owner._handler._link

        assert link.delivery_count == INTAKE_CREDIT + 10
        assert 0 < link.current_link_credit <= INTAKE_CREDIT


@pytest.mark.parametrize("attribute", ["credit", "window", "token", "idle", "pending", "trace"])
async def test_what_is_out_of_the_ordinary_is_left_to_the_sdk(hub: Hub, attribute: str) -> None:
    """A link without credit, a token to be renewed: once the SDK has sent, the link sends again."""
    async with sender_at(hub.port) as sender:
        handler = sender.owner._handler
        link, token = handler._link, handler._cbs_authenticator
        connection = link._session._connection
        if attribute == "credit":
            link.current_link_credit = 0
        elif attribute == "window":
            link._session.remote_incoming_window = 0
        elif attribute == "token":
            token._refresh_window = 10_000
        elif attribute == "idle":
            connection._idle_timeout = 100.0
        elif attribute == "trace":
            connection._network_trace = True
        else:
            link._pending_deliveries.append(None)
        is_sent = await sender.link.send([b"1"], KEY)
        if attribute == "pending":
            link._pending_deliveries.clear()
        elif attribute == "window":
            link._session.remote_incoming_window = 10
        await sender.send(b"2")
        connection._idle_timeout, connection._network_trace = None, False

        assert not is_sent
        assert await sender.send(b"3")


async def test_a_link_that_is_in_use_is_left_to_the_sdk(hub: Hub) -> None:
    """It sends when the other send has ended, as it always does."""
    async with sender_at(hub.port) as sender:
        sent = await asyncio.gather(*(sender.send(b"%d" % number) for number in range(3)))

    assert sent == [True, False, False]
    assert await bodies(hub, 3) == ["[0]", "[1]", "[2]"]


async def test_a_message_longer_than_a_frame_is_left_to_the_sdk(hub: Hub) -> None:
    """Which divides it."""
    async with sender_at(hub.port) as sender:
        assert not await sender.send(LONGER_THAN_A_FRAME)
        assert await sender.send(b"1")


async def test_a_link_that_was_never_opened_is_left_to_the_sdk(hub: Hub) -> None:
    """Which opens it."""
    producer = producer_at(hub.port)
    link = HubLink(producer, deadlines=Alarms(), send_timeout_seconds=5, limit_seconds=15)
    is_sent = await link.send([b"1"], KEY)
    await producer.close()

    assert not is_sent


async def test_a_refusal_is_the_same_error_after_as_many_tries(hub: Hub) -> None:
    """The SDK sends what was refused once more."""
    async with sender_at(hub.port) as sender:
        seen: list[tuple[str | None, int]] = []
        for refused in (
            lambda: sender.producer.send_event(message_of([b"1"]), partition_key=KEY),
            lambda: sender.link.send([b"1"], KEY),
        ):
            hub.busy_sends = 1000
            with pytest.raises(EventDataSendError) as raised:
                await refused()
            seen.append((raised.value.error, hub.busy_sends))
        hub.busy_sends = 0

        assert seen == [("server-busy", 998)] * 2
        assert await sender.send(b"2")
    assert await bodies(hub, 1) == ["[2]"]


async def test_a_connection_that_ended_is_the_same_error_and_is_replaced(hub: Hub) -> None:
    """Whoever sends: the next send is over another connection, and so is the link's next."""
    errors: list[tuple[type[EventHubError], str]] = []
    for sends_directly in (True, False):
        async with sender_at(hub.port) as sender:
            await sender.send(b"0")
            await hub.stop()
            await hub.start()
            own = sender.producer.send_event(message_of([b"1"]), partition_key=KEY)
            sending = sender.send(b"1") if sends_directly else own
            with pytest.raises(EventHubError) as raised:
                await sending
            own.close()
            errors.append((raised.type, str(raised.value)))
            await sender.send(b"2")

            assert await sender.send(b"3")
    assert errors[0] == errors[1]


async def test_behind_another_who_waits_for_the_link_the_sdk_sends(hub: Hub) -> None:
    """Until it has the link this one may be another, or without credit."""
    async with sender_at(hub.port) as sender:
        lock = sender.owner._lock
        await lock.acquire()
        waiting = asyncio.create_task(lock.acquire())
        await asyncio.sleep(0)
        lock.release()  # it has been given to who waits, who has not run yet
        async with asyncio.timeout(5):
            is_sent = await sender.link.send([b"1"], KEY)
        await waiting
        lock.release()

        assert not is_sent
        assert await sender.send(b"2")
    assert await bodies(hub, 1) == ["[2]"]


def disposition(sender: Sender, state: object, *, kind: int = 0, beside: int = 0) -> bytes:
    """What settles the next message, or seems to."""
    session = sender.owner._handler._link._session
    [channel] = session._connection._incoming_endpoints
    frame = DispositionFrame(
        role=True,
        first=session.next_outgoing_id,
        last=None,
        settled=True,
        state=state,
        batchable=None,
    )
    head, body = encode_frame(frame)
    assert body is not None
    return b"".join((head[:5], bytes([kind]), (channel + beside).to_bytes(2), body))


@pytest.mark.parametrize("state", [Released(), Modified(None, None, None)])
async def test_a_message_that_the_hub_gives_back_is_told_at_once(hub: Hub, state: object) -> None:
    """The SDK, which does not know these answers, would wait for another one."""
    async with relay_to(hub) as (relay, port), sender_at(port) as sender:
        relay.answers = [disposition(sender, state)]
        async with asyncio.timeout(3):
            with pytest.raises(PublishFailed):
                await sender.link.send([b"0"], KEY)

        assert sender.sdk_sends == 0
        assert await sender.send(b"1")
    assert (await bodies(hub, 2))[-1] == "[1]"


@pytest.mark.parametrize(
    "other", [{"kind": 1}, {"beside": 7}], ids=["no frame of AMQP", "no session of ours"]
)
async def test_what_is_no_answer_to_the_message_is_not_taken_for_one(
    hub: Hub, other: dict[str, int]
) -> None:
    """The SDK decides what to do with it."""
    async with relay_to(hub) as (relay, port), sender_at(port, send_timeout_seconds=1.0) as sender:
        relay.answers = [disposition(sender, Accepted(), **other)]
        await sender.link.send([b"0"], KEY)

        assert sender.sdk_sends == 1
        assert await sender.send(b"1")


class Relay:
    """In front of the hub: hands its bytes over as they come, in pieces with pauses, or not at all.

    `answers` are handed to the caller in place of what the hub says next.
    """

    def __init__(self, to: int) -> None:
        self._to = to
        self.pieces: list[int] = []
        self.answers: list[bytes] = []
        self._silent: set[asyncio.StreamWriter] = set()
        self._sinks: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection both ways."""
        hub_reader, hub_writer = await asyncio.open_connection("127.0.0.1", self._to)
        for source, sink, may_split in (
            (reader, hub_writer, False),
            (hub_reader, writer, True),
        ):
            task = asyncio.create_task(self._pump(source, sink, may_split=may_split))
            self._tasks.add(task)
        self._sinks.add(writer)

    def go_silent(self) -> None:
        """Hand nothing more over on the connections that there are."""
        self._silent |= self._sinks

    async def close(self) -> None:
        """End all."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _pump(
        self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, *, may_split: bool
    ) -> None:
        while data := await source.read(65_536):
            if sink in self._silent:
                continue
            if may_split and self.answers:
                data = self.answers.pop(0)
            while may_split and self.pieces and data:
                size = self.pieces.pop(0)
                sink.write(data[:size])
                data = data[size:]
                await asyncio.sleep(0.3)  # longer than a frame is waited for
            sink.write(data)
        sink.close()


@asynccontextmanager
async def relay_to(hub: Hub) -> AsyncIterator[tuple[Relay, int]]:
    relay = Relay(hub.port)
    server = await asyncio.start_server(relay.accept, "127.0.0.1", 0)
    try:
        yield relay, server.sockets[0].getsockname()[1]
    finally:
        await relay.close()
        server.close()


@pytest.mark.parametrize("pieces", [[1], [8], [3, 9], [20]])
async def test_an_answer_in_pieces_is_read_on_by_the_sdk(hub: Hub, pieces: list[int]) -> None:
    """No byte of it is lost, or the connection would be of no use."""
    async with relay_to(hub) as (relay, port), sender_at(port) as sender:
        relay.pieces = list(pieces)
        sent = [await sender.send(b"%d" % number) for number in range(3)]

        assert sent == [True, True, True]
        assert sender.sdk_sends == 0
    assert await bodies(hub, 3) == ["[0]", "[1]", "[2]"]


async def test_a_send_that_is_cancelled_leaves_the_link_usable(hub: Hub) -> None:
    """Amid an answer, too; what was sent may arrive."""
    async with relay_to(hub) as (relay, port), sender_at(port) as sender:
        relay.pieces = [8]
        sending = asyncio.create_task(sender.link.send([b"0"], KEY))
        await asyncio.sleep(0.1)
        sending.cancel()
        await asyncio.wait([sending])
        await sender.send(b"1")

        assert sending.cancelled()
        assert await sender.send(b"2")
    assert await bodies(hub, 3) == ["[0]", "[1]", "[2]"]


async def test_without_an_answer_the_sdk_times_out_and_reconnects(hub: Hub) -> None:
    """After the seconds that it would have waited itself; its second try is over another connection."""
    async with relay_to(hub) as (relay, port), sender_at(port, send_timeout_seconds=1.0) as sender:
        relay.go_silent()
        began = asyncio.get_running_loop().time()
        await sender.link.send([b"0"], KEY)
        took = asyncio.get_running_loop().time() - began

        assert sender.sdk_sends == 1
        assert took >= 1.0
        assert await sender.send(b"1")


async def test_an_sdk_that_does_not_return_is_given_up(hub: Hub) -> None:
    """It is cancelled after the limit."""
    async with relay_to(hub) as (relay, port), sender_at(port, limit_seconds=0.6) as sender:
        relay.go_silent()
        with pytest.raises(TimeoutError):
            await sender.link.send([b"0"], KEY)


async def test_a_hub_that_sends_no_frames_is_left_to_the_sdk(hub: Hub) -> None:
    """What cannot be read as a frame ends the connection; the SDK sends again over the next."""
    async with sender_at(hub.port) as sender:
        transport = sender.owner._handler._connection._transport
        transport.reader.feed_data(b"\0\0\0\x0c\x02\0\0\0\0S\x15@")
        assert await sender.send(b"1")

        assert sender.sdk_sends == 1
        assert await sender.send(b"2")
    assert (await bodies(hub, 2))[-1] == "[2]"


async def test_keeping_alive_never_fails(hub: Hub) -> None:
    """A link that is not open, or is broken, is replaced by the next send."""
    async with sender_at(hub.port) as sender:
        await sender.link.keep_alive()
        assert await sender.send(b"1")
        await hub.stop()
        await sender.link.keep_alive()
        await sender.link.keep_alive()
