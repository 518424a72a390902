"""Sends messages over the link that azure-eventhub holds open, without what the SDK does for each.

To send an event, the SDK executed 11,200 bytecode instructions: it encodes the message and the frame around
it field by field, the frame twice, and takes the answer through ten layers. Here all but the events is
encoded once per partition key, and the answer is read where it arrives: 2,900, half of them the event loop's.

The link, its connection, token and counters remain the SDK's. The SDK sends whatever cannot be sent at once:
the link is not open or has no credit, its token is to be renewed, the message is too long for a frame. After
a send it handles time-outs and every answer but the message's acceptance. The attributes used here are
private: without them the SDK sends, and a test fails (docs/decisions/0042).
"""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from io import BytesIO
from struct import Struct
from time import time
from typing import Any

from azure.eventhub._pyamqp._decode import decode_frame
from azure.eventhub._pyamqp._encode import encode_payload
from azure.eventhub._pyamqp.aio._sasl_async import SASLTransport
from azure.eventhub._pyamqp.aio._sender_async import PendingDelivery
from azure.eventhub._pyamqp.constants import (
    MESSAGE_DELIVERY_DONE_STATES,
    SEND_DISPOSITION_ACCEPT,
    CbsAuthState,
    CbsState,
    ConnectionState,
    LinkState,
    MessageDeliveryState,
    SessionState,
)
from azure.eventhub._pyamqp.error import ErrorCondition, MessageException
from azure.eventhub._pyamqp.message import _MessageDelivery
from azure.eventhub._tracing import is_tracing_enabled
from msgspec import Struct as Values

from meter.adapters.hub.message import message_of
from meter.adapters.libraries.eventhub import (
    EventHubError,
    EventHubProducerClient,
    OperationTimeoutError,
)
from meter.errors import PublishFailed
from meter.usage import encode_batch
from meter.waiting.alarms import Alarms

ALL_PARTITIONS = "all-partitions"  # the SDK's name for the link that sends by key
# The SDK, too, waits as long for a frame before it looks at its token and time-outs.
FRAME_SECONDS = 0.2

_FRAME = Struct(">IBBH")
_AMQP, _DISPOSITION = 0, 0x15
# An unsettled transfer in one frame. Numbers have a fixed width, so that its list has a fixed size.
_TRANSFER = Struct(">IBBH7sIcI2s4s10s")
_TO_HANDLE, _TO_ID, _TO_TAG, _TO_PAYLOAD = (
    b"\0S\x14\xc0\x1b\x0bp",
    b"p",
    b"\xa0\x04",
    b"CV\0V\0@@@@@",
)
_DATA = b"\0Su\xb0"  # the section, and of its bytes that four say how many there are

type _Frame = tuple[int, tuple[int, Any]]


class _Open(Values, frozen=True):
    """The SDK's objects of a link that is open."""

    owner: Any
    handler: Any
    link: Any
    session: Any
    connection: Any


