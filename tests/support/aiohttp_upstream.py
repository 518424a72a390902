"""`meter.ports.Upstream` on aiohttp: another client with the same promises, to compare ours with.

A request is written to one connection, once: the backend may have worked on it, so only the caller
of this module may send it again. A pooled connection is looked at before anything is written to
it, and replaced if its other end has closed it.
"""

import asyncio
import select
from collections.abc import AsyncIterator
from typing import Any
from weakref import WeakSet

import aiohttp
from aiohttp.client_proto import ResponseHandler
from aiohttp.client_reqrep import ClientRequest
from aiohttp.connector import Connection
from aiohttp.tracing import Trace
from yarl import URL

from meter.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from meter.ports import Headers, UpstreamAnswer, UpstreamRequest
from meter.waiting.bypass import Bypass

# Shorter than the backends' own idle time, so that calls seldom get a connection just closed.
KEEP_ALIVE_SECONDS = 15
MAX_HEADER_BYTES = 65_536
_NOT_CONNECTED = (aiohttp.ConnectionTimeoutError, aiohttp.ClientConnectorError, aiohttp.InvalidURL)


class AiohttpUpstream:
    """Sends requests to backends. Must be closed."""

    def __init__(self, *, connect_timeout_seconds: float, idle_timeout_seconds: float) -> None:
        self._session = aiohttp.ClientSession(
            connector=_Connector(),
            middlewares=(_send_once,),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            skip_auto_headers=("content-type",),  # a POST without a body has none
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=connect_timeout_seconds, sock_read=idle_timeout_seconds
            ),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> UpstreamAnswer:
        """Send and wait for the answer's head; time spent on the caller's body does not count."""
        patience = _Patience(first_byte_timeout_seconds)
        try:
            async with patience:
                return _Answer(await self._request(request, patience))
        except _NOT_CONNECTED as exc:
            raise UpstreamUnreachable(request.backend) from exc
        except TimeoutError as exc:
            raise UpstreamTimeout(request.backend) from exc
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            raise UpstreamBroken(request.backend) from exc

    async def _request(
        self, request: UpstreamRequest, patience: "_Patience"
    ) -> aiohttp.ClientResponse:
        return await self._session.request(
            request.method,
            URL(request.url, encoded=True),
            headers=request.headers,
            data=_payload(request, patience),
            allow_redirects=False,
        )


async def _send_once(
    request: ClientRequest, handler: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Keep aiohttp from sending GET and DELETE again by itself when a connection breaks."""
    try:
        return await handler(request)
    except _NOT_CONNECTED:
        raise
    except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError) as exc:
        raise aiohttp.ClientConnectionError("the connection broke") from exc


def _payload(
    request: UpstreamRequest, patience: "_Patience"
) -> bytes | AsyncIterator[bytes] | None:
    """The body; None if it is empty, so that GET and DELETE send no content-length."""
    if isinstance(request.body, bytes):
        return request.body or None
    if isinstance(request.body, tuple):
        return b"".join(request.body)
    return patience.apart_from(request.body())


class _Patience:
    """A timeout that pauses while the next bytes of the caller's body are awaited.

    A slow caller must not look like a slow backend.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._is_over = False

    async def __aenter__(self) -> None:
        await self._timeout.__aenter__()

    async def __aexit__(self, *error: Any) -> None:
        self._is_over = True
        await self._timeout.__aexit__(*error)

    async def apart_from(self, parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The same parts, with the timeout paused between them."""
        self._run(is_running=False)
        try:
            async for part in parts:
                self._run(is_running=True)
                yield part
                self._run(is_running=False)
        finally:
            self._run(is_running=True)

    def _run(self, *, is_running: bool) -> None:
        # The answer may begin, or the time run out, while the body is still being sent.
        if not (self._is_over or self._timeout.expired()):
            now = asyncio.get_running_loop().time()
            self._timeout.reschedule(now + self._seconds if is_running else None)


class _Connector(aiohttp.TCPConnector):
    """Gives out pooled connections only while they are silent and open."""

    def __init__(self) -> None:
        super().__init__(limit=0, keepalive_timeout=KEEP_ALIVE_SECONDS)
        self._used: WeakSet[ResponseHandler] = WeakSet()

    async def connect(
        self, req: ClientRequest, traces: list[Trace], timeout: aiohttp.ClientTimeout
    ) -> Connection:
        while True:
            connection = await super().connect(req, traces, timeout)
            protocol = connection.protocol
            if protocol is None or protocol not in self._used:
                break  # new; a TLS server may have sent its tickets already
            if _is_silent(protocol):
                return connection
            connection.close()
        if protocol is not None:
            self._used.add(protocol)
        return connection


def _is_silent(protocol: ResponseHandler) -> bool:
    """Whether an idle connection is open and nothing has arrived on it.

    The end of the other side, a reset, or a late answer such as 408 may be in the socket before the
    event loop has seen it.
    """
    transport = protocol.transport
    if transport is None or transport.is_closing() or protocol.should_close:
        return False
    poll = select.poll()
    poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
    return not poll.poll(0)


class _Answer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self._response = response
        self.status = response.status
        self.headers: Headers = tuple(
            (name.lower(), value) for name, value in response.headers.items()
        )

    async def chunks(self, bypass: Bypass | None = None) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._response.content.iter_any():
                yield chunk
        except (aiohttp.ClientError, TimeoutError, OSError) as exc:
            raise UpstreamBroken(str(self._response.url.host)) from exc

    def arrived(self) -> bytes | None:
        return None

    async def close(self) -> None:
        # Returns the connection to the pool if the body was read to its end, else drops it.
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()
