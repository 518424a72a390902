"""Wires the app together, once a process and on first use. Only here is the environment read.

Importing this module does nothing: the Functions host imports the app on every cold start and
gives up on all of it if that fails. What cannot be built is answered with 503 and the reasons.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from azure.identity.aio import DefaultAzureCredential
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meter.adapters.clients import build_producer, build_store
from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.eventhub import EventHubSender
from meter.adapters.functions.web import GatewayResponse, finish_relays, gateway_request, live
from meter.adapters.identity import ConfiguredCredentials
from meter.adapters.oidc import DiscoveryKeySource
from meter.adapters.spool import FileSpool
from meter.adapters.tables import TablesRowStore
from meter.adapters.tokenizer import token_counter
from meter.adapters.upstream import AiohttpUpstream
from meter.config.environment import (
    InvalidSettings,
    event_hub_name,
    load_publish_settings,
    load_reconcile_settings,
    load_settings,
    load_storage_settings,
    shutdown_seconds,
)
from meter.config.values import (
    Durability,
    GatewaySettings,
    Limits,
    OnDisconnect,
    PublishSettings,
    ReconcileSettings,
    Settings,
)
from meter.gateway.answer.estimate import Estimator
from meter.gateway.answer.relay import Drains, RelayTimes
from meter.gateway.backend import ManagedIdentity
from meter.gateway.balance.forward import Forwarder
from meter.gateway.balance.pool import Pool
from meter.gateway.caller.auth import TokenVerifier
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.front_door import CallLimits, FrontDoor
from meter.gateway.headers import exceeds, headers_too_large
from meter.gateway.http import error_answer, internal_error, not_configured
from meter.ledger.aggregator import Aggregator
from meter.ledger.commit import Committer
from meter.ledger.subjects import SubjectWriter
from meter.ledger.view import ViewWriter
from meter.publishing.circuit import HubCircuit
from meter.publishing.outbox import TableOutbox
from meter.publishing.readiness import readiness
from meter.publishing.sink import PublishingSink
from meter.upkeep.retention import Retention
from meter.upkeep.sweep import Sweep

# Of the time in which the process must end: answers have the rest of it.
CLOSING_SHARE = 0.4
# Of that rest: streams end, those that are cut are counted, what is pending is saved, links close.
RELAYS_SHARE, CUT_SHARE, SINK_SHARE = 0.1, 0.5, 0.2

log = logging.getLogger(__name__)


class _Closable(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Publisher:
    """The ways out for usage events: one warm link to the hub, and the outbox."""

    sender: EventHubSender
    outbox: TableOutbox
    store: TablesRowStore

    async def close(self) -> None:
        """Disconnect."""
        await self.sender.close()
        await self.store.close()


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A front door with all it stands on."""

    front_door: FrontDoor
    keys: KeyRing
    publisher: Publisher
    sink: PublishingSink
    settings: GatewaySettings
    closables: tuple[_Closable, ...]

    async def answer(self, request: Request) -> Response:
        """Answer one call."""
        limits = self.settings.limits
        limited = gateway_request(
            request,
            max_body_bytes=limits.max_body_bytes,
            read_timeout_seconds=limits.read_timeout_seconds,
        )
        if exceeds(limited.headers, limits.max_headers, limits.max_header_bytes):
            return GatewayResponse(error_answer(headers_too_large()))
        return GatewayResponse(await self.front_door.handle(limited))

    async def close(self, seconds: float) -> None:
        """End what is under way and publish it, in about that time."""
        self.sink.hurry((RELAYS_SHARE + CUT_SHARE) * seconds)
        waits, cuts = RELAYS_SHARE * seconds, CUT_SHARE * seconds
        await asyncio.gather(
            finish_relays(waits, cut_seconds=cuts), self.front_door.finish(waits, cut_seconds=cuts)
        )
        await self.sink.close(SINK_SHARE * seconds)
        for closable in self.closables:
            await closable.close()


