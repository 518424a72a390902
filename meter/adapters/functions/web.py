"""The core's requests and answers on ASGI, and the app's life.

Bodies are read within bounds. Whole answers are sent in parts, streams as they are relayed.
"""

import asyncio
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from functools import cached_property, lru_cache
from http import HTTPStatus
from operator import itemgetter, methodcaller
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meter.adapters.functions.answering import encoded, send_whole
from meter.adapters.functions.arriving import ArrivingBody, arriving_in
from meter.adapters.functions.leaving import Outlet
from meter.adapters.functions.protocol import bound_server, connection_limits
from meter.errors import AnswerCut, CallerGone, TooLarge
from meter.gateway.detached import Detached
from meter.gateway.headers import header
from meter.gateway.http import Answer, Request, RequestLimits, StreamingAnswer
from meter.ports import Headers
from meter.waiting.bounded import within
from meter.waiting.waking import result_of

# As much as the server takes at once before it waits for the caller.
PART_BYTES = 65_536
WRITE_SECONDS = 60.0
CUT_PAUSE_SECONDS = 0.2  # a busy proxy needs more than the 5 ms of an idle one
MOST_CUT_PAUSES = 5
MAX_CACHED_LISTS = 128  # of names: each kind of client has its own
MAX_CACHED_BYTES = 2_048  # of a list: SDKs send 300, and anybody may send them


async def live(
    receive: Receive,
    send: Send,
    *,
    close: Callable[[], Awaitable[None]],
    start: Callable[[], RequestLimits | None] = lambda: None,
    app: ASGIApp | None = None,
) -> None:
    """An ASGI app's lifespan: start with the server, close before the process ends.

    What `start` returns bounds the heads of requests, where the server is uvicorn. `app` is called by it as
    it is (`bound_server`).
    """
    while (await receive())["type"] == "lifespan.startup":
        bound_server(receive, connection_limits(start()), app)
        await send({"type": "lifespan.startup.complete"})
    await close()
    await send({"type": "lifespan.shutdown.complete"})


def gateway_request(scope: Scope, receive: Receive, limits: RequestLimits) -> Request:
    """The core's view of an ASGI request."""
    raw_path = scope.get("raw_path") or scope["path"].encode()
    found = scope["headers"]
    names = tuple(map(_name_of, found))
    texts = _texts(names) if len(b"".join(names)) <= MAX_CACHED_BYTES else map(_text, names)
    headers = tuple(zip(texts, map(_text, map(_value_of, found)), strict=True))
    body = _Body(receive, arriving_in(scope), headers, limits)
    return Request(
        method=scope["method"],
        raw_path=raw_path.partition(b"?")[0].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=headers,
        body=body,
        left=body.left,
    )


@lru_cache(MAX_CACHED_LISTS)
def _texts(names: tuple[bytes, ...]) -> tuple[str, ...]:
    """Names of headers: those of a kind of client are the same in each request."""
    return tuple(map(_text, names))


def response_of(
    answer: Answer | StreamingAnswer, detached: Detached, *, write_seconds: float = WRITE_SECONDS
) -> Response:
    """The response that sends the core's answer; a stream is relayed by a detached task."""
    if isinstance(answer, Answer):
        return GatewayResponse(answer, write_seconds=write_seconds)
    return StreamedResponse(answer, detached, write_seconds=write_seconds)


