"""uvicorn's HTTP/1.1 with bounds on what a caller sends before the app sees its request.

The app judges a request once its head is there. Until then uvicorn keeps whatever arrives, for as
long as it takes: a head of 60 MB, a header that never ends, trailers, connections that send nothing.
Here a head, and any stretch without a byte of body (trailers, chunk extensions), is bounded in bytes,
fields and time, and a connection that is closed does not wait for a caller that does not read.

Once a request is answered, the rest of its body is read on and dropped, within bounds: the Functions
host hands an answer on only after the whole body, and closing at once would make a 500 of it there, and
reset the connection elsewhere (RFC 9112 section 9.6).

`asgi_app` puts the class into a running uvicorn by itself (`bound_server`), however that was started.
"""

import asyncio
from collections.abc import Callable
from typing import Any, ClassVar, cast

import httptools
import uvicorn
from msgspec import Struct
from starlette.types import ASGIApp
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

from meter.adapters.functions.answering import refusal_on_the_wire
from meter.adapters.functions.receiving import ReceivingHttp, buffer, name_of
from meter.errors import BadRequest, CallerError, TooLarge
from meter.gateway.http import RequestLimits
from meter.waiting.alarms import Alarms

MAX_URL_BYTES = 8_192  # as Kestrel, which stands in front of a Functions worker
HEAD_SECONDS = 30.0
MAX_DROPPED_BYTES = 104_857_600  # likewise: the host passes no more
FIELD_OVERHEAD_BYTES = 4
WATCHES_PER_LIMIT = 4


class ConnectionLimits(Struct, frozen=True, kw_only=True):
    """Bounds on a request's head: its fields, their bytes, and the seconds in which it must arrive.

    The app's own bounds are at most as large: it answers what is between. Behind an answer the rest of a
    body may take `rest_seconds`, on at most `max_rests` connections at once.
    """

    max_headers: int = 10_000
    max_header_bytes: int = 1_048_576
    seconds: float = HEAD_SECONDS
    rest_seconds: float = 60.0
    max_rests: int = 64

    @property
    def max_bytes(self) -> int:
        """The most bytes that a head within these bounds can take on the wire."""
        fields = self.max_header_bytes + FIELD_OVERHEAD_BYTES * self.max_headers
        return fields + MAX_URL_BYTES


