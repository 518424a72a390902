"""One AMQP session: transfer windows, and the links attached to it.

A session is this endpoint's side of one channel. Deliveries and transfer frames have 32-bit serial
numbers. Source: OASIS AMQP 1.0, part 2, sections 2.5 and 2.6.
"""

from collections import deque
from typing import Final, Protocol, assert_never

from local.eventhubs.frames import (
    HANDLE_MAX,
    TRANSFER_OVERHEAD_BYTES,
    SessionWindow,
    attach_body,
    begin_body,
    detach_body,
    disposition_body,
    flow_body,
    transfer_body,
)
from local.eventhubs.links import Intake, Link, Reply
from local.eventhubs.performatives import (
    Attach,
    Begin,
    Condition,
    Detach,
    Disposition,
    Flow,
    ProtocolError,
    Refusal,
    Transfer,
)

INCOMING_WINDOW: Final = 5000  # frames; each is handled before the next is read, none is kept
OUTGOING_WINDOW: Final = 5000

_SERIAL: Final = 0xFFFFFFFF


class Wire(Protocol):
    """The part of a connection that a session may use."""

    @property
    def is_congested(self) -> bool:
        """Whether the peer reads more slowly than data is sent to it."""

    @property
    def peer_frame_bytes(self) -> int:
        """The largest frame the peer accepts."""

    def send(self, channel: int, body: bytes) -> None:
        """Send one frame."""


class Linker(Protocol):
    """Creates the link that an attach requests."""

    def offers(self, attach: Attach) -> tuple[str, ...]:
        """The desired capabilities that this endpoint has."""

    def connect(self, attach: Attach, session: "Session") -> Link | Refusal:
        """Return the link, or the reason for refusing it."""