class HubLink:
    """The link of a producer client. One event loop owns it.

    `send_timeout_seconds` is how long a message may wait for its answer, `limit_seconds` how long all may
    take, with what the SDK does after that.
    """

    def __init__(
        self,
        producer: EventHubProducerClient,
        *,
        deadlines: Alarms,
        send_timeout_seconds: float,
        limit_seconds: float,
    ) -> None:
        self._producer: Any = producer
        self._deadlines = deadlines
        self._send_timeout_seconds = send_timeout_seconds
        self._limit_seconds = limit_seconds
        self._heads: dict[str, bytes] = {}
        self._is_traced = is_tracing_enabled()  # type: ignore[no-untyped-call]  # the SDK's

    async def send(self, events: Sequence[bytes], key: str) -> bool:
        """Return when the hub has accepted a message; False where nothing was sent, and the SDK must.

        Raises what the SDK raises, and PublishFailed for a message that the hub gave back.
        """
        at = self._open()
        if at is None:
            return False
        until = asyncio.get_running_loop().time() + self._limit_seconds
        try:
            return await self._send(at, events, key, until)
        except EventHubError:
            # As the SDK's `send_event`, which tries a second time. It connects anew where it has to.
            with self._deadlines.limit(until):
                await at.owner.send(
                    message_of(events), partition_key=key, timeout=self._send_timeout_seconds
                )
            return True

    async def keep_alive(self) -> None:
        """Have the SDK renew the link's token, send a frame if one is due, and read what has come.

        Its option `keep_alive` does so, too, but delays each reconnect and close by up to a second.
        """
        with suppress(Exception):  # a broken link is replaced by the next send
            owner = self._producer._producers[ALL_PARTITIONS]
            async with owner._lock:
                await owner._handler.do_work_async()

    def _open(self) -> _Open | None:
        """The link, if a message can be sent on it at once."""
        try:
            owner = self._producer._producers[ALL_PARTITIONS]
            handler = owner._handler
            link = handler._link
            session = link._session
            connection = session._connection
            token = handler._cbs_authenticator
            is_open = (
                owner.running
                and not owner._lock.locked()
                and not owner._lock._waiters  # who was first may leave another link
                and not handler._shutdown
                and link.state is LinkState.ATTACHED
                and link.current_link_credit > 0
                and not link._pending_deliveries
                and session.state is SessionState.MAPPED
                and session.remote_incoming_window > 0
                and token.state is CbsState.OPEN
                and token.auth_state is CbsAuthState.OK
                and token._expires_on - time() > token._refresh_window
                and _is_plain(connection)
                and not self._is_traced
            )
        except (AttributeError, KeyError):  # never opened, or another SDK
            return None
        return _Open(owner, handler, link, session, connection) if is_open else None

    async def _send(self, at: _Open, events: Sequence[bytes], key: str, until: float) -> bool:
        async with at.owner._lock:
            head = self._heads.get(key) or self._head_of(at, key)
            body = encode_batch(events)
            size = _TRANSFER.size + len(head) + 4 + len(body)
            if size > at.connection._remote_max_frame_size:
                return False
            number = _write(at, size, head, body)
            frame = await self._next_frame(at.connection._transport)
            if _is_accepted(at, frame, number):
                at.connection._last_frame_received_time = time()
            else:
                with self._deadlines.limit(until):
                    await self._settle(at, number, frame)
        return True

    def _head_of(self, at: _Open, key: str) -> bytes:
        """What comes before the length of the events, as the SDK encodes it."""
        message = at.owner._wrap_eventdata(message_of(()), key)._message._replace(data=None)
        output = bytearray()
        encode_payload(output, message)
        self._heads[key] = head = bytes(output) + _DATA
        return head

    async def _next_frame(self, transport: Any) -> _Frame | None:
        """The next frame, with its channel; None where the SDK has to read it, or to wait for it."""
        header = rest = b""
        try:
            with self._deadlines.limit(asyncio.get_running_loop().time() + FRAME_SECONDS):
                header = await transport.reader.readexactly(_FRAME.size)
                size, words, kind, channel = _FRAME.unpack(header)
                rest = await transport.reader.readexactly(size - _FRAME.size)
            if kind != _AMQP:
                raise ValueError(f"a frame of type {kind}")
            return channel, decode_frame(memoryview(rest)[4 * words - _FRAME.size :])
        except BaseException as exc:
            transport._read_buffer = BytesIO(header + rest)  # where the SDK reads on
            if isinstance(exc, Exception):
                return None
            raise

    async def _settle(self, at: _Open, number: int, frame: _Frame | None) -> None:
        """Have the SDK handle a frame, and all that follow until it knows how a delivery ended."""
        message = _MessageDelivery(None, MessageDeliveryState.WaitingForSendAck)  # type: ignore[no-untyped-call]  # the SDK's
        delivery = PendingDelivery(  # type: ignore[no-untyped-call]  # the SDK's
            on_delivery_settled=partial(at.handler._on_send_complete_async, message),
            timeout=self._send_timeout_seconds,
            network_trace_params=at.link.network_trace_params,
        )
        delivery.sent = True
        delivery.start = at.connection._last_frame_sent_time
        delivery.frame = {"delivery_id": number}
        at.link._pending_deliveries.append(delivery)
        try:
            if frame is not None:
                await at.connection._process_incoming_frame(*frame)
            while message.state not in MESSAGE_DELIVERY_DONE_STATES and not delivery.settled:
                if not await at.handler.do_work_async():
                    raise MessageException(
                        condition=ErrorCondition.ClientError, description="the link is closed"
                    )
            if message.error is not None:
                raise message.error
        except TimeoutError as exc:
            timed_out = OperationTimeoutError(message=str(exc), details=exc)  # type: ignore[arg-type]  # as the SDK
            raise await at.owner._handle_exception(timed_out) from exc
        except Exception as exc:
            raise await at.owner._handle_exception(exc) from exc
        if message.state not in MESSAGE_DELIVERY_DONE_STATES:
            # Released or modified, which the SDK does not know: it would wait for another answer.
            raise PublishFailed("the hub has given a message back")


def _is_plain(connection: Any) -> bool:
    """Whether frames can be written to a connection, and read from it, as they are."""
    transport = connection._transport
    read = transport._read_buffer
    return (
        connection.state is ConnectionState.OPENED
        and connection._error is None
        and connection._idle_timeout is None
        and not connection._network_trace
        and type(transport) is SASLTransport
        and read.tell() == read.getbuffer().nbytes
    )


def _write(at: _Open, size: int, head: bytes, body: bytes) -> int:
    """Write a message of that size with its frame, and count it; gives its delivery's number.

    The socket need not have taken it: the next message waits until this one is accepted.
    """
    link, session = at.link, at.session
    number: int = session.next_outgoing_id
    session.next_outgoing_id += 1
    session.remote_incoming_window -= 1
    session.outgoing_window -= 1
    link.delivery_count += 1
    link.current_link_credit -= 1
    tag = link.delivery_count.to_bytes(4)
    places = size, 2, 0, session.channel, _TO_HANDLE, link.handle, _TO_ID, number, _TO_TAG, tag
    frame = _TRANSFER.pack(*places, _TO_PAYLOAD)
    at.connection._last_frame_sent_time = time()
    at.connection._transport.writer.write(b"".join((frame, head, len(body).to_bytes(4), body)))
    return number


def _is_accepted(at: _Open, frame: _Frame | None, number: int) -> bool:
    """Whether a frame settles just this delivery, as accepted."""
    if frame is None:
        return False
    channel, (kind, fields) = frame
    return (
        kind == _DISPOSITION
        and at.connection._incoming_endpoints.get(channel) is at.session
        and fields[1] == number == (fields[2] or number)
        and bool(fields[3])
        and SEND_DISPOSITION_ACCEPT in (fields[4] or ())
    )
