"""Builds the front door."""

from dataclasses import dataclass

from meter.adapters.clock import SystemClock, system_dice
from meter.adapters.identity import ConfiguredCredentials
from meter.adapters.oidc import DiscoveryKeySource
from meter.adapters.spool import FileSpool
from meter.adapters.tokenizer import build_estimator
from meter.adapters.upstream import AiohttpUpstream
from meter.config.values import GatewaySettings, Limits, OnDisconnect, Settings
from meter.gateway.answer.relay import Drains, RelayTimes
from meter.gateway.balance.forward import Forwarder
from meter.gateway.balance.pool import Pool
from meter.gateway.caller.auth import TokenVerifier
from meter.gateway.caller.jwks import KeyRing
from meter.gateway.front_door import CallLimits, FrontDoor
from meter.publishing.sink import PublishingSink
from meter.wiring.metering import Publisher, build_sink


@dataclass(frozen=True, slots=True, kw_only=True)
class Gateway:
    """A front door and the parts that it stands on."""

    front_door: FrontDoor
    keys: KeyRing
    publisher: Publisher
    sink: PublishingSink
    settings: GatewaySettings
    upstream: AiohttpUpstream
    credentials: ConfiguredCredentials


def build_gateway(settings: Settings, publisher: Publisher) -> Gateway:
    """Build a front door. Must be called in the event loop that will own it."""
    gateway, limits = settings.gateway, settings.gateway.limits
    clock, dice = SystemClock(), system_dice()
    sink = build_sink(publisher, gateway)
    upstream = AiohttpUpstream(
        connect_timeout_seconds=limits.connect_timeout_seconds,
        idle_timeout_seconds=limits.idle_timeout_seconds,
    )
    credentials = ConfiguredCredentials(gateway.auth)
    keys = KeyRing(DiscoveryKeySource(), clock, gateway.jwks_refresh_seconds)
    front_door = FrontDoor(
        verifier=TokenVerifier(gateway.rules, keys, clock),
        forwarder=Forwarder(
            pool=Pool(gateway.backends, dice),
            upstream=upstream,
            credentials=credentials,
            clock=clock,
            first_byte_timeout_seconds=limits.first_byte_timeout_seconds,
            max_buffered_bytes=limits.max_buffered_bytes,
        ),
        sink=sink,
        clock=clock,
        dice=dice,
        drains=_drains(gateway),
        limits=_call_limits(limits),
        new_spool=FileSpool,
        estimator=build_estimator(),
        source=gateway.source,
        exposes_backend=gateway.exposes_backend,
    )
    return Gateway(
        front_door=front_door,
        keys=keys,
        publisher=publisher,
        sink=sink,
        settings=gateway,
        upstream=upstream,
        credentials=credentials,
    )


def _drains(settings: GatewaySettings) -> Drains:
    drains = settings.on_disconnect is OnDisconnect.DRAIN
    most = settings.limits.max_drains if drains else 0
    return Drains(most=most, seconds=settings.limits.drain_seconds)


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