class GatewayResponse(Response):
    """Sends an answer whose body is whole, in parts: the caller has `write_seconds` to take each.

    The server keeps little of what the caller has not taken, so an answer that is not read neither
    gives its slot back nor stays in memory beyond that time. Then the connection is broken off.
    """

    def __init__(self, answer: Answer, *, write_seconds: float = WRITE_SECONDS) -> None:
        self.status_code = answer.status
        self.background = None
        self.body = answer.body
        self._sent_headers = answer.headers
        self._delivered, self._release = answer.delivered, answer.release
        self._write_seconds = write_seconds

    @cached_property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # if asked for
        """Its headers with its length, for servers that do not take them as they are."""
        raw = _raw(self._sent_headers)
        if self.status_code != HTTPStatus.NO_CONTENT:
            raw.append((b"content-length", str(len(self.body)).encode()))
        return raw

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI 3
        """Send it."""
        try:
            if not send_whole(send, self.status_code, self._sent_headers, bytes(self.body)):
                await self._send_in_parts(send)
            self._delivered()
        except (TimeoutError, OSError):
            # Returning without a last body message makes the server break the connection off.
            return
        finally:
            self.body = b""
            self._release()

    async def _send_in_parts(self, send: Send) -> None:
        head = {"type": "http.response.start", "status": self.status_code}
        await self._send(send, {**head, "headers": self.raw_headers})
        for start in range(0, max(1, len(self.body)), PART_BYTES):
            part, end = self.body[start : start + PART_BYTES], start + PART_BYTES
            more = end < len(self.body)
            await self._send(send, {"type": "http.response.body", "body": part, "more_body": more})

    async def _send(self, send: Send, message: MutableMapping[str, Any]) -> None:
        await within(self._write_seconds, send(message))


