"""The three kinds of link: intake (deliveries in), feed (events out) and reply (answers out).

A link sees its session only through `Outlet`; the session sees a link only through its class.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, Protocol

from local.eventhubs.broker import Partition
from local.eventhubs.frames import MAX_MESSAGE_BYTES
from local.eventhubs.message import annotate
from local.eventhubs.performatives import Condition, Flow, Refusal, Transfer

INTAKE_CREDIT: Final = 1000
MAX_WAITING_REPLIES: Final = 100
FEED_TURN_EVENTS: Final = 512  # per turn of the event loop, so that no reader starves another

_SERIAL: Final = 0xFFFFFFFF  # counts are serial numbers of 32 bits, RFC 1982


class Outlet(Protocol):
    """The part of a session that a link may use."""

    @property
    def can_send(self) -> bool:
        """Whether the peer's window and the socket take another message now."""

    def send_message(self, handle: int, payload: bytes) -> None:
        """Send one settled delivery."""

    def send_flow(self, handle: int, delivery_count: int, credit: int, *, drain: bool) -> None:
        """Send this link's credit to the peer."""

    def send_disposition(self, delivery_id: int, refusal: Refusal | None) -> None:
        """Accept or reject a delivery."""

    def detach(self, handle: int, refusal: Refusal) -> None:
        """End a link from this side."""


class Intake:
    """Joins the frames of each delivery, hands it over whole and answers with its outcome.

    A delivery over the size limit is not kept: its frames are counted and dropped, and the last
    one is answered with a rejection that names the cause; the link stays usable.
    """

    def __init__(
        self, outlet: Outlet, handle: int, receive: Callable[[bytes, int], Refusal | None]
    ) -> None:
        self._outlet = outlet
        self._handle = handle
        self._receive = receive
        self._delivery_count = 0
        self._credit = 0
        self._first: Transfer | None = None
        self._chunks: list[bytes] = []
        self._size = 0

    def start(self) -> None:
        """Grant the first credit."""
        self.grant()

    def grant(self) -> None:
        """Restore the peer's full credit."""
        self._credit = INTAKE_CREDIT
        self._outlet.send_flow(self._handle, self._delivery_count, self._credit, drain=False)

    def on_transfer(self, transfer: Transfer) -> None:
        """Take one frame; on the last of a delivery, hand the delivery over."""
        first = self._first or transfer
        self._first = first
        self._size += len(transfer.payload)
        if self._size <= MAX_MESSAGE_BYTES:
            self._chunks.append(transfer.payload)
        else:
            self._chunks.clear()
        if transfer.more and not transfer.aborted:
            return
        payload, size = b"".join(self._chunks), self._size
        self._first, self._chunks, self._size = None, [], 0
        if not transfer.aborted:
            settled = first.settled or transfer.settled
            self._finish(self._hand_over(payload, size, first), first, settled=settled)
        self._count()

    def on_flow(self, flow: Flow) -> None:
        """Answer a peer that requests the link's state."""
        if flow.echo:
            self._outlet.send_flow(self._handle, self._delivery_count, self._credit, drain=False)

    def close(self) -> None:
        """Drop an unfinished delivery."""
        self._chunks.clear()

    def _hand_over(self, payload: bytes, size: int, first: Transfer) -> Refusal | None:
        if size > MAX_MESSAGE_BYTES:
            return Refusal(
                Condition.MESSAGE_SIZE_EXCEEDED,
                f"the message of {size} bytes exceeds the limit of {MAX_MESSAGE_BYTES} bytes",
            )
        return self._receive(payload, first.message_format)

    def _finish(self, refusal: Refusal | None, first: Transfer, *, settled: bool) -> None:
        if not settled:
            self._outlet.send_disposition(first.delivery_id or 0, refusal)
        elif refusal is not None:
            # A settled delivery gets no verdict, so the error can only be reported by ending the link.
            self._outlet.detach(self._handle, refusal)

    def _count(self) -> None:
        self._delivery_count = (self._delivery_count + 1) & _SERIAL
        self._credit -= 1
        if self._credit <= INTAKE_CREDIT // 2:
            self.grant()


