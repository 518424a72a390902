"""Builds the front door."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.identity import ConfiguredCredentials
from meter.adapters.oidc import DiscoveryKeySource
from meter.adapters.tokenizer import build_estimator
from meter.adapters.upstream import AiohttpUpstream
from meter.config.values import GatewaySettings, Settings
from meter.gateway.answer.relay import Drains, Relays
from meter.gateway.background import Background
from meter.gateway.balance.forward import Forwarder
from meter.gateway.balance.pool import Pool
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.front_door import FrontDoor
from meter.publishing.sink import PublishingSink
from meter.wiring.entrance import (
    Environment,
    build_admission,
    build_book,
    build_dispatcher,
    build_joins,
    build_operators,
)
from meter.wiring.metering import Publisher, build_sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A front door and the parts that it stands on. `price_book` says what became of the app's own."""

    front_door: FrontDoor
    keys: KeyRing
    publisher: Publisher
    sink: PublishingSink
    settings: GatewaySettings
    price_book: Callable[[], Awaitable[str | None]]
    upstream: AiohttpUpstream
    credentials: ConfiguredCredentials


def build_gateway(settings: Settings, publisher: Publisher, environment: Environment) -> Gateway:
    """Build a front door. Must be called in the event loop that will own it."""
    gateway = settings.gateway
    clock, dice = SystemClock(), system_dice()
    sink = build_sink(publisher, settings)
    upstream = _upstream(gateway)
    credentials = ConfiguredCredentials(gateway.auth, scope=gateway.token_scope)
    keys = KeyRing(
        DiscoveryKeySource(gateway.discovery_queries), clock, gateway.jwks_refresh_seconds
    )
    pool = Pool(gateway.backends, clock, dice)
    book = build_book(settings.prices)
    operators = build_operators(gateway, keys, environment, clock)
    forwarder = Forwarder(pool, upstream, credentials, clock, gateway.limits.forwarding)
    front_door = FrontDoor(
        admission=build_admission(gateway, keys, clock),
        forwarder=forwarder,
        sink=sink,
        clock=clock,
        dice=dice,
        relays=_relays(gateway),
        background=Background(forwarder, sink, dice, gateway.limits.drains.share_percent),
        first_keepalive_seconds=gateway.limits.first_keepalive_seconds,
        joins=build_joins(gateway, clock),
        source=gateway.source,
        long_context_tokens=gateway.long_context_tokens,
        exposes_backend=gateway.exposes_backend,
        dispatcher=build_dispatcher(gateway, publisher.store, book, operators, clock),
    )
    return Gateway(
        front_door=front_door,
        keys=keys,
        publisher=publisher,
        sink=sink,
        settings=gateway,
        price_book=book.state,
        upstream=upstream,
        credentials=credentials,
    )


def _upstream(settings: GatewaySettings) -> AiohttpUpstream:
    return AiohttpUpstream(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        idle_timeout_seconds=settings.idle_timeout_seconds,
    )


def _relays(settings: GatewaySettings) -> Relays:
    return Relays(
        times=settings.limits.times,
        drains=Drains(settings.limits.drains),
        estimator=build_estimator(),
        max_frame_bytes=settings.max_frame_bytes,
    )
