"""The settings as values, typed and checked; `config/environment.py` reads them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from msgspec import Struct

from meter.config.limits import Limits
from meter.config.prices import PriceSettings
from meter.config.telemetry.settings import TelemetrySettings
from meter.errors import Problem
from meter.gateway.backend import Backend, BackendAuth
from meter.gateway.caller.auth import TokenRules
from meter.gateway.http import RequestLimits
from meter.gateway.opencode import OpenCode
from meter.gateway.request.route import Routes

# Azure Government and Azure China have their own.
PUBLIC_CLOUD_SCOPE = "https://cognitiveservices.azure.com/.default"


class Durability(StrEnum):
    """What a call waits for before its answer ends."""

    ACKNOWLEDGED = "acknowledged"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureEndpoint:
    """An Azure service: a connection string, or an address to use with an identity."""

    connection_string: str | None = field(default=None, repr=False)
    address: str | None = None
    client_id: str | None = None


class GatewaySettings(Struct, frozen=True, kw_only=True):
    """The front door's settings; its limits are the values of the parts that apply them."""

    rules: TokenRules
    discovery_queries: Mapping[str, Collection[str]]
    backends: tuple[Backend, ...]
    auth: Mapping[str, BackendAuth]
    token_scope: str
    durability: Durability
    source: str
    exposes_backend: bool
    operator_role: str | None
    joins_retries: bool
    routes: Routes
    opencode: OpenCode
    jwks_refresh_seconds: float
    connect_timeout_seconds: float
    idle_timeout_seconds: float
    shutdown_seconds: float
    max_frame_bytes: int
    long_context_tokens: int
    requests: RequestLimits
    limits: Limits
    reload_seconds: float


class HubSettings(Struct, frozen=True, kw_only=True):
    """The event hub."""

    endpoint: AzureEndpoint
    name: str


class StorageSettings(Struct, frozen=True, kw_only=True):
    """The table storage account, and how long the ledger can detect repeated events."""

    endpoint: AzureEndpoint
    retention: timedelta


class ReconcileSettings(Struct, frozen=True, kw_only=True):
    """The settings of a reconciliation: the backends without their keys, Azure Monitor, the tables."""

    backends: tuple[Backend, ...]
    monitor_url: str
    storage: StorageSettings


class PublishSettings(Struct, frozen=True, kw_only=True):
    """The settings of publishing, and of the outbox timer."""

    hub: HubSettings
    storage: StorageSettings
    timeout_seconds: float


class Settings(PublishSettings, frozen=True, kw_only=True):
    """All settings. `warnings` are of such that are valid, and dangerous."""

    gateway: GatewaySettings
    prices: PriceSettings = PriceSettings()
    telemetry: TelemetrySettings = TelemetrySettings()
    warnings: tuple[str, ...] = ()


class SettingsParts(Struct, frozen=True, kw_only=True):
    """Each part of the settings by itself, None where it is not valid, and every problem of them all.

    A part may hold references that Azure has not resolved, whose settings are `unresolved`.
    `host_blobs` is the storage account of the Functions host; None where none is named. `serves` and
    `counts` are the halves of the app whose functions are not disabled; it `sends` events where it serves
    calls, and where the outbox's timer runs.
    """

    rules: TokenRules | None
    discovery_queries: Mapping[str, Collection[str]]
    backends: tuple[Backend, ...]
    auth: Mapping[str, BackendAuth]
    token_scope: str
    hub: HubSettings | None
    storage: StorageSettings | None
    host_blobs: AzureEndpoint | None
    problems: tuple[Problem, ...]
    unresolved: frozenset[str]
    warnings: tuple[str, ...]
    serves: bool
    sends: bool
    counts: bool