class _Credit:
    """The credit granted by the peer, kept as in AMQP part 2, section 2.6.7."""

    def __init__(self) -> None:
        self.delivery_count = 0
        self.available = 0
        self.drains = False

    def update(self, flow: Flow) -> None:
        peer_count = flow.delivery_count or 0
        self.available = max(0, peer_count + flow.link_credit - self.delivery_count)
        self.drains = flow.drain

    def spend(self, count: int = 1) -> None:
        self.delivery_count = (self.delivery_count + count) & _SERIAL
        self.available -= count


class Feed:
    """Delivers one partition to one reader, as fast as credit, window and socket allow."""

    def __init__(
        self,
        outlet: Outlet,
        handle: int,
        partition: Partition,
        first: int,
        *,
        owner_level: int | None,
        tracks_last_enqueued: bool,
        on_close: Callable[["Feed"], None],
    ) -> None:
        self._outlet = outlet
        self._handle = handle
        self._partition = partition
        self._next = first
        self._owner_level = owner_level
        self._tracks_last_enqueued = tracks_last_enqueued
        self._on_close = on_close
        self._credit = _Credit()
        self._is_woken = False
        self._is_closed = False

    @property
    def owner_level(self) -> int | None:
        """The epoch the reader attached with."""
        return self._owner_level

    def start(self) -> None:
        """Wait for credit."""

    def on_flow(self, flow: Flow) -> None:
        """Take new credit and use it."""
        self._credit.update(flow)
        self._pump()
        if flow.echo:
            self._tell(drain=False)

    def wake(self) -> None:
        """Schedule a delivery, outside of the call that appended."""
        if not self._is_woken:
            self._is_woken = True
            asyncio.get_running_loop().call_soon(self._pump)

    def steal(self) -> None:
        """End the link with the reason that another reader took over."""
        refusal = Refusal(
            Condition.LINK_STOLEN,
            "New receiver with an owner level took over partition"
            f" {self._partition.partition_id}; this receiver is disconnected.",
        )
        self._outlet.detach(self._handle, refusal)

    def close(self) -> None:
        """Stop delivering."""
        self._is_closed = True
        self._on_close(self)

    def _pump(self) -> None:
        self._is_woken = False
        if self._is_closed:
            return
        log = self._partition.log
        events = log.read(self._next, min(self._credit.available, FEED_TURN_EVENTS))
        last = self._partition.last_enqueued() if self._tracks_last_enqueued else None
        for event in events:
            if not self._outlet.can_send:
                return  # the session resumes every link when there is room again
            self._outlet.send_message(self._handle, annotate(event, last))
            self._credit.spend()
            self._next += 1
        if self._credit.available and self._next < len(log):
            self.wake()
        elif self._credit.available and self._credit.drains:
            self._credit.spend(self._credit.available)
            self._tell(drain=True)

    def _tell(self, *, drain: bool) -> None:
        credit = self._credit
        self._outlet.send_flow(self._handle, credit.delivery_count, credit.available, drain=drain)


class Reply:
    """Sends the answers of a request node to the requesting peer."""

    def __init__(self, outlet: Outlet, handle: int, node: str, target: str) -> None:
        self._outlet = outlet
        self._handle = handle
        self.node = node
        self.target = target
        self._credit = _Credit()
        self._waiting: deque[bytes] = deque()

    def start(self) -> None:
        """Wait for credit."""

    def answer(self, payload: bytes) -> Refusal | None:
        """Send an answer, or keep it until the peer grants credit."""
        if len(self._waiting) >= MAX_WAITING_REPLIES:
            return Refusal(
                Condition.RESOURCE_LIMIT_EXCEEDED,
                f"{MAX_WAITING_REPLIES} answers wait for credit on the link that receives them",
            )
        self._waiting.append(payload)
        self.wake()
        return None

    def on_flow(self, flow: Flow) -> None:
        """Take new credit and use it."""
        self._credit.update(flow)
        self.wake()
        if self._credit.available and self._credit.drains:
            self._credit.spend(self._credit.available)
            self._outlet.send_flow(self._handle, self._credit.delivery_count, 0, drain=True)

    def wake(self) -> None:
        """Send queued answers, as far as credit and window allow."""
        while self._waiting and self._credit.available and self._outlet.can_send:
            self._outlet.send_message(self._handle, self._waiting.popleft())
            self._credit.spend()

    def close(self) -> None:
        """Drop queued answers."""
        self._waiting.clear()


type Link = Intake | Feed | Reply
