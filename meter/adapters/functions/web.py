"""A web extension for Azure Functions that streams: Starlette requests, served by uvicorn.

Importing it switches every HTTP function of the app to Starlette's `Request` and `Response`
(azurefunctions-extensions-base finds the classes by their metaclasses). It does what Microsoft's
FastAPI extension does at about half the CPU per request, and fixes a leak: the runtime's
`HttpCoordinator` keeps a reference to every request it has ever seen.
"""

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Any

import uvicorn
from azurefunctions.extensions.base import RequestSynchronizer as BaseRequestSynchronizer
from azurefunctions.extensions.base import RequestTrackerMeta, ResponseLabels, ResponseTrackerMeta
from azurefunctions.extensions.base import WebApp as BaseWebApp
from azurefunctions.extensions.base import WebServer as BaseWebServer
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from meter.adapters.functions.protocol import HeadLimits, bound_server, bounded_http, head_limits
from meter.errors import AnswerCut, CallerGone, TooLarge
from meter.gateway.detached import Detached
from meter.gateway.http import Answer, RequestLimits, StreamingAnswer
from meter.gateway.http import Request as GatewayRequest
from meter.ports import Headers

INVOCATION_HEADER = "x-ms-invocation-id"
COORDINATOR_MODULE = "azure_functions_runtime.http_v2"
REFERENCES = "_context_references"
# The host keeps idle connections for up to 75 s, unused ones too. One that the worker closes just
# as the host sends a body fails the forward, and with it the call.
HOST_POOL_SECONDS = 120
# As much as the server takes at once before it waits for the caller.
PART_BYTES = 65_536
WRITE_SECONDS = 60.0

log = logging.getLogger(__name__)

type Endpoint = Callable[[Request], Awaitable[Response]]


class RequestSynchronizer(BaseRequestSynchronizer):  # type: ignore[misc]  # the base is untyped
    """Copies the host's route parameters into the request."""

    def sync_route_params(self, request: Request, path_params: dict[str, str]) -> None:
        """Called by the runtime for every request."""
        request.path_params.clear()
        request.path_params.update(path_params)


class TrackedRequest(metaclass=RequestTrackerMeta):  # type: ignore[metaclass]  # untyped
    """Tells the runtime which type its HTTP functions take."""

    request_type = Request
    synchronizer = RequestSynchronizer()


class TrackedResponse(metaclass=ResponseTrackerMeta):  # type: ignore[metaclass]  # untyped
    """Tells the runtime which type its HTTP functions return."""

    label = ResponseLabels.STANDARD
    response_type = Response


class WebApp(BaseWebApp):  # type: ignore[misc]  # the base is untyped
    """The worker's HTTP side: one endpoint, which waits for the invocation's response."""

    def __init__(self) -> None:
        self._endpoint: Endpoint | None = None

    def route(self, func: Endpoint) -> None:
        """Take the runtime's catch-all endpoint."""
        self._endpoint = func

    def get_app(self) -> "WebApp":
        """The ASGI app: this object."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the process's life (ASGI 3)."""
        if scope["type"] == "lifespan":
            await live(receive, send, close=_ending.close)
            return
        assert self._endpoint is not None, "the runtime routes before it serves"
        invocation_id = _one_invocation_id(scope)
        if invocation_id is None:
            # Nothing but the host calls this port; without an id the runtime would wait for ever.
            await Response(status_code=400)(scope, receive, send)
            return
        try:
            response = await self._endpoint(Request(scope, receive))
        finally:
            forget_invocation(invocation_id)
        await response(scope, receive, send)


def _one_invocation_id(scope: Scope) -> str | None:
    """The host's invocation id; the request keeps no other.

    The host puts it behind the caller's headers. Under a caller's own id the runtime would wait for an
    invocation that never comes.
    """
    name = INVOCATION_HEADER.encode()
    ids = [value for key, value in scope["headers"] if key == name]
    if not ids:
        return None
    last: bytes = ids[-1].rpartition(b",")[2].strip()
    scope["headers"] = [pair for pair in scope["headers"] if pair[0] != name] + [(name, last)]
    return last.decode("latin-1")


