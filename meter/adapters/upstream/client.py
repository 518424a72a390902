"""`meter.ports.Upstream` over HTTP/1.1: pooled connections, no redirects, no decoding, no cookies.

A request is written to one connection, once: the backend may have worked on it, so only the caller
of this module may send it again. A pooled connection is looked at before anything is written to it,
and replaced if its other end has closed it. Nothing is read from the environment: no proxy, no
`~/.netrc`. Why not a library: docs/decisions/0038.
"""

import asyncio
import ssl
from collections.abc import Callable

from meter.adapters.upstream.answer import Answer
from meter.adapters.upstream.connection import Connection
from meter.adapters.upstream.dial import Dialer, verifying_context
from meter.adapters.upstream.pool import KEEP_ALIVE_SECONDS, Pool
from meter.adapters.upstream.request import Address, Head, InvalidAddress, encode_head, locate
from meter.adapters.upstream.sending import Patience, in_pieces, send_pieces, start_sending
from meter.errors import UpstreamBroken, UpstreamTimeout, UpstreamUnreachable
from meter.ports import UpstreamAnswer, UpstreamRequest
from meter.waiting.alarms import Alarms


class HttpUpstream:
    """Sends requests to backends. Must be closed. `make_context` is for servers that TLS verifies."""

    def __init__(
        self,
        *,
        connect_timeout_seconds: float,
        idle_timeout_seconds: float,
        keep_alive_seconds: float = KEEP_ALIVE_SECONDS,
        make_context: Callable[[], ssl.SSLContext] = verifying_context,
    ) -> None:
        self._connect_seconds = connect_timeout_seconds
        self._idle_seconds = idle_timeout_seconds
        self._pool = Pool(keep_alive_seconds)
        self._dialer = Dialer(self._pool, make_context)
        self._deadlines = Alarms()

    async def close(self) -> None:
        """Close the connections."""
        self._dialer.close()
        await self._pool.close()

    async def send(
        self, request: UpstreamRequest, *, first_byte_timeout_seconds: float
    ) -> UpstreamAnswer:
        """Send and wait for the answer's head; time spent on the caller's body does not count."""
        seconds = min(first_byte_timeout_seconds, self._idle_seconds)
        now = asyncio.get_running_loop().time()
        address, head = _encoded(request)
        connection = self._pool.take(address, now) or await self._connect(
            address, request.backend, seconds
        )
        answer = Answer(
            request.backend,
            connection,
            is_for_head=request.method == "HEAD",
            idle_timeout_seconds=self._idle_seconds,
        )
        alarm = self._deadlines.set(now + seconds, answer.run_out)
        patience = Patience(answer, self._deadlines, alarm, seconds)
        try:
            _write(connection, request, head, answer, patience)
            await answer.begun()
        except BaseException:
            await answer.close()
            raise
        finally:
            patience.stop()
        if answer.status:
            return answer
        await answer.close()
        is_late = isinstance(answer.error, TimeoutError)
        fault = UpstreamTimeout if is_late else UpstreamBroken
        raise fault(request.backend) from answer.error

    async def _connect(self, address: Address, backend: str, seconds: float) -> Connection:
        """A new connection. Raises UpstreamUnreachable, or UpstreamTimeout where less time is left."""
        try:
            async with asyncio.timeout(min(seconds, self._connect_seconds)) as limit:
                return await self._dialer.dial(address)
        except (OSError, ValueError) as exc:
            if limit.expired() and seconds < self._connect_seconds:
                raise UpstreamTimeout(backend) from exc
            raise UpstreamUnreachable(backend) from exc


def _encoded(request: UpstreamRequest) -> tuple[Address, Head]:
    """Where the request goes, and its head. Raises UpstreamError."""
    try:
        address, target = locate(request.url)
        return address, encode_head(request, address, target)
    except InvalidAddress as exc:
        raise UpstreamUnreachable(request.backend) from exc
    except ValueError as exc:
        raise UpstreamBroken(request.backend) from exc


def _write(
    connection: Connection,
    request: UpstreamRequest,
    head: Head,
    answer: Answer,
    patience: Patience,
) -> None:
    if isinstance(request.body, bytes):
        connection.begin(answer, head.data + request.body)
    elif isinstance(request.body, tuple):
        pieces = in_pieces((head.data, *request.body))
        connection.begin(answer, next(pieces))
        answer.sending = send_pieces(connection, pieces, answer, patience)
    else:
        connection.begin(answer, head.data)
        answer.sending = start_sending(
            connection, request.body(), head.body_bytes, answer, patience
        )
