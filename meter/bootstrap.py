"""The app from its first use to its end: parts are built on demand, report health, and close.

Importing this module connects to nothing: the Functions host imports the app on every cold start and
drops the whole app if that fails. Without valid settings, calls get 503 and `/readyz` the reasons.
"""

# ruff: noqa: E402
from meter.adapters.functions.memory import collect_rarely, keep_freed_memory, keep_what_is_there

collect_rarely()  # first: what the imports make is no garbage

import asyncio
import json
import logging
import os
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meter.adapters.clock import SystemClock, new_call_id
from meter.adapters.functions.console import flush_console, log_to_console
from meter.adapters.functions.web import GatewayResponse, gateway_request, live, response_of
from meter.config.environment import (
    event_hub_name,
    has_front_door,
    invocation_wait_seconds,
    load_publish_settings,
    load_settings,
    log_level,
    request_limits,
    shutdown_seconds,
)
from meter.errors import CallerError, InvalidSettings, MethodNotAllowed, TooLarge
from meter.gateway.http import (
    INTERNAL_ERROR,
    NOT_CONFIGURED,
    Answer,
    RequestLimits,
    error_answer,
    marked,
    wait_headers,
)
from meter.gateway.request.dispatch import refused_upgrade
from meter.publishing.readiness import Readiness
from meter.wiring.counting import Counting
from meter.wiring.metering import (
    Publisher,
    build_publisher,
)
from meter.wiring.telemetry import Observation

if TYPE_CHECKING:
    from meter.ledger.aggregator import Aggregator
    from meter.wiring.gateway import Gateway
    from meter.wiring.stored.reloading import StoredSettings

FRONT_DOOR = "meter.wiring.stored.reloading"  # with all that it stands on

# Share of the shutdown time; running answers get the rest.
CLOSING_SHARE = 0.4
# Shares of the closing time: to end streams, to count those that are cut, to save pending events.
RELAYS_SHARE, CUT_SHARE, SINK_SHARE = 0.1, 0.5, 0.2
EXPORT_SHARE = 0.1  # for what telemetry has not sent yet
VIEWS_SHARE = 0.1  # for what the aggregator has not shown yet
# Addresses that need no token.
_OPEN = frozenset({"/", "/healthz", "/readyz"})
_OPEN_METHODS = ("GET", "HEAD", "OPTIONS")
_INDEX = {
    "service": "aoai-meter",
    "about": "Azure OpenAI, metered: send its requests to /openai/v1/ with an Entra ID token.",
    "docs": "docs/calling.md",
    "models": "/openai/v1/models",
    "usage": "/usage/me",
}

log = logging.getLogger(__name__)


