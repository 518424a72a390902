"""Wires the app together, once a process and on first use. Only here is the environment read.

Importing this module does nothing: the Functions host imports the app on every cold start and
gives up on all of it if that fails. What cannot be built is answered with 503 and the reasons.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from azure.core.credentials_async import AsyncTokenCredential
from azure.data.tables.aio import TableServiceClient
from azure.eventhub.aio import EventHubProducerClient
from azure.identity.aio import DefaultAzureCredential
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.eventhub import EventHubSender, PublishingSink
from meter.adapters.identity import ConfiguredCredentials
from meter.adapters.oidc import DiscoveryKeySource
from meter.adapters.outbox import TableOutbox
from meter.adapters.streaming import GatewayResponse, finish_relays, gateway_request
from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.adapters.upstream import AiohttpUpstream
from meter.config import InvalidSettings, event_hub_name, load_settings, load_storage_settings
from meter.errors import CallerError, PublishFailed, StorageUnavailable
from meter.gateway.auth import TokenVerifier
from meter.gateway.backend import ManagedIdentity
from meter.gateway.forward import Forwarder
from meter.gateway.handler import Answer, FrontDoor, error_answer
from meter.gateway.headers import exceeds, headers_too_large
from meter.gateway.jwks import KeyRing
from meter.gateway.pool import Pool
from meter.gateway.relay import Drains
from meter.ledger.commit import Committer
from meter.ledger.handler import Aggregator
from meter.ledger.retention import Retention
from meter.ledger.subjects import SubjectWriter
from meter.ledger.sweep import Sweep
from meter.ledger.view import ViewWriter
from meter.settings import (
    AzureEndpoint,
    Durability,
    GatewaySettings,
    HubSettings,
    OnDisconnect,
    Settings,
    StorageSettings,
)

READY_TIMEOUT_SECONDS = 5.0

log = logging.getLogger(__name__)


class _Closable(Protocol):
    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A front door with all it stands on. `close` publishes what is pending first."""

    front_door: FrontDoor
    keys: KeyRing
    sender: EventHubSender
    store: TablesRowStore
    outbox: TableOutbox
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

    async def close(self) -> None:
        """Finish what is under way, in the order in which it depends on each other."""
        await finish_relays()
        for closable in self.closables:
            await closable.close()


class App:
    """The function app: builds its parts on first use, in the event loop that then owns them."""

    def __init__(
        self, environment: Callable[[], dict[str, str]] = lambda: dict(os.environ)
    ) -> None:
        self._environment = environment
        self._gateway: Gateway | None = None
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
            return GatewayResponse(error_answer(_not_configured()))
        try:
            return await gateway.answer(request)
        except Exception:
            # The last line: a fault of ours is answered in the shape callers can read.
            log.exception("call_failed_unexpectedly")
            return GatewayResponse(_internal_error())

    def gateway(self) -> Gateway:
        """The front door. Raises InvalidSettings."""
        if self._gateway is None:
            self._gateway = build_gateway(load_settings(self._environment()))
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
        """One run of the sweep timer: how many view rows it healed."""
        store, _ = self._storage()
        return await Sweep(store=store, clock=SystemClock()).run()

    async def drop_old_ledgers(self) -> list[str]:
        """One run of the retention timer: the tables it dropped."""
        store, retention = self._storage()
        return await Retention(tables=store, clock=SystemClock(), retention=retention).run()

    async def republish(self) -> int:
        """One run of the outbox timer: how many events were published."""
        gateway = self.gateway()
        return await gateway.outbox.republish(gateway.sender)

    def event_hub_name(self) -> str:
        """The hub's name, for the trigger's binding."""
        return event_hub_name(self._environment())

    async def close(self) -> None:
        """Publish what is pending and disconnect."""
        if self._gateway is not None:
            await self._gateway.close()
            self._gateway = None
        if self._store is not None:
            await self._store.close()

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
        reasons = [reason async for reason in _unready(gateway)]
        if reasons:
            return _health({"status": "unready", "reasons": reasons}, status=503)
        return _health({"status": "ready"})


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


@asynccontextmanager
async def open_aggregator() -> AsyncIterator[Aggregator]:
    """An aggregator on the tables the environment names, for commands. Raises InvalidSettings."""
    retention = load_storage_settings(os.environ).retention
    async with open_store() as store:
        yield build_aggregator(store, retention)


