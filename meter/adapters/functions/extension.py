"""A web extension for Azure Functions that streams: Starlette requests, served by uvicorn.

Importing it switches every HTTP function of the app to Starlette's `Request` and `Response`
(azurefunctions-extensions-base finds the classes by their metaclasses). It does what Microsoft's
FastAPI extension does at about half the CPU per request, and lets no call wait for ever.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial

from meter.adapters.libraries.functions import Config, Server

# isort: split
from azurefunctions.extensions.base import RequestSynchronizer as BaseRequestSynchronizer
from azurefunctions.extensions.base import RequestTrackerMeta, ResponseLabels, ResponseTrackerMeta
from azurefunctions.extensions.base import WebApp as BaseWebApp
from azurefunctions.extensions.base import WebServer as BaseWebServer
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from meter.adapters.clock import new_call_id
from meter.adapters.functions.protocol import bounded_http, connection_limits
from meter.adapters.functions.receiving import name_of
from meter.adapters.functions.rendezvous import (
    INVOCATION_WAIT_SECONDS,
    NoInvocation,
    Rendezvous,
    replace_coordinator,
)
from meter.adapters.functions.web import GatewayResponse, live
from meter.errors import BadRequest
from meter.gateway.detached import Detached
from meter.gateway.http import INTERNAL_ERROR, RequestLimits, error_answer, marked

INVOCATION_HEADER = "x-ms-invocation-id"
# The host keeps idle connections for up to 75 s, unused ones too. One that the worker closes just
# as the host sends a body fails the forward, and with it the call.
HOST_POOL_SECONDS = 120

log = logging.getLogger(__name__)

_INVOCATION_HEADER = INVOCATION_HEADER.encode()
_NO_INVOCATION = BadRequest(
    "The header x-ms-invocation-id is the Functions host's own: do not send it."
)

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
        self._rendezvous = Rendezvous(self._end_lost, _process.invocation_wait_seconds)
        self._endpoint: Endpoint | None = None
        self._lost = Detached()

    def route(self, func: Endpoint) -> None:
        """Take the runtime's catch-all endpoint; it serves only if the runtime's parts have changed."""
        self._endpoint = None if replace_coordinator(self._rendezvous) else func

    @property
    def held(self) -> int:
        """Requests and invocations that are not finished."""
        return self._rendezvous.held

    def get_app(self) -> "WebApp":
        """The ASGI app: this object."""
        return self

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request, or the process's life (ASGI 3)."""
        if scope["type"] == "lifespan":
            await live(receive, send, start=_process.start, close=self._close)
            return
        request = Request(scope, receive)
        if self._endpoint is not None:
            response = await self._endpoint(request)
        else:
            response = await self._answer(request, scope)
        await response(scope, receive, send)

    async def _close(self) -> None:
        await (
            self._rendezvous.end_cancelled()
        )  # the app closes behind the calls that they hand over
        await _process.close()

    def _end_lost(self, result: object) -> None:
        """Send a response to nobody: it ends its call, and with that counts it."""
        if isinstance(result, Response):
            self._lost.start(result({"type": "http"}, _leave, _refuse))

    async def _answer(self, request: Request, scope: Scope) -> Response:
        headers = scope["headers"]
        names = list(map(name_of, headers))
        try:
            if (count := names.count(_INVOCATION_HEADER)) != 1:
                raise NoInvocation(f"{count} invocation ids")
            _, invocation_id = headers[names.index(_INVOCATION_HEADER)]
            result = await self._rendezvous.answer(invocation_id.decode("latin-1"), request)
        except NoInvocation as exc:
            event_id = new_call_id()
            log.warning("invocation_unknown event_id=%s reason=%s", event_id, exc)
            return GatewayResponse(marked(error_answer(_NO_INVOCATION), event_id))
        if isinstance(result, Response):
            return result
        event_id = new_call_id()
        log.error("invocation_failed event_id=%s", event_id, exc_info=_raised(result))
        return GatewayResponse(marked(error_answer(INTERNAL_ERROR), event_id))


async def _leave() -> Message:
    return {"type": "http.disconnect"}


async def _refuse(message: Message) -> None:
    raise OSError(f"nobody takes this {message['type']}")


def _raised(result: object) -> BaseException | None:
    return result if isinstance(result, BaseException) else None


class WebServer(BaseWebServer):  # type: ignore[misc]  # the base is untyped
    """Serves the app where the host expects it."""

    async def serve(self) -> None:
        """Run until the process ends.

        uvicorn takes SIGTERM for itself: it stops listening, lets answers end, then calls the
        app's lifespan, which closes the app, and then lets the signal end the process.
        """
        config = Config(
            self.web_app,
            host=self.hostname,
            port=self.port,
            http=bounded_http(connection_limits(_process.limits, seconds=HOST_POOL_SECONDS)),
            ws="none",
            lifespan="on",
            timeout_graceful_shutdown=max(1, round(_process.answers_seconds)),
            access_log=False,  # it would print query strings, and costs as much as the request
            log_level="warning",
            server_header=False,
            proxy_headers=False,  # nobody reads what is made of them
            timeout_keep_alive=HOST_POOL_SECONDS,
        )
        await Server(config).serve()


@dataclass(slots=True)
class _Process:
    """What the worker's one app asks of its HTTP side."""

    close: Callable[[], Awaitable[None]]
    answers_seconds: float
    invocation_wait_seconds: float
    limits: RequestLimits | None = None
    start: Callable[[], RequestLimits | None] = lambda: None


_process = _Process(
    close=partial(asyncio.sleep, 0),
    answers_seconds=15.0,
    invocation_wait_seconds=INVOCATION_WAIT_SECONDS,
)


def configure_worker(
    *,
    close: Callable[[], Awaitable[None]],
    answers_seconds: float,
    invocation_wait_seconds: float = INVOCATION_WAIT_SECONDS,
    limits: RequestLimits | None = None,
    start: Callable[[], RequestLimits | None] = lambda: None,
) -> None:
    """Have the worker call `close` on SIGTERM, after answers had `answers_seconds` to end.

    `start` is called as its server starts, before the host forwards anything. Requests and invocations
    wait `invocation_wait_seconds` for each other; `limits` bound requests. Call it on import, before the
    runtime starts its HTTP server.
    """
    _process.close, _process.answers_seconds = close, answers_seconds
    _process.invocation_wait_seconds, _process.limits = invocation_wait_seconds, limits
    _process.start = start