class App:
    """The function app: builds its parts on first use, in the event loop that then owns them."""

    def __init__(
        self, environment: Callable[[], dict[str, str]] = lambda: dict(os.environ)
    ) -> None:
        self._environment = environment
        self._gateway: Gateway | None = None
        self._publisher: Publisher | None = None
        self._observation = Observation(environment)
        self._counting = Counting(environment, self._observation)
        self._ready: Readiness | None = None
        self._starting: asyncio.Task[None] | None = None
        self._warming: asyncio.Task[None] | None = None
        self._stored: StoredSettings | None = None

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """The answer to an HTTP request; 503 where the front door is not configured."""
        if scope["path"] in _OPEN and _is_open(request := Request(scope)):
            return GatewayResponse(marked(await self._open(request), new_call_id()))
        try:
            gateway = self._gateway or await self._built()
            limits, door = gateway.settings.requests, gateway.front_door
            limited = gateway_request(scope, receive, limits)
            limited.check_headers(limits)
            write_seconds = gateway.settings.limits.times.write_seconds
            answer = await door.handle(limited)
            return response_of(answer, door.detached, write_seconds=write_seconds)
        except InvalidSettings as exc:
            event_id = new_call_id()
            problems = "; ".join(exc.problems)
            log.error("settings_invalid event_id=%s problems=%s", event_id, problems)
            error: CallerError = _refused_upgrade(Request(scope)) or NOT_CONFIGURED
        except TooLarge as exc:
            event_id, error = new_call_id(), exc
        except Exception:
            # Last resort: an internal error still gets an answer that callers can parse.
            event_id = new_call_id()
            log.exception("call_failed_unexpectedly event_id=%s", event_id)
            error = INTERNAL_ERROR
        return GatewayResponse(marked(error_answer(error), event_id))

    async def _open(self, request: Request) -> Answer:
        """The answer at an address that needs no token."""
        if request.method == "OPTIONS":
            return Answer(status=204, headers=(("allow", ", ".join(_OPEN_METHODS)),), body=b"")
        if request.method not in _OPEN_METHODS:
            return error_answer(MethodNotAllowed(_OPEN_METHODS))
        match request.scope["path"]:
            case "/healthz":
                return _document({"status": "alive"})
            case "/readyz":
                return await self._readiness()
            case _:
                return _document(_INDEX)

    async def _built(self) -> "Gateway":
        """The front door, once the blobs that the settings name are read. Raises InvalidSettings."""
        if self._gateway is None:
            # In a thread, so that the link to the hub opens meanwhile.
            await asyncio.to_thread(import_module, FRONT_DOOR)
            await self.stored.fetch()
        return self.gateway()

    def gateway(self) -> "Gateway":
        """The front door. Raises InvalidSettings."""
        if self._gateway is None:
            from meter.wiring.gateway import build_gateway

            surroundings = self.stored.surroundings
            settings = load_settings(self._environment(), surroundings.documents)
            for warning in settings.warnings:
                log.warning("setting_dangerous reason=%s", warning)
            self._gateway = build_gateway(settings, self._publisher_of(), surroundings)
            # Connecting takes longer than most calls wait, so it begins before it is needed.
            self._warming = asyncio.create_task(_warm(self._gateway))
            self.stored.start(self._gateway)
        return self._gateway

    @property
    def stored(self) -> "StoredSettings":
        """The settings that stand in files and blobs."""
        if self._stored is None:
            from meter.wiring.stored.reloading import StoredSettings

            self._stored = StoredSettings(self._environment)
        return self._stored

    def warm(self) -> RequestLimits:
        """Begin to connect and to build, as the first call would; the bounds on requests.

        The server calls it, in the loop that it runs in, before it listens. An app that only counts has
        the server, too, but no right to send to the hub.
        """
        if has_front_door(self._environment()):
            self._starting = asyncio.create_task(self._start())
        return self.request_limits()

    async def _start(self) -> None:
        try:
            # First the hub: opening its link takes longest, and is mostly waiting.
            connecting = asyncio.create_task(self._publisher_of().sender.warm())
            await asyncio.gather(self._built(), connecting, return_exceptions=True)
        except InvalidSettings:
            return  # the first call says so
        if self._warming is not None:
            await self._warming
            keep_what_is_there()
            keep_freed_memory()

    def aggregator(self) -> "Aggregator":
        """The aggregator. Raises InvalidSettings."""
        return self._counting.aggregator()

    async def sweep(self) -> int:
        """One run of the sweep timer: how many view rows it repaired."""
        return await self._counting.sweep()

    async def drop_old_ledgers(self) -> str | None:
        """One run of the retention timer: the table it dropped, if any."""
        return await self._counting.drop_old_ledgers()

    async def export(self) -> None:
        """One run of the export timer, if the settings say where it goes. Raises MeterError."""
        await self._counting.export()

    async def republish(self) -> int:
        """One run of the outbox timer: how many events were published. Raises InvalidSettings."""
        publisher = self._publisher_of()
        await publisher.log_hub_backlog()
        backlog = await publisher.outbox.backlog()
        log.info(
            "outbox_backlog events=%d oldest_seconds=%.0f", backlog.events, backlog.oldest_seconds
        )
        publisher.monitoring.backlog(backlog)
        return await publisher.outbox.republish(publisher.sender)

    def event_hub_name(self) -> str:
        """The hub's name, for the trigger's binding."""
        return event_hub_name(self._environment())

    def log_level(self) -> str:
        """The least level of the app's log lines."""
        return log_level(self._environment())

    def answers_seconds(self) -> float:
        """How long running answers may continue after the signal to stop."""
        return shutdown_seconds(self._environment()) * (1 - CLOSING_SHARE)

    def request_limits(self) -> RequestLimits:
        """The bounds on requests; the defaults where settings are invalid."""
        return request_limits(self._environment())

    def invocation_wait_seconds(self) -> float:
        """How long a request and its invocation wait for each other."""
        return invocation_wait_seconds(self._environment())

    async def close(self) -> None:
        """Publish pending events and disconnect, in the closing share of `METER_SHUTDOWN_SECONDS`."""
        seconds = shutdown_seconds(self._environment()) * CLOSING_SHARE
        try:
            if self._starting is not None:
                self._starting.cancel()
                await asyncio.gather(self._starting, return_exceptions=True)
            if self._stored is not None:
                await self._stored.close()
            if self._gateway is not None:
                await _close(self._gateway, seconds)
            await self._counting.close(VIEWS_SHARE * seconds)
            if self._publisher is not None:
                await self._publisher.close()
            await self._observation.close(EXPORT_SHARE * seconds)
        finally:
            await flush_console()
        self._gateway = self._publisher = self._ready = None

    def _publisher_of(self) -> Publisher:
        if self._publisher is None:
            settings = load_publish_settings(self._environment())
            self._publisher = build_publisher(settings, self._observation.monitoring())
        return self._publisher

    async def _readiness(self) -> Answer:
        try:
            gateway = await self._built()
        except InvalidSettings as exc:
            shown = sorted({f"{problem.setting} {problem.text}" for problem in exc.found})
            return _document({"status": "unready", "settings": shown}, status=503)
        if self._ready is None:
            self._ready = Readiness(
                ping_hub=gateway.publisher.sender.ping,
                ping_storage=gateway.publisher.store.ping,
                load_keys=gateway.keys.load,
                issuers=gateway.settings.rules.issuers,
                backlog=gateway.publisher.outbox.backlog,
                prices=gateway.book.state,
                clock=SystemClock(),
            )
        found = await self._ready.report()
        return _document(found, status=200 if found["status"] == "ready" else 503)