class App:
    """The function app: builds its parts on first use, in the event loop that then owns them."""

    def __init__(
        self, environment: Callable[[], dict[str, str]] = lambda: dict(os.environ)
    ) -> None:
        self._environment = environment
        self._gateway: Gateway | None = None
        self._publisher: Publisher | None = None
        self._aggregator: Aggregator | None = None
        self._store: TablesRowStore | None = None
        self._warming: asyncio.Task[None] | None = None

    async def answer(self, request: Request) -> Response:
        """The front door's answer to an HTTP request; 503 where it is not configured."""
        path = request.scope["path"]
        if path in {"/healthz", "/readyz"} and request.method in {"GET", "HEAD"}:
            return _health({"status": "alive"}) if path == "/healthz" else await self._readiness()
        try:
            gateway = self.gateway()
        except InvalidSettings as exc:
            log.error("settings_invalid problems=%s", "; ".join(exc.problems))
            return GatewayResponse(not_configured())
        try:
            return await gateway.answer(request)
        except Exception:
            # The last line: a fault of ours is answered in the shape callers can read.
            log.exception("call_failed_unexpectedly")
            return GatewayResponse(internal_error())

    def gateway(self) -> Gateway:
        """The front door. Raises InvalidSettings."""
        if self._gateway is None:
            settings = load_settings(self._environment())
            self._gateway = build_gateway(settings, self._publisher_of(settings.publish))
            # Connecting takes longer than most calls wait for it; the first call pays once.
            self._warming = asyncio.create_task(_warm(self._gateway))
        return self._gateway

    def warm(self) -> None:
        """Start connecting, where the settings allow it; a call does the same."""
        with suppress(InvalidSettings):
            self.gateway()

    def aggregator(self) -> Aggregator:
        """The aggregator. Raises InvalidSettings."""
        if self._aggregator is None:
            store, retention = self._storage()
            self._aggregator = build_aggregator(store, retention)
        return self._aggregator

    async def sweep(self) -> int:
        """One run of the sweep timer: how many view rows it repaired."""
        store, _ = self._storage()
        return await Sweep(store=store, clock=SystemClock()).run()

    async def drop_old_ledgers(self) -> list[str]:
        """One run of the retention timer: the tables it dropped."""
        store, retention = self._storage()
        return await Retention(tables=store, clock=SystemClock(), retention=retention).run()

    async def republish(self) -> int:
        """One run of the outbox timer: how many events were published. Raises InvalidSettings."""
        publisher = self._publisher_of(load_publish_settings(self._environment()))
        backlog = await publisher.outbox.backlog()
        log.info(
            "outbox_backlog events=%d oldest_seconds=%.0f", backlog.events, backlog.oldest_seconds
        )
        return await publisher.outbox.republish(publisher.sender)

    def event_hub_name(self) -> str:
        """The hub's name, for the trigger's binding."""
        return event_hub_name(self._environment())

    def answers_seconds(self) -> float:
        """How long answers may go on when the process is told to end."""
        return shutdown_seconds(self._environment()) * (1 - CLOSING_SHARE)

    async def close(self) -> None:
        """Publish what is pending and disconnect, in what is left of `METER_SHUTDOWN_SECONDS`."""
        seconds = shutdown_seconds(self._environment()) * CLOSING_SHARE
        if self._gateway is not None:
            await self._gateway.close(seconds)
        for closable in (self._publisher, self._store):
            if closable is not None:
                await closable.close()
        self._gateway = self._publisher = self._store = self._aggregator = None

    def _publisher_of(self, settings: PublishSettings) -> Publisher:
        if self._publisher is None:
            self._publisher = build_publisher(settings)
        return self._publisher

    def _storage(self) -> tuple[TablesRowStore, timedelta]:
        settings = load_storage_settings(self._environment())
        if self._store is None:
            self._store = build_store(settings)
        return self._store, settings.retention

    async def _readiness(self) -> Response:
        try:
            gateway = self.gateway()
        except InvalidSettings as exc:
            shown = sorted({f"{problem.setting} {problem.text}" for problem in exc.found})
            return _health({"status": "unready", "settings": shown}, status=503)
        found = await readiness(
            hub=gateway.publisher.sender,
            storage=gateway.publisher.store,
            outbox=gateway.publisher.outbox,
            keys=gateway.keys,
            issuers=gateway.settings.rules.issuers,
        )
        return _health(found, status=200 if found["status"] == "ready" else 503)


def current_settings() -> Settings:
    """The settings in the environment. Raises InvalidSettings with every problem."""
    return load_settings(os.environ)


@asynccontextmanager
async def open_store() -> AsyncIterator[TablesRowStore]:
    """The tables the environment names, for commands. Raises InvalidSettings."""
    store = build_store(load_storage_settings(os.environ))
    try:
        yield store
    finally:
        await store.close()


def current_reconcile_settings() -> ReconcileSettings:
    """What a reconciliation needs of the environment. Raises InvalidSettings."""
    return load_reconcile_settings(os.environ)