class BoundedHttp(ReceivingHttp):
    """One connection. `limits` are the class's, and so is the set of connections that drop a rest, and
    the deadlines of those that wait for a next request.
    """

    limits = ConnectionLimits()
    deadlines: ClassVar[Alarms] = Alarms()
    rests: ClassVar[set["BoundedHttp"]] = set()

    def __init__(self, *args: Any, **options: Any) -> None:  # uvicorn's own
        super().__init__(*args, **options)
        self.ws_protocol_class = None  # handshakes go to the app, which answers 426
        self._refusal: CallerError | None = None
        self._is_refused = False
        self._bytes_without_body = 0
        self._has_progressed = False
        self._head_since: float | None = None
        self._is_in_message = False
        self._overdue_watches = 0
        self._dropped_bytes = 0
        self._rest_timer: asyncio.TimerHandle | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._alarm = 0  # that ends a connection without a next request

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn
        """Take the connection; its first head is awaited from now on."""
        super().connection_made(transport)
        self._head_since = self.loop.time()
        self._watch_later()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget it."""
        if self._watch is not None:
            self._watch.cancel()
        self._unset_keepalive_if_required()
        self._end_rest()
        if self._is_answering and self._arriving is not None:
            self._arriving.leave()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take bytes; refuse the request when too many of them are no body."""
        if self.transport.is_closing():
            return
        self._has_progressed = False
        if not self._is_refused:
            super().data_received(data)
        if self._has_progressed:
            self._bytes_without_body = 0
        else:
            self._bytes_without_body += len(data)
            if self._bytes_without_body > self.limits.max_bytes:
                self.transport.close() if self._is_refused else self._refuse(_TOO_LARGE)
        if self.begun is not None:
            self.start_begun()

    def on_message_begin(self) -> None:
        """A request begins, perhaps in the same bytes as the last one ended."""
        if self._alarm:
            self._unset_keepalive_if_required()
        self.url = b""
        self.headers = []
        self._is_in_message = True
        if self._head_since is None:
            self._head_since = self.loop.time()

    def on_url(self, url: bytes) -> None:
        """A piece of the request's address."""
        self.url = url = self.url + url
        if len(url) > MAX_URL_BYTES:
            self._fail(_URL_TOO_LONG)

    def on_header(self, name: bytes, value: bytes) -> None:
        """A header; or a trailer, which the app is not told of."""
        headers = self.headers
        headers.append((name.lower(), value))
        if len(headers) > self.limits.max_headers:
            self._fail(_TOO_LARGE)

    def on_headers_complete(self) -> None:
        """The head is there: hand the request to the app."""
        names = list(map(name_of, self.headers))
        version = self.parser.get_http_version()
        hosts = names.count(b"host")
        if hosts > 1 or (hosts == 0 and version == "1.1"):
            self._fail(_NO_HOST)
        self.begin_request(names, version)
        self._head_since = None
        self.headers = self.headers.copy()  # trailers are counted with them; the request's stay
        if not self.url.startswith(b"/"):
            self.scope["raw_path"] = self.url  # no address of ours, whatever path it holds
        if self.parser.should_upgrade():
            self.cycle.keep_alive = False  # nothing is parsed on this connection any more
        elif not self.cycle.keep_alive:
            self.cycle.transport = cast(asyncio.Transport, _ClosedAfterTheBody(self))

    def on_body(self, body: bytes) -> None:
        """Bytes of the body."""
        self._has_progressed = True
        if self._rest_timer is not None:
            self._dropped_bytes += len(body)
            if self._dropped_bytes > MAX_DROPPED_BYTES:
                self.transport.close()
        cycle: Any = self.cycle
        arriving = self._arriving
        if cycle.response_complete:
            return
        assert arriving is not None  # its head has come
        held = arriving.add(body)
        cycle.body = arriving  # uvicorn asks for its length and its bytes
        if arriving.is_gathered:
            return
        # An app that is there has its turn behind the first bytes.
        if held > HIGH_WATER_LIMIT and arriving.came > len(body):
            self.flow.pause_reading()
        cycle.message_event.set()

    def on_message_complete(self) -> None:
        """The request is there."""
        self._has_progressed = True
        self._bytes_without_body = 0
        self._is_in_message = False
        if self._arriving is not None:
            self._arriving.end()
        cycle = self.cycle
        if not cycle.response_complete:
            cycle.more_body = False
            cycle.message_event.set()
        if self._rest_timer is not None:
            self._end_rest()
            self._keep_or_close()

    def on_response_complete(self) -> None:
        """The request is answered, in part or whole: go on with the next, if it is there already."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())
        elif self._has_rest:
            self._drop_rest()
        else:
            self._await_next()

    def _await_next(self) -> None:
        """As uvicorn does, whose timer would be one more per call."""
        until = self.loop.time() + self.timeout_keep_alive
        self._alarm = self.deadlines.set(until, self.timeout_keep_alive_handler)

    def _unset_keepalive_if_required(self) -> None:
        """Something has come, or is to be dropped."""
        if self._alarm:
            self.deadlines.clear(self._alarm)
            self._alarm = 0

    def close_after_the_body(self) -> None:
        """Close the connection; behind a whole answer only when the request has come to its end."""
        if not self._has_rest:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Refuse what could not be parsed, or what a callback refused."""
        self._refuse(self._refusal or BadRequest(msg))

    def _unsupported_upgrade_warning(self) -> None:
        """Say nothing: uvicorn would log two lines for each handshake."""

    def _drop_rest(self) -> None:
        """Read on and drop the rest of a body whose request is answered."""
        if len(self.rests) >= self.limits.max_rests:
            self.transport.close()
            return
        self._unset_keepalive_if_required()
        self.rests.add(self)
        self._dropped_bytes = 0
        self._rest_timer = self.loop.call_later(self.limits.rest_seconds, self.transport.close)

    def _end_rest(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
            self.rests.discard(self)

    def _keep_or_close(self) -> None:
        """After a dropped rest: what uvicorn does after an answer."""
        if self.transport.is_closing():
            return
        if self.cycle.keep_alive:
            self._await_next()
        else:
            self.transport.close()

    def _fail(self, refusal: CallerError) -> None:
        """Stop the parser inside a callback; uvicorn then calls `send_400_response`."""
        self._refusal = refusal
        raise httptools.HttpParserError(refusal.message)

    def _refuse(self, refusal: CallerError) -> None:
        """Answer, and drop what still comes for a while: closing at once would reset the connection,
        and the answer with it (RFC 9112 section 9.6).
        """
        self._is_refused = True
        self._bytes_without_body = 0
        is_answered = self._is_answering and (
            self.cycle.response_started or self._head_since is not None or bool(self.pipeline)
        )
        if is_answered or self._has_rest:
            self.transport.close()  # there is no room for another answer
            return
        if self._is_answering:  # the rest of its body cannot be read
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        self.transport.write(refusal_on_the_wire(refusal))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()

    @property
    def _has_rest(self) -> bool:
        """Whether the body of a request that is answered still comes, and not the next request."""
        return self._is_in_message and self._head_since is None and not self._is_answering

    @property
    def _is_answering(self) -> bool:
        """Whether a request is in the app's hands."""
        return self.cycle is not None and not self.cycle.response_complete

    def _watch_later(self) -> None:
        seconds = self.limits.seconds / WATCHES_PER_LIMIT
        self._watch = self.loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """Break off what is overdue: a head, or a closing connection."""
        overdue = self._overdue_watches + 1
        is_closing = self.transport.is_closing() or self._is_refused
        self._overdue_watches = overdue if is_closing else 0
        if self._overdue_watches > WATCHES_PER_LIMIT:
            self.transport.abort()
            return
        since = self._head_since
        is_late = since is not None and self.loop.time() - since >= self.limits.seconds
        if is_late and not is_closing and not self._is_answering:
            self._refuse(_TOO_SLOW) if self._is_in_message else self.transport.close()
        self._watch_later()


class _ClosedAfterTheBody:
    """The transport of a request whose connection ends with it: closed when its body has come."""

    def __init__(self, connection: BoundedHttp) -> None:
        self._connection = connection
        self.write = connection.transport.write
        self.is_closing = connection.transport.is_closing

    def close(self) -> None:
        """Close it, at the latest when the body may take no longer."""
        self._connection.close_after_the_body()


def connection_limits(
    limits: RequestLimits | None, *, seconds: float = HEAD_SECONDS
) -> ConnectionLimits:
    """The bounds that let through what the app's own bounds accept; None: whatever these are."""
    if limits is None:
        return ConnectionLimits(seconds=seconds)
    return ConnectionLimits(
        max_headers=limits.max_headers,
        max_header_bytes=limits.max_header_bytes,
        seconds=seconds,
        rest_seconds=limits.read_timeout_seconds,
        max_rests=limits.max_refused_uploads,
    )


def bounded_http(limits: ConnectionLimits) -> type[BoundedHttp]:
    """The protocol class with these bounds."""
    own = {
        "limits": limits,
        "rests": set(),
        "deadlines": Alarms(),
        "received": buffer(),
    }
    return type("BoundedHttp", (BoundedHttp,), own)


def bound_server(
    receive: Callable[..., object], limits: ConnectionLimits, app: ASGIApp | None = None
) -> None:
    """Have the uvicorn that runs this app use the bounded protocol for connections from now on.

    `receive` is that of the app's lifespan, which uvicorn calls before it listens. A server that was
    given a protocol of its own, or that is no uvicorn, is left alone. `app` is one that does not read where
    a request came from: uvicorn looks each time what proxies say of that, 140 instructions, for its own
    log of requests otherwise.
    """
    config = getattr(getattr(receive, "__self__", None), "config", None)
    if not isinstance(config, uvicorn.Config):
        return
    # By name: importing uvicorn's other protocol takes as long as all of Starlette.
    if config.http_protocol_class.__name__ in {"HttpToolsProtocol", "H11Protocol"}:
        config.http_protocol_class = bounded_http(limits)
    loaded = config.loaded_app
    if isinstance(loaded, ProxyHeadersMiddleware) and loaded.app is app and not config.access_log:
        config.loaded_app = app


_TOO_LARGE = TooLarge("The request has too many or too large headers.", status=431)
_URL_TOO_LONG = TooLarge(f"The address is longer than {MAX_URL_BYTES} bytes.", status=414)
_TOO_SLOW = TooLarge("The headers were not sent in time.", status=408, code="RequestTimeout")
_NO_HOST = BadRequest("The request must have exactly one Host header.")