class StreamedResponse(Response):
    """Sends an answer as it is relayed. It is metered to its end when the caller leaves.

    The relay bounds what a caller takes of the body; head and end have `write_seconds` here, since the
    server first waits until the caller has taken what is before them, an earlier answer too.
    """

    def __init__(
        self, answer: StreamingAnswer, detached: Detached, *, write_seconds: float = WRITE_SECONDS
    ) -> None:
        self._relay = answer.relay
        self._write_seconds = write_seconds
        self._detached = detached
        self.status_code = answer.status
        self.background = None
        self.body = b""
        self._sent_headers = answer.headers

    @cached_property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:  # type: ignore[override]  # if asked for
        """Its headers, for servers that do not take them as they are."""
        return _raw(self._sent_headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI 3
        """Send it."""
        caller = _Caller(send)
        try:
            await within(self._write_seconds, caller.begin(self.status_code, self._sent_headers))
        except (TimeoutError, OSError):
            caller.is_gone = True
        except BaseException:
            caller.is_gone = True
            self._detached.start(self._relay.run(caller))
            raise
        task = self._detached.start(self._sent(caller))
        watch = caller.watch(receive)
        try:
            await result_of(task)
        except AnswerCut:
            await _pause_before_cut()
            # Returning without a last body message makes the server break the connection off.
        except asyncio.CancelledError:
            caller.is_gone = True
            raise
        finally:
            if watch is not None:
                watch.cancel()

    async def _sent(self, caller: "_Caller") -> None:
        """Send the body and its end."""
        await caller.outlet.gathering(self._relayed(caller))

    async def _relayed(self, caller: "_Caller") -> None:
        await self._relay.run(caller)
        if not caller.is_gone:
            with suppress(TimeoutError):
                await within(self._write_seconds, caller.end())


async def _pause_before_cut() -> None:
    """Let the host pass on what was sent: it makes a reset of the cut, which overtakes that.

    Where this pause takes half as long again, the machine is busy, and so is the host beside it.
    """
    loop = asyncio.get_running_loop()
    for _ in range(MOST_CUT_PAUSES):
        begun = loop.time()
        await asyncio.sleep(CUT_PAUSE_SECONDS)
        if loop.time() - begun < 1.5 * CUT_PAUSE_SECONDS:
            return


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    return [(name.encode("latin-1"), encoded(value)) for name, value in headers]


class _Caller:
    """The sink for one caller."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.outlet = Outlet(send)
        self.is_gone = False

    @property
    def put(self) -> Callable[[bytes], None] | None:
        return None if self.is_gone else self.outlet.put

    async def begin(self, status: int, headers: Headers) -> None:
        if not self.outlet.begin(status, headers):
            head = {"type": "http.response.start", "status": status, "headers": _raw(headers)}
            await self._send(head)

    async def write(self, data: bytes) -> None:
        if self.outlet.is_left:
            self.is_gone = True
        if self.is_gone:
            raise CallerGone
        try:
            if len(data) > PART_BYTES:
                for start in range(0, len(data), PART_BYTES):
                    await self.write(data[start : start + PART_BYTES])
            elif data and (put := self.outlet.put) is not None:
                put(data)
            else:
                await self._send_part(data, more_body=True)
        except OSError:
            self.is_gone = True
        if self.is_gone:
            raise CallerGone

    async def end(self) -> None:
        if not self.outlet.end():
            await self._send_part(b"", more_body=False)

    async def _send_part(self, data: bytes, *, more_body: bool) -> None:
        self.outlet.let_go()  # it comes before
        await self._send({"type": "http.response.body", "body": data, "more_body": more_body})

    def watch(self, receive: Receive) -> asyncio.Task[None] | None:
        """A task that notes when the caller leaves, where the connection does not tell by itself."""
        return None if self.outlet.hears_of_leaving() else asyncio.create_task(self._watch(receive))

    async def _watch(self, receive: Receive) -> None:
        while not self.is_gone:
            message = await receive()
            self.is_gone = message["type"] == "http.disconnect"


class _Body:
    """`meter.gateway.http.RequestBody` of one ASGI request."""

    _deadline: float | None = None
    _size = 0
    _is_ended = False
    _at_end: asyncio.Event | None = None

    def __init__(
        self,
        receive: Receive,
        arriving: ArrivingBody | None,
        headers: Headers,
        limits: RequestLimits,
    ) -> None:
        self._receive = receive
        self._arriving = arriving
        self._headers = headers
        self._limits = limits

    def left(self) -> Awaitable[None]:
        """Wait until the caller has closed its connection, which the server says behind the body."""
        if self._is_ended and self._arriving is not None:
            return self._arriving.left()
        return self._told_left()

    async def _told_left(self) -> None:
        if not self._is_ended:
            self._at_end = asyncio.Event()
            await self._at_end.wait()
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def read(self) -> bytes:
        arriving = self._arriving
        if arriving is None:
            return await self._all_parts()
        whole = arriving.whole(self._limits.max_body_bytes - self._size)
        if whole is not None:
            self._end()
            return whole
        if (declared := self._declared()) is None:
            return await self._all_parts()  # its size is checked part by part
        arriving.gather(declared)
        try:
            return await self._all_parts()
        finally:
            arriving.release()

    async def _all_parts(self) -> bytes:
        parts: list[bytes] = []
        while part := await self.next_part():
            parts.append(part)
        return b"".join(parts)

    async def next_part(self) -> bytes:
        if self._is_ended:
            return b""  # most bodies are one part: their end costs no timer
        if (self._declared() or 0) > self._limits.max_body_bytes:
            raise self._too_large()
        loop = asyncio.get_running_loop()
        seconds = self._limits.read_timeout_seconds
        if self._deadline is None:
            self._deadline = loop.time() + seconds
        try:
            return await within(self._deadline - loop.time(), self._next_part())
        except TimeoutError as exc:
            text = f"The request body was not sent within {seconds:g} seconds."
            raise TooLarge(text, status=408, code="RequestTimeout") from exc

    async def _next_part(self) -> bytes:
        while not self._is_ended:
            if self._size > self._limits.max_body_bytes:
                raise self._too_large()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                text = "The request body was not sent to its end."
                raise TooLarge(text, status=400, code="BadRequest")
            part: bytes = message.get("body", b"")
            self._size += len(part)
            if self._size > self._limits.max_body_bytes:
                raise self._too_large()
            if not message.get("more_body", False):
                self._end()
            if part:
                return part
        return b""

    def _end(self) -> None:
        self._is_ended = True
        if self._at_end is not None:
            self._at_end.set()

    def _declared(self) -> int | None:
        """The body's length, if the caller says it."""
        length = header(self._headers, "content-length") or ""
        return int(length) if length.isdigit() else None

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The request body is larger than {self._limits.max_body_bytes} bytes.")


_name_of: Callable[[tuple[bytes, bytes]], bytes] = itemgetter(0)
_value_of: Callable[[tuple[bytes, bytes]], bytes] = itemgetter(1)
_text: Callable[[bytes], str] = methodcaller("decode", "latin-1")