class Session:
    """The windows and links of one channel."""

    def __init__(self, wire: Wire, linker: Linker, channel: int, begin: Begin) -> None:
        self._wire = wire
        self._linker = linker
        self._channel = channel
        self._links: dict[int, Link] = {}
        self._detaching: set[int] = set()  # ended here, the peer's detach is still on its way
        self._next_incoming_id = begin.next_outgoing_id
        self._frames_since_flow = 0
        self._next_outgoing_id = 0
        self._next_delivery_id = 0
        self._peer_window = begin.incoming_window
        self._backlog: deque[bytes] = deque()  # rest of one message larger than the peer's window
        wire.send(channel, begin_body(channel, INCOMING_WINDOW, OUTGOING_WINDOW))

    @property
    def can_send(self) -> bool:
        """Whether the peer's window and the socket take another message now."""
        return self._peer_window > 0 and not self._backlog and not self._wire.is_congested

    def find_reply(self, node: str, reply_to: str | None) -> Reply | None:
        """Return the link that takes this node's answers, newest first."""
        replies = [
            link
            for link in reversed(self._links.values())
            if isinstance(link, Reply) and link.node == node
        ]
        named = [link for link in replies if link.target == reply_to]
        return next(iter(named or replies), None)

    def on_frame(self, frame: Attach | Flow | Transfer | Disposition | Detach) -> None:
        """Handle one frame of the session. Raises `ProtocolError`."""
        match frame:
            case Attach():
                self._on_attach(frame)
            case Flow():
                self._on_flow(frame)
            case Transfer():
                self._on_transfer(frame)
            case Detach():
                self._on_detach(frame)
            case Disposition():
                pass  # everything is sent settled
            case _:
                assert_never(frame)

    def wake(self) -> None:
        """The socket has room again: resume sending."""
        self._flush_backlog()
        for link in list(self._links.values()):
            if not isinstance(link, Intake):
                link.wake()

    def close(self) -> None:
        """Drop every link; nothing more is sent."""
        for link in self._links.values():
            link.close()
        self._links.clear()
        self._backlog.clear()

    def send_message(self, handle: int, payload: bytes) -> None:
        """Send one settled delivery, in as many frames as the peer's frame size requires."""
        delivery_id = self._next_delivery_id
        self._next_delivery_id = (delivery_id + 1) & _SERIAL
        room = self._wire.peer_frame_bytes - TRANSFER_OVERHEAD_BYTES
        for start in range(0, max(len(payload), 1), room):
            more = start + room < len(payload)
            chunk = payload[start : start + room]
            self._backlog.append(transfer_body(handle, delivery_id, chunk, more=more))
        self._flush_backlog()

    def send_flow(self, handle: int, delivery_count: int, credit: int, *, drain: bool) -> None:
        """Send the windows and one link's credit to the peer."""
        self._frames_since_flow = 0
        window = SessionWindow(
            next_incoming_id=self._next_incoming_id,
            incoming_window=INCOMING_WINDOW,
            next_outgoing_id=self._next_outgoing_id,
            outgoing_window=OUTGOING_WINDOW,
        )
        body = flow_body(
            window, handle=handle, delivery_count=delivery_count, credit=credit, drain=drain
        )
        self._wire.send(self._channel, body)

    def send_disposition(self, delivery_id: int, refusal: Refusal | None) -> None:
        """Accept or reject a delivery."""
        self._wire.send(self._channel, disposition_body(delivery_id, refusal))

    def detach(self, handle: int, refusal: Refusal) -> None:
        """End a link from this side."""
        link = self._links.pop(handle, None)
        if link is not None:
            link.close()
            self._detaching.add(handle)
            self._wire.send(self._channel, detach_body(handle, refusal))

    def _on_attach(self, attach: Attach) -> None:
        if attach.handle > HANDLE_MAX:
            raise ProtocolError(Condition.FRAMING_ERROR, f"handle {attach.handle} is too large")
        if attach.handle in self._links or attach.handle in self._detaching:
            raise ProtocolError(Condition.HANDLE_IN_USE, f"handle {attach.handle} is in use")
        link = self._linker.connect(attach, self)
        if isinstance(link, Refusal):
            self._detaching.add(attach.handle)
            self._wire.send(self._channel, attach_body(attach, refused=True))
            self._wire.send(self._channel, detach_body(attach.handle, link))
            return
        self._wire.send(self._channel, attach_body(attach, self._linker.offers(attach)))
        self._links[attach.handle] = link
        link.start()

    def _on_flow(self, flow: Flow) -> None:
        was_blocked = not self.can_send
        next_incoming_id = flow.next_incoming_id or 0
        in_flight = (self._next_outgoing_id - next_incoming_id) & _SERIAL
        self._peer_window = max(0, flow.incoming_window - in_flight)
        self._flush_backlog()
        if was_blocked:
            self.wake()  # the window belongs to the session: any link may have waited for it
        if flow.handle is None:
            return
        # A flow may cross the detach of its link; it is then ignored.
        link = self._links.get(flow.handle)
        if link is not None:
            link.on_flow(flow)

    def _on_transfer(self, transfer: Transfer) -> None:
        self._next_incoming_id = (self._next_incoming_id + 1) & _SERIAL
        self._frames_since_flow += 1
        if transfer.handle in self._detaching:
            return
        link = self._links.get(transfer.handle)
        if not isinstance(link, Intake):
            raise ProtocolError(
                Condition.UNATTACHED_HANDLE, f"handle {transfer.handle} is no sending link"
            )
        link.on_transfer(transfer)
        if self._frames_since_flow >= INCOMING_WINDOW // 2:
            link.grant()

    def _on_detach(self, detach: Detach) -> None:
        self._detaching.discard(detach.handle)
        link = self._links.pop(detach.handle, None)
        if link is not None:
            link.close()
            self._wire.send(self._channel, detach_body(detach.handle))

    def _flush_backlog(self) -> None:
        while self._backlog and self._peer_window > 0:
            self._wire.send(self._channel, self._backlog.popleft())
            self._next_outgoing_id = (self._next_outgoing_id + 1) & _SERIAL
            self._peer_window -= 1
