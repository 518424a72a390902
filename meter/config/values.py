"""The settings as values, typed and checked; `config/environment.py` reads them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

from meter.gateway.answer.relay import DrainLimits, RelayTimes
from meter.gateway.backend import Backend, BackendAuth
from meter.gateway.balance.forward import ForwardLimits
from meter.gateway.caller.auth import TokenRules
from meter.gateway.front_door import CallLimits
from meter.gateway.http import RequestLimits


class Durability(StrEnum):
    """When a call's answer may end."""

    ACKNOWLEDGED = "acknowledged"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True, kw_only=True)
class AzureEndpoint:
    """Where an Azure service is: a connection string, or an address to use with an identity."""

    connection_string: str | None = field(default=None, repr=False)
    address: str | None = None
    client_id: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """What the front door needs; limits are the values that its parts work by."""

    rules: TokenRules
    backends: tuple[Backend, ...]
    auth: Mapping[str, BackendAuth]
    durability: Durability
    source: str
    exposes_backend: bool
    jwks_refresh_seconds: float
    connect_timeout_seconds: float
    idle_timeout_seconds: float
    publish_timeout_seconds: float
    shutdown_seconds: float
    max_frame_bytes: int
    requests: RequestLimits
    calls: CallLimits
    forwarding: ForwardLimits
    times: RelayTimes
    drains: DrainLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSettings:
    """The event hub."""

    endpoint: AzureEndpoint
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StorageSettings:
    """The table storage account, and how long the ledger keeps calls apart."""

    endpoint: AzureEndpoint
    retention: timedelta


@dataclass(frozen=True, slots=True, kw_only=True)
class ReconcileSettings:
    """What a reconciliation needs: the backends, without their keys, Azure Monitor and the tables."""

    backends: tuple[Backend, ...]
    monitor_url: str
    storage: StorageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishSettings:
    """What publishing needs, and all that the outbox timer needs."""

    hub: HubSettings
    storage: StorageSettings
    timeout_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """All settings."""

    gateway: GatewaySettings
    hub: HubSettings
    storage: StorageSettings

    @property
    def publish(self) -> PublishSettings:
        """Those that publishing needs."""
        return PublishSettings(
            hub=self.hub,
            storage=self.storage,
            timeout_seconds=self.gateway.publish_timeout_seconds,
        )