@asynccontextmanager
async def open_aggregator() -> AsyncIterator[Aggregator]:
    """An aggregator on the tables the environment names, for commands. Raises InvalidSettings."""
    retention = load_storage_settings(os.environ).retention
    async with open_store() as store:
        yield build_aggregator(store, retention)


def build_publisher(settings: PublishSettings) -> Publisher:
    """Wire the ways out for usage events. Must be called in the event loop they will live in."""
    clock, store = SystemClock(), build_store(settings.storage)
    sender = EventHubSender(
        build_producer(settings.hub),
        clock=clock,
        dice=system_dice(),
        patience_seconds=settings.timeout_seconds,
    )
    return Publisher(sender=sender, outbox=TableOutbox(store, clock), store=store)


def build_gateway(settings: Settings, publisher: Publisher) -> Gateway:
    """Wire a front door. Must be called in the event loop it will live in."""
    gateway, limits = settings.gateway, settings.gateway.limits
    clock = SystemClock()
    dice = system_dice()
    identity = DefaultAzureCredential() if _needs_identity(settings) else None
    sink = PublishingSink(
        publisher.sender,
        publisher.outbox,
        HubCircuit(clock, dice),
        acknowledge_timeout_seconds=limits.publish_timeout_seconds,
        waits_for_acknowledgement=gateway.durability is Durability.ACKNOWLEDGED,
    )
    upstream = AiohttpUpstream(
        connect_timeout_seconds=limits.connect_timeout_seconds,
        idle_timeout_seconds=limits.idle_timeout_seconds,
    )
    keys = KeyRing(DiscoveryKeySource(), clock, gateway.jwks_refresh_seconds)
    front_door = FrontDoor(
        verifier=TokenVerifier(gateway.rules, keys, clock),
        forwarder=Forwarder(
            pool=Pool(gateway.backends, dice),
            upstream=upstream,
            credentials=ConfiguredCredentials(gateway.auth, identity),
            clock=clock,
            first_byte_timeout_seconds=limits.first_byte_timeout_seconds,
            max_buffered_bytes=limits.max_buffered_bytes,
        ),
        sink=sink,
        clock=clock,
        dice=dice,
        drains=Drains(
            most=limits.max_drains if gateway.on_disconnect is OnDisconnect.DRAIN else 0,
            seconds=limits.drain_seconds,
        ),
        limits=_call_limits(limits),
        new_spool=FileSpool,
        estimator=Estimator(token_counter()),
        source=gateway.source,
        exposes_backend=gateway.exposes_backend,
    )
    identities = () if identity is None else (identity,)
    return Gateway(
        front_door=front_door,
        keys=keys,
        publisher=publisher,
        sink=sink,
        settings=gateway,
        closables=(upstream, *identities),
    )


def _call_limits(limits: Limits) -> CallLimits:
    return CallLimits(
        times=RelayTimes(
            write_seconds=limits.write_timeout_seconds,
            keepalive_seconds=limits.keepalive_seconds,
            total_seconds=limits.total_timeout_seconds,
        ),
        first_keepalive_seconds=limits.first_keepalive_seconds,
        max_concurrent_calls=limits.max_concurrent_calls,
        max_frame_bytes=limits.max_frame_bytes,
    )


def build_aggregator(store: TablesRowStore, retention: timedelta) -> Aggregator:
    """Wire an aggregator on a store."""
    return Aggregator(
        store=store,
        clock=SystemClock(),
        retention=retention,
        committer=Committer(store),
        views=ViewWriter(store),
        subjects=SubjectWriter(store),
    )


class _AsgiApp:
    """The front door without a Functions host, for containers and benchmarks."""

    def __init__(self) -> None:
        self._app = App()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await live(receive, send, start=self._app.warm, close=self._app.close)
        elif scope["type"] == "http":
            response = await self._app.answer(Request(scope, receive))
            await response(scope, receive, send)


asgi_app: ASGIApp = _AsgiApp()


async def _warm(gateway: Gateway) -> None:
    issuers = sorted(gateway.settings.rules.issuers)
    results = await asyncio.gather(
        gateway.publisher.sender.warm(),
        *(gateway.keys.load(i) for i in issuers),
        return_exceptions=True,
    )
    for result in results:
        if isinstance(result, Exception):
            log.warning("not_warm_yet reason=%s", result)


def _needs_identity(settings: Settings) -> bool:
    return any(isinstance(auth, ManagedIdentity) for auth in settings.gateway.auth.values())


def _health(body: Mapping[str, object], *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")