class WebServer(BaseWebServer):  # type: ignore[misc]  # the base is untyped
    """Serves the app where the host expects it."""

    async def serve(self) -> None:
        """Run until the process ends.

        uvicorn takes SIGTERM for itself: it stops listening, lets answers end, then calls the
        app's lifespan, which closes the app, and then lets the signal end the process.
        """
        config = uvicorn.Config(
            self.web_app,
            host=self.hostname,
            port=self.port,
            http=bounded_http(HeadLimits(seconds=HOST_POOL_SECONDS)),
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=max(1, round(_ending.answers_seconds)),
            access_log=False,  # it would print query strings, and costs as much as the request
            log_level="warning",
            server_header=False,
            timeout_keep_alive=HOST_POOL_SECONDS,
        )
        await uvicorn.Server(config).serve()


@dataclass(slots=True)
class _Ending:
    """How a worker ends on SIGTERM; a process has one app, as in the runtime."""

    answers_seconds: float
    close: Callable[[], Awaitable[None]]


_ending = _Ending(answers_seconds=15.0, close=partial(asyncio.sleep, 0))


def before_exit(close: Callable[[], Awaitable[None]], *, answers_seconds: float) -> None:
    """Have the worker call `close` on SIGTERM, after answers had that long to end."""
    _ending.close, _ending.answers_seconds = close, answers_seconds


async def live(
    receive: Receive,
    send: Send,
    *,
    close: Callable[[], Awaitable[None]],
    start: Callable[[], RequestLimits | None] = lambda: None,
) -> None:
    """An ASGI app's lifespan: start with the server, close before the process ends.

    What `start` returns bounds the heads of requests, where the server is uvicorn.
    """
    while (await receive())["type"] == "lifespan.startup":
        bound_server(receive, head_limits(start()))
        await send({"type": "lifespan.startup.complete"})
    await close()
    await send({"type": "lifespan.shutdown.complete"})


def forget_invocation(invocation_id: str) -> None:
    """Drop the runtime's reference to a finished request.

    The attribute is private: a runtime without it is left alone, and a test fails when it changes.
    """
    coordinator: Any = getattr(sys.modules.get(COORDINATOR_MODULE), "http_coordinator", None)
    references = getattr(coordinator, REFERENCES, None)
    if isinstance(references, dict):
        references.pop(invocation_id, None)


def gateway_request(request: Request, limits: RequestLimits) -> GatewayRequest:
    """The core's view of a Starlette request."""
    scope = request.scope
    raw_path = scope.get("raw_path") or scope["path"].encode()
    return GatewayRequest(
        method=scope["method"],
        raw_path=raw_path.partition(b"?")[0].decode("latin-1"),
        query=scope["query_string"].decode("latin-1"),
        headers=tuple(
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]
        ),
        body=_Body(request, limits),
    )


def response_of(
    answer: Answer | StreamingAnswer, detached: Detached, *, write_seconds: float = WRITE_SECONDS
) -> Response:
    """The response that sends the core's answer; a stream is relayed by a detached task."""
    if isinstance(answer, Answer):
        return GatewayResponse(answer, write_seconds=write_seconds)
    return StreamedResponse(answer, detached)


class GatewayResponse(Response):
    """Sends an answer whose body is whole, in parts: the caller has `write_seconds` to take each.

    The server keeps little of what the caller has not taken, so an answer that is not read neither
    gives its slot back nor stays in memory beyond that time. Then the connection is broken off.
    """

    def __init__(self, answer: Answer, *, write_seconds: float = WRITE_SECONDS) -> None:
        self.status_code = answer.status
        self.background = None
        self.body = answer.body
        self.raw_headers = _raw(answer.headers)
        self._release = answer.release
        self._write_seconds = write_seconds
        if answer.status != HTTPStatus.NO_CONTENT:
            self.raw_headers.append((b"content-length", str(len(answer.body)).encode()))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI 3
        """Send it."""
        head = {"type": "http.response.start", "status": self.status_code}
        try:
            await self._send(send, {**head, "headers": self.raw_headers})
            for start in range(0, max(1, len(self.body)), PART_BYTES):
                part, end = self.body[start : start + PART_BYTES], start + PART_BYTES
                more = end < len(self.body)
                await self._send(
                    send, {"type": "http.response.body", "body": part, "more_body": more}
                )
        except (TimeoutError, OSError):
            # Returning without a last body message makes the server break the connection off.
            return
        finally:
            self.body = b""
            self._release()

    async def _send(self, send: Send, message: MutableMapping[str, Any]) -> None:
        async with asyncio.timeout(self._write_seconds):
            await send(message)


