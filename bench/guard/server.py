"""The server's side of one streamed call, on a transport that no socket has: uvicorn's own sending."""

import asyncio
import logging

import httptools
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

log = logging.getLogger(__name__)


class ServedCaller:
    """Sends one request whole, stays until the end, and keeps what it gets."""

    def __init__(self, scope: Scope, body: bytes) -> None:
        self._transport = _Transport()
        self.cycle = RequestResponseCycle(
            scope=scope,  # type: ignore[arg-type]  # uvicorn's own kind
            transport=self._transport,
            flow=FlowControl(self._transport),
            logger=log,
            access_logger=log,
            access_log=False,
            default_headers=[],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=True,
            on_response=lambda: None,
        )
        self.cycle.body += body
        self.cycle.more_body = False
        self.cycle.message_event.set()
        self.receive: Receive = self.cycle.receive  # type: ignore[assignment]  # likewise
        self.send: Send = self.cycle.send  # type: ignore[assignment]  # likewise

    @property
    def written(self) -> bytes:
        """All that went to the connection."""
        return bytes(self._transport.written)

    @property
    def body(self) -> bytes:
        """What was sent, out of its chunks."""
        parts = _Parts()
        httptools.HttpResponseParser(parts).feed_data(self.written)
        return b"".join(parts.parts)


class _Parts:
    def __init__(self) -> None:
        self.parts: list[bytes] = []
        self.on_body = self.parts.append


class _Transport(asyncio.Transport):
    """Takes whatever is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.write = self.written.extend  # type: ignore[assignment,method-assign]  # no instruction of ours