def build_gateway(settings: Settings) -> Gateway:
    """Wire a front door. Must be called in the event loop it will live in."""
    gateway, limits = settings.gateway, settings.gateway.limits
    clock = SystemClock()
    identity = DefaultAzureCredential() if _needs_identity(settings) else None
    store = build_store(settings.storage)
    outbox = TableOutbox(store)
    sender = EventHubSender(build_producer(settings.hub))
    sink = PublishingSink(
        sender,
        outbox,
        acknowledge_timeout_seconds=limits.publish_timeout_seconds,
        waits_for_acknowledgement=gateway.durability is Durability.ACKNOWLEDGED,
    )
    upstream = AiohttpUpstream(
        connect_timeout_seconds=limits.connect_timeout_seconds,
        idle_timeout_seconds=limits.idle_timeout_seconds,
    )
    keys = KeyRing(DiscoveryKeySource(), clock, gateway.jwks_refresh_seconds)
    dice = system_dice()
    front_door = FrontDoor(
        verifier=TokenVerifier(gateway.rules, keys, clock),
        forwarder=Forwarder(
            pool=Pool(gateway.backends, dice),
            upstream=upstream,
            credentials=ConfiguredCredentials(gateway.auth, identity),
            clock=clock,
            first_byte_timeout_seconds=limits.first_byte_timeout_seconds,
        ),
        sink=sink,
        clock=clock,
        dice=dice,
        drains=Drains(
            most=limits.max_drains if gateway.on_disconnect is OnDisconnect.DRAIN else 0,
            seconds=limits.drain_seconds,
        ),
        write_timeout_seconds=limits.write_timeout_seconds,
        keepalive_seconds=limits.keepalive_seconds,
        total_timeout_seconds=limits.total_timeout_seconds,
        max_concurrent_calls=limits.max_concurrent_calls,
        source=gateway.source,
        exposes_backend=gateway.exposes_backend,
    )
    identities = () if identity is None else (identity,)
    return Gateway(
        front_door=front_door,
        keys=keys,
        sender=sender,
        store=store,
        outbox=outbox,
        settings=gateway,
        closables=(upstream, sink, sender, store, *identities),
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


def build_store(settings: StorageSettings) -> TablesRowStore:
    """Connect to Table Storage."""
    endpoint = settings.endpoint
    if endpoint.connection_string is not None:
        service = TableServiceClient.from_connection_string(
            endpoint.connection_string, **CLIENT_OPTIONS
        )
    else:
        assert endpoint.address is not None, "settings name one or the other"
        service = TableServiceClient(
            endpoint.address, credential=_identity(endpoint), **CLIENT_OPTIONS
        )
    return TablesRowStore(service)


def build_producer(settings: HubSettings) -> EventHubProducerClient:
    """Connect to Event Hubs. The SDK's own retries stay few: the outbox stands behind them."""
    endpoint = settings.endpoint
    if endpoint.connection_string is not None:
        return EventHubProducerClient.from_connection_string(
            endpoint.connection_string, eventhub_name=settings.name, retry_total=1
        )
    assert endpoint.address is not None, "settings name one or the other"
    return EventHubProducerClient(
        endpoint.address, settings.name, _identity(endpoint), retry_total=1
    )


class _AsgiApp:
    """The front door without a Functions host, for containers and benchmarks."""

    def __init__(self) -> None:
        self._app = App()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["type"] == "http":
            response = await self._app.answer(Request(scope, receive))
            await response(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._app.warm()
                await send({"type": "lifespan.startup.complete"})
            else:
                await self._app.close()
                await send({"type": "lifespan.shutdown.complete"})
                return


asgi_app: ASGIApp = _AsgiApp()


async def _warm(gateway: Gateway) -> None:
    issuers = sorted(gateway.settings.rules.issuers)
    results = await asyncio.gather(
        gateway.sender.warm(), *(gateway.keys.load(i) for i in issuers), return_exceptions=True
    )
    for result in results:
        if isinstance(result, Exception):
            log.warning("not_warm_yet reason=%s", result)


async def _unready(gateway: Gateway) -> AsyncIterator[str]:
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            await gateway.sender.ping()
    except (PublishFailed, TimeoutError):
        yield "the event hub cannot be reached"
    try:
        async with asyncio.timeout(READY_TIMEOUT_SECONDS):
            await gateway.store.ping()
    except (StorageUnavailable, TimeoutError):
        yield "table storage cannot be reached"
    loaded = [await gateway.keys.load(issuer) for issuer in gateway.settings.rules.issuers]
    if not all(loaded):
        yield "an issuer's keys are not loaded"


def _needs_identity(settings: Settings) -> bool:
    return any(isinstance(auth, ManagedIdentity) for auth in settings.gateway.auth.values())


def _identity(endpoint: AzureEndpoint) -> AsyncTokenCredential:
    if endpoint.client_id is None:
        return DefaultAzureCredential()
    return DefaultAzureCredential(managed_identity_client_id=endpoint.client_id)


def _health(body: dict[str, object], *, status: int = 200) -> Response:
    return Response(json.dumps(body), status_code=status, media_type="application/json")


def _not_configured() -> CallerError:
    return CallerError(
        "This gateway is not configured yet: settings are missing or invalid. GET /readyz lists "
        "them, and so does `python -m meter check-config`.",
        status=503,
        code="ServiceUnavailable",
    )


def _internal_error() -> Answer:
    return error_answer(
        CallerError("The gateway failed unexpectedly.", status=500, code="InternalServerError")
    )
