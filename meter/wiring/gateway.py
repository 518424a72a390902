"""Builds the front door."""

from functools import partial

from msgspec import Struct

from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.identity import ConfiguredCredentials
from meter.adapters.upstream.client import HttpUpstream
from meter.config.values import GatewaySettings, Settings
from meter.gateway.background import Background
from meter.gateway.balance.forward import Forwarder
from meter.gateway.balance.pool import Pool
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.front_door import FrontDoor, Instance
from meter.reports.pricing.configured import ConfiguredBook
from meter.wiring.entrance import (
    Surroundings,
    build_admission,
    build_dispatcher,
    build_joins,
    build_keys,
    build_operators,
)
from meter.wiring.metering import Publisher, PublishingSink, build_sink
from meter.wiring.readings import gauges_of, url_of
from meter.wiring.relays import build_relays
from meter.wiring.stored.late import build_book


class Gateway(Struct, frozen=True, kw_only=True):
    """A front door and the parts that it stands on. `book` is the app's own price book."""

    front_door: FrontDoor
    keys: KeyRing
    publisher: Publisher
    sink: PublishingSink
    settings: GatewaySettings
    book: ConfiguredBook
    upstream: HttpUpstream
    credentials: ConfiguredCredentials


def build_gateway(settings: Settings, publisher: Publisher, surroundings: Surroundings) -> Gateway:
    """Build a front door. Must be called in the event loop that will own it."""
    gateway = settings.gateway
    clock, dice = SystemClock(), system_dice()
    sink = build_sink(publisher, settings)
    upstream = _upstream(gateway)
    credentials = ConfiguredCredentials(gateway.auth, scope=gateway.token_scope)
    keys, pool = build_keys(gateway, clock), Pool(gateway.backends, clock, dice)
    book = build_book(settings.prices, surroundings.documents)
    operators = build_operators(gateway, keys, surroundings, clock)
    forwarder = Forwarder(pool, upstream, credentials, clock, gateway.limits.forwarding)
    front_door = FrontDoor(
        admission=build_admission(gateway, keys, clock),
        instance=Instance(
            source=gateway.source,
            long_context_tokens=gateway.long_context_tokens,
            forwarder=forwarder,
            background=Background(forwarder, sink, dice, gateway.limits.drains.share_percent),
            sink=sink,
            clock=clock,
            telemetry=publisher.monitoring.calls,
        ),
        dice=dice,
        relays=build_relays(gateway),
        first_keepalive_seconds=gateway.limits.first_keepalive_seconds,
        joins=build_joins(gateway, clock),
        exposes_backend=gateway.exposes_backend,
        dispatcher=build_dispatcher(gateway, publisher.store, book, operators, clock),
    )
    publisher.monitoring.watch(gauges_of(front_door, sink), partial(url_of, front_door))
    return Gateway(
        front_door=front_door,
        keys=keys,
        publisher=publisher,
        sink=sink,
        settings=gateway,
        book=book,
        upstream=upstream,
        credentials=credentials,
    )


def _upstream(settings: GatewaySettings) -> HttpUpstream:
    return HttpUpstream(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        idle_timeout_seconds=settings.idle_timeout_seconds,
    )
