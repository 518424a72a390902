"""One connection: a request at a time, and what arrives goes to its answer.

| it has     | and then                                   | it is                          |
|------------|--------------------------------------------|--------------------------------|
| an answer  | the answer is over, may reuse, request out | idle, given to the pool        |
| an answer  | the answer is over otherwise               | dropped                        |
| an answer  | the other side closes                      | told to the answer, dropped    |
| none: idle | anything arrives, or the other side closes | dropped: nobody asked          |
"""

import asyncio
import select
from typing import Any, Protocol, cast

from meter.adapters.upstream.answer import Answer
from meter.adapters.upstream.request import Address


class Keeper(Protocol):
    """Who has the connections that are open. They all receive into `received`: what one has there is
    parsed before anything else is received.
    """

    received: memoryview

    def opened(self, connection: "Connection") -> None:
        """It is there."""

    def idle(self, connection: "Connection") -> None:
        """Another request may have it."""

    def lost(self, connection: "Connection") -> None:
        """It is gone."""


class Connection(asyncio.BufferedProtocol):
    """`is_request_out` is set by the sender: all of the request has been written."""

    def __init__(self, address: Address, keeper: Keeper) -> None:
        self.address = address
        self.opened_at = self.idle_since = 0.0
        self.is_request_out = True
        self._keeper = keeper
        self._answer: Answer | None = None
        self._transport: asyncio.Transport | None = None
        self._writable: asyncio.Future[None] | None = None
        self._poll: select.poll | None = None

    def begin(self, answer: Answer, data: bytes | memoryview) -> None:
        """Write a request, or its beginning; what arrives from now on is its answer."""
        if self._transport is None:
            answer.fail(ConnectionResetError("the connection ended before the request began"))
            return
        self._answer = answer
        self._transport.write(data)

    @property
    def takes_more(self) -> bool:
        """Whether the other side has taken most of what was written."""
        return self._writable is None

    async def write(self, data: bytes) -> None:
        """Write more of a body, once the other side has taken most of what was written."""
        self.put(data)
        await self.taken()

    def put(self, data: bytes | memoryview) -> None:
        """Write more of a body, whatever the other side has taken."""
        if self._transport is None or self._transport.is_closing():
            raise ConnectionResetError("the connection ended before the request did")
        self._transport.write(data)

    async def taken(self) -> None:
        """Wait until the other side has taken most of what was written, or never will."""
        if self._writable is not None:
            await self._writable

    def is_fit(self, *, opened_after: float, idle_after: float) -> bool:
        """Whether the other side still listens, has said nothing, and the connection is young.

        Its end, a reset, or a late answer such as 408 may be in the socket before the event loop
        has seen it: then no byte of the next request is lost with it.
        """
        if self.opened_at < opened_after or self.idle_since < idle_after:
            return False
        if self._transport is None or self._transport.is_closing():
            return False
        if self._poll is None:
            self._poll = select.poll()
            self._poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not self._poll.poll(0)

    def drop(self) -> None:
        """End it at once: what is not sent yet is not sent."""
        if self._transport is not None:
            self._transport.abort()

    def pause_reading(self) -> None:
        """Receive nothing for now, so that the other side must wait."""
        if self._transport is not None:
            self._transport.pause_reading()

    def resume_reading(self) -> None:
        """Receive again."""
        if self._transport is not None:
            self._transport.resume_reading()

    # asyncio's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is open, its TLS handshake done."""
        self._transport = cast("asyncio.Transport", transport)
        _share(self._keeper.received, transport)
        self._keeper.opened(self)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's own
        """Where the next bytes are received: asyncio would make 256 KiB for each read, and twice with TLS."""
        return self._keeper.received

    def buffer_updated(self, nbytes: int) -> None:
        """Give what has been received to the answer."""
        answer = self._answer
        if answer is None:
            self.drop()
            return
        answer.feed(self._keeper.received[:nbytes])
        if answer.is_over:
            self._done(answer)

    def eof_received(self) -> None:
        """The other side sends no more; asyncio then closes our side."""
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end_of_input()
        self.drop()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is gone."""
        self._transport = None
        self.resume_writing()
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end_of_input(exc or ConnectionResetError("the connection ended"))
        self._keeper.lost(self)

    def pause_writing(self) -> None:
        """The other side takes less than is written."""
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        """It has taken most of it, or never will."""
        writable, self._writable = self._writable, None
        if writable is not None and not writable.done():
            writable.set_result(None)

    def _done(self, answer: Answer) -> None:
        self._answer = None
        transport = self._transport
        if (
            answer.may_reuse
            and self.is_request_out
            and transport is not None
            and not transport.is_closing()
            and transport.get_write_buffer_size() == 0
        ):
            if answer.is_paused:
                transport.resume_reading()
            self._keeper.idle(self)
        else:
            self.drop()


def _share(received: memoryview, transport: asyncio.BaseTransport) -> None:
    """Have TLS receive records there, too: each is copied before its text takes its place.

    asyncio keeps 256 KiB per connection for them, all of it in memory: with 512 connections 130 MB. The
    attributes are private: without them nothing is done, and a test fails when they change.
    """
    protocol: Any = getattr(transport, "_ssl_protocol", None)
    if hasattr(protocol, "_ssl_buffer_view"):
        protocol._ssl_buffer = protocol._ssl_buffer_view = received