class StreamedResponse(Response):
    """Sends an answer as it is relayed. It is metered to its end when the caller leaves."""

    def __init__(self, answer: StreamingAnswer, detached: Detached) -> None:
        self._relay = answer.relay
        self._detached = detached
        self.status_code = answer.status
        self.background = None
        self.body = b""
        self.raw_headers = _raw(answer.headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  # ASGI 3
        """Send it."""
        caller = _Caller(send)
        try:
            await send(
                {
                    "type": "http.response.start",
                    "status": self.status_code,
                    "headers": self.raw_headers,
                }
            )
        except OSError:
            caller.is_gone = True
        except BaseException:
            caller.is_gone = True
            self._detached.start(self._relay.run(caller))
            raise
        task = self._detached.start(self._relay.run(caller))
        watch = asyncio.create_task(caller.watch(receive))
        try:
            await asyncio.shield(task)
        except AnswerCut:
            # Returning without a last body message makes the server break the connection off.
            return
        except asyncio.CancelledError:
            caller.is_gone = True
            raise
        finally:
            watch.cancel()
        if not caller.is_gone:
            await send({"type": "http.response.body", "body": b"", "more_body": False})


def _raw(headers: Headers) -> list[tuple[bytes, bytes]]:
    # aiohttp reads headers as UTF-8 with surrogates for other bytes: this writes the same bytes.
    return [
        (name.encode("latin-1"), value.encode("utf-8", "surrogateescape"))
        for name, value in headers
    ]


class _Caller:
    """The sink for one caller."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.is_gone = False

    async def write(self, data: bytes) -> None:
        if self.is_gone:
            raise CallerGone
        try:
            for start in range(
                0, len(data), PART_BYTES
            ):  # the server waits for callers between parts
                part = data[start : start + PART_BYTES]
                await self._send({"type": "http.response.body", "body": part, "more_body": True})
        except OSError:
            self.is_gone = True
        if self.is_gone:
            raise CallerGone

    async def watch(self, receive: Receive) -> None:
        while not self.is_gone:
            message = await receive()
            self.is_gone = message["type"] == "http.disconnect"


class _Body:
    """`meter.gateway.http.RequestBody` of one ASGI request."""

    def __init__(self, request: Request, limits: RequestLimits) -> None:
        self._receive = request.receive
        self._declared = request.headers.get("content-length", "")
        self._max_bytes = limits.max_body_bytes
        self._timeout_seconds = limits.read_timeout_seconds
        self._deadline: float | None = None
        self._size = 0
        self._is_ended = False

    async def read(self) -> bytes:
        parts: list[bytes] = []
        while part := await self.next_part():
            parts.append(part)
        return b"".join(parts)

    async def next_part(self) -> bytes:
        if self._is_ended:
            return b""  # most bodies are one part: their end costs no timer
        if self._declared.isdigit() and int(self._declared) > self._max_bytes:
            raise self._too_large()
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._timeout_seconds
        try:
            async with asyncio.timeout_at(self._deadline):
                return await self._next_part()
        except TimeoutError as exc:
            text = f"The request body was not sent within {self._timeout_seconds:g} seconds."
            raise TooLarge(text, status=408, code="RequestTimeout") from exc

    async def _next_part(self) -> bytes:
        while not self._is_ended:
            if self._size > self._max_bytes:
                raise self._too_large()
            message = await self._receive()
            if message["type"] == "http.disconnect":
                text = "The request body was not sent to its end."
                raise TooLarge(text, status=400, code="BadRequest")
            part: bytes = message.get("body", b"")
            self._size += len(part)
            if self._size > self._max_bytes:
                raise self._too_large()
            self._is_ended = not message.get("more_body", False)
            if part:
                return part
        return b""

    def _too_large(self) -> TooLarge:
        return TooLarge(f"The request body is larger than {self._max_bytes} bytes.")