def _asgi(app: App) -> ASGIApp:
    """The front door without a Functions host, for containers and benchmarks."""

    def start() -> RequestLimits:
        log_to_console(app.log_level())
        return app.warm()

    async def run(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            response = await app.answer(scope, receive)
            await response(scope, receive, send)
        elif scope["type"] == "lifespan":
            await app.stored.fetch()  # `start` cannot wait for blobs
            await live(receive, send, start=start, close=app.close, app=run)

    return run


asgi_app = _asgi(App())


async def _warm(gateway: "Gateway") -> None:
    issuers = sorted(gateway.settings.rules.issuers)
    results = await asyncio.gather(
        gateway.publisher.sender.warm(),
        *(gateway.keys.load(i) for i in issuers),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, Exception):
            log.warning("warmup_failed reason=%s", result)


async def _close(gateway: "Gateway", seconds: float) -> None:
    """End the calls under way and publish their events, in about that time."""
    gateway.front_door.relays.estimator.hurry()
    gateway.sink.hurry((RELAYS_SHARE + CUT_SHARE) * seconds)
    detached = gateway.front_door.detached
    await detached.finish(RELAYS_SHARE * seconds, cut_seconds=CUT_SHARE * seconds)
    if (page := gateway.front_door.dispatcher.operators) is not None:
        await page.close()
    await gateway.front_door.instance.background.follow_ups.close()
    await gateway.sink.close(SINK_SHARE * seconds)
    await gateway.upstream.close()
    await gateway.credentials.close()


def _is_open(request: Request) -> bool:
    """Whether a request at such an address needs no token. At the root only reading methods do not.

    A WebSocket handshake is the front door's to refuse, at any address.
    """
    is_open = request.scope["path"] != "/" or request.method in _OPEN_METHODS
    return is_open and _refused_upgrade(request) is None


def _refused_upgrade(request: Request) -> CallerError | None:
    return refused_upgrade(request.method, tuple(request.headers.items()))


def _document(body: Mapping[str, object], *, status: int = 200) -> Answer:
    headers = (("content-type", "application/json"), *wait_headers(1 if status == 503 else None))
    return Answer(status=status, headers=headers, body=json.dumps(body).encode())
