"""uvicorn's HTTP/1.1, whose connections receive into one buffer, and gathered bodies where they stay.

asyncio makes 256 KiB for each read otherwise, and the parser copies what it finds of a body.
"""

import asyncio
from typing import ClassVar, cast

import httptools
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from meter.adapters.functions.arriving import ArrivingBody

RECEIVED_BYTES = 262_144  # as asyncio; at most so much is read at once


class ReceivingHttp(HttpToolsProtocol, asyncio.BufferedProtocol):
    """One connection. `received` is its server's: what it has is parsed before anything else is received."""

    received: ClassVar[memoryview]
    _arriving: ArrivingBody | None = None  # of the request whose head came last

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's own
        """Where the next bytes are received: of a body that is gathered where they stay."""
        arriving = self._arriving
        if arriving is None or not arriving.unparsed:
            return self.received
        return arriving.room() if arriving.is_gathered else self.received[: arriving.unparsed]

    def buffer_updated(self, nbytes: int) -> None:
        """Take what has been received."""
        arriving = self._arriving
        if arriving is None or not arriving.unparsed:
            self.data_received(cast(bytes, self.received[:nbytes]))  # the parser takes either
        elif not self.transport.is_closing():
            self._take_unparsed(arriving, nbytes)

    def _take_unparsed(self, arriving: ArrivingBody, size: int) -> None:
        """Take bytes of a body that the parser does not see; behind them another one begins anew."""
        if arriving.is_gathered:
            arriving.fill(size)
            self.cycle.body = cast(bytearray, arriving)
        else:  # it was given up
            arriving.unparsed -= size
            self.on_body(bytes(self.received[:size]))
        if not arriving.unparsed:
            self.on_message_complete()
            self.parser = httptools.HttpRequestParser(self)
            self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn's


def buffer() -> memoryview:
    """What the connections of one server receive into."""
    return memoryview(bytearray(RECEIVED_BYTES))
