"""Reads the settings into one typed value, and reports every problem at once.

docs/configuration.md describes each setting. A problem's text never contains a secret; its detail
may name backends, so it is for operators (`check-config`, the log) and not for `/readyz`.
"""

import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from functools import cache
from types import MappingProxyType

from meter.config.addresses import (
    read_hub_endpoint,
    read_service_url,
    read_table_endpoint,
    read_token_scope,
    shown,
)
from meter.config.backends.read import named_key_settings, read_accounts, read_backends
from meter.config.callers import (
    read_discovery_queries,
    read_opencode,
    read_operator_role,
    read_routes,
    read_token_rules,
)
from meter.config.host import disabled_functions, proxy_warnings
from meter.config.limits import Limits, read_body_limits, read_limits, read_request_limits
from meter.config.names import READ_APART, refuse_unknown
from meter.config.prices import read_price_settings
from meter.config.reader import Reader
from meter.config.stored.address import Documents
from meter.config.stored.limits import with_limits
from meter.config.telemetry.settings import read_telemetry
from meter.config.values import (
    PUBLIC_CLOUD_SCOPE,
    AzureEndpoint,
    Durability,
    GatewaySettings,
    HubSettings,
    PublishSettings,
    ReconcileSettings,
    Settings,
    SettingsParts,
    StorageSettings,
)
from meter.errors import InvalidSettings
from meter.gateway.http import RequestLimits
from meter.gateway.limits.intake import BodyLimits

_HUB_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,254}[A-Za-z0-9])?", re.ASCII)
# Read by the local stack only; it passes them on to the app.
LOCAL_SETTINGS = frozenset({"METER_OUTBOX_INTERVAL_SECONDS"})


class LogLevel(StrEnum):
    """The least level of the app's own log lines."""

    DEBUG = "DEBUG"
    INFO = "INFO"
    WARNING = "WARNING"
    ERROR = "ERROR"


def load_settings(
    environment: Mapping[str, str], documents: Documents = MappingProxyType({})
) -> Settings:
    """All settings. Raises InvalidSettings with every problem.

    `documents` are what was read from the addresses that settings name; files are read here.
    """
    return _checked(environment, _settings, documents)


def load_publish_settings(environment: Mapping[str, str]) -> PublishSettings:
    """The hub's and the storage's settings alone, for the outbox timer. Raises InvalidSettings."""
    return _checked(environment, _publish)


def load_storage_settings(environment: Mapping[str, str]) -> StorageSettings:
    """The storage settings alone, for the aggregator and the reports. Raises InvalidSettings."""
    return _checked(environment, _storage)


def load_reconcile_settings(
    environment: Mapping[str, str], documents: Documents = MappingProxyType({})
) -> ReconcileSettings:
    """The settings of a reconciliation; backends' keys are not needed. Raises InvalidSettings."""
    return _checked(environment, _reconciliation, documents)


def load_limits(environment: Mapping[str, str], documents: Documents) -> Limits:
    """The limits alone. Raises InvalidSettings."""
    reader = Reader(environment, documents)
    limits = _limits(reader, read_body_limits(reader))
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return limits


def document_storage(environment: Mapping[str, str]) -> AzureEndpoint:
    """The account of the tables, whose key or identity opens stored documents too; valid or not."""
    return _storage(Reader(environment)).endpoint


def load_retail_prices_url(environment: Mapping[str, str]) -> str:
    """The address of Azure's Retail Prices API. Raises InvalidSettings."""
    return _checked(environment, _retail_prices_url)


def event_hub_name(environment: Mapping[str, str]) -> str:
    """The hub's name, which the Functions host needs before any settings are checked."""
    return _hub_name(Reader(environment))


def log_level(environment: Mapping[str, str]) -> str:
    """The least level of the app's log lines; readable even when other settings are invalid."""
    return _log_level(Reader(environment)).value


def has_front_door(environment: Mapping[str, str]) -> bool:
    """Whether the host starts the front door in this app, or there is no host."""
    return "front_door" not in disabled_functions(environment)


def shutdown_seconds(environment: Mapping[str, str]) -> float:
    """How long the process may take to end; readable even when other settings are invalid."""
    return _shutdown_seconds(Reader(environment))


def invocation_wait_seconds(environment: Mapping[str, str]) -> float:
    """How long the worker waits for the other half of a call; readable whatever else is invalid."""
    return _invocation_wait_seconds(Reader(environment))


def request_limits(environment: Mapping[str, str]) -> RequestLimits:
    """The bounds on requests; the default for each that is invalid."""
    reader = Reader(environment)
    return read_request_limits(reader, read_body_limits(reader))


def read_parts(environment: Mapping[str, str], documents: Documents) -> SettingsParts:
    """Each part of the settings by itself: an invalid one hides no other.

    Of an app whose front door is disabled, only the settings of counting are read.
    """
    disabled = disabled_functions(environment)
    serves = "front_door" not in disabled

    def part[T](read: Callable[[Reader], T]) -> T | None:
        reader = Reader(environment, documents)
        found = read(reader)
        others = {problem.setting for problem in reader.problems} - reader.unresolved
        return None if others else found

    whole = Reader(environment, documents)
    (_settings if serves else _counting)(whole)
    refuse_unknown(whole, _known_names() | named_key_settings(whole))
    backends, auth = read_backends(Reader(environment, documents)) if serves else ((), {})
    return SettingsParts(
        rules=part(read_token_rules) if serves else None,
        discovery_queries=read_discovery_queries(Reader(environment)),
        backends=backends,
        auth=auth,
        token_scope=part(read_token_scope) or PUBLIC_CLOUD_SCOPE,
        hub=part(lambda reader: _publish(reader).hub),
        storage=part(_storage),
        host_blobs=_host_blobs(Reader(environment)),
        problems=tuple(whole.problems),
        unresolved=whole.unresolved,
        warnings=proxy_warnings(environment),
        serves=serves,
        sends=serves or "outbox" not in disabled,
        counts="aggregator" not in disabled,
    )


def _checked[T](
    environment: Mapping[str, str],
    read: Callable[[Reader], T],
    documents: Documents = MappingProxyType({}),
) -> T:
    reader = Reader(environment, documents)
    settings = read(reader)
    refuse_unknown(reader, _known_names() | named_key_settings(reader))
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return settings


@cache
def _known_names() -> frozenset[str]:
    """The names of all settings: those that are read when everything is."""
    reader = Reader({})
    _settings(reader)
    _reconciliation(reader)
    return frozenset(reader.asked) | LOCAL_SETTINGS | READ_APART


def _settings(reader: Reader) -> Settings:
    gateway, publish = _gateway(reader), _publish(reader)
    # For commands and the worker's HTTP side alone; here their mistakes are reported.
    _monitor_url(reader)
    _retail_prices_url(reader)
    _invocation_wait_seconds(reader)
    return Settings(
        gateway=gateway,
        hub=publish.hub,
        storage=publish.storage,
        timeout_seconds=publish.timeout_seconds,
        prices=read_price_settings(reader),
        telemetry=read_telemetry(reader),
        warnings=proxy_warnings(reader.environment),
    )


def _counting(reader: Reader) -> None:
    """What the aggregator and its timers read, and the host for them."""
    _publish(reader)
    _log_level(reader)
    _shutdown_seconds(reader)
    read_telemetry(reader)


def _gateway(reader: Reader) -> GatewaySettings:
    number, whole = reader.number, reader.whole
    backends, auth = read_backends(reader)
    bodies = read_body_limits(reader)
    _log_level(reader)  # the app reads it by itself; here its mistakes are reported
    return GatewaySettings(
        rules=read_token_rules(reader),
        discovery_queries=read_discovery_queries(reader),
        backends=backends,
        auth=auth,
        token_scope=read_token_scope(reader),
        durability=reader.choice("METER_DURABILITY", Durability.ACKNOWLEDGED),
        source=f"/aoai-meter/{reader.text('WEBSITE_SITE_NAME', 'local')}",
        exposes_backend=reader.flag("METER_EXPOSE_BACKEND"),
        operator_role=read_operator_role(reader),
        joins_retries=reader.switch("METER_JOIN_RETRIES"),
        routes=read_routes(reader),
        opencode=read_opencode(reader),
        jwks_refresh_seconds=number("METER_JWKS_REFRESH_SECONDS", 30, least=1, most=86_400),
        connect_timeout_seconds=number("METER_CONNECT_TIMEOUT_SECONDS", 5, least=0.1, most=60),
        idle_timeout_seconds=number("METER_IDLE_TIMEOUT_SECONDS", 600, least=1, most=1800),
        shutdown_seconds=_shutdown_seconds(reader),
        max_frame_bytes=whole("METER_MAX_FRAME_BYTES", 4_194_304, least=65_536, most=104_857_600),
        long_context_tokens=whole(
            "METER_LONG_CONTEXT_TOKENS", 272_000, least=1, most=1_000_000_000_000
        ),
        requests=read_request_limits(reader, bodies),
        limits=_limits(reader, bodies),
        reload_seconds=_reload_seconds(reader),
    )


def _limits(reader: Reader, bodies: BodyLimits) -> Limits:
    return read_limits(with_limits(reader), bodies)


def _reload_seconds(reader: Reader) -> float:
    """The pause between two looks at stored documents; 0 for never."""
    name = "METER_RELOAD_SECONDS"
    if reader.text(name).lower() == "off":
        return 0.0
    return reader.number(name, 60, least=0, most=86_400)


def _shutdown_seconds(reader: Reader) -> float:
    return reader.number("METER_SHUTDOWN_SECONDS", 25, least=1, most=3_600)


def _invocation_wait_seconds(reader: Reader) -> float:
    return reader.number("METER_INVOCATION_WAIT_SECONDS", 10, least=0.1, most=220)


def _log_level(reader: Reader) -> LogLevel:
    return reader.choice("METER_LOG_LEVEL", LogLevel.INFO)


def _publish(reader: Reader) -> PublishSettings:
    name = _hub_name(reader)
    if not _HUB_NAME.fullmatch(name):
        reader.problem(
            "METER_EVENT_HUB",
            "must be a hub's name: letters, digits and ._-, the first and the last no mark; for "
            "example usage",
            f"got {shown(name)}",
        )
    hub = HubSettings(endpoint=read_hub_endpoint(reader, name), name=name)
    seconds = reader.number("METER_PUBLISH_TIMEOUT_SECONDS", 1, least=0.05, most=30)
    return PublishSettings(hub=hub, storage=_storage(reader), timeout_seconds=seconds)


def _hub_name(reader: Reader) -> str:
    return reader.text("METER_EVENT_HUB", "usage")


def _reconciliation(reader: Reader) -> ReconcileSettings:
    backends, url = read_accounts(reader), _monitor_url(reader)
    return ReconcileSettings(backends=backends, monitor_url=url, storage=_storage(reader))


def _storage(reader: Reader) -> StorageSettings:
    setting = "AzureWebJobsStorage"
    has_own = reader.text("MeterStorage") or reader.text("MeterStorage__tableServiceUri")
    has_fallback = reader.text(setting) or reader.text(f"{setting}__tableServiceUri")
    if has_own or not has_fallback:
        setting = "MeterStorage"
    return StorageSettings(
        endpoint=read_table_endpoint(reader, setting),
        retention=timedelta(days=reader.number("METER_RETENTION_DAYS", 100, least=1, most=3_660)),
    )


def _host_blobs(reader: Reader) -> AzureEndpoint | None:
    """The account in which the Functions host keeps its state; None where none is named."""
    setting = "AzureWebJobsStorage"
    connection_string = reader.text(setting) or None
    account = reader.text(f"{setting}__accountName")
    usual = f"https://{account}.blob.core.windows.net" if account else ""
    address = reader.text(f"{setting}__blobServiceUri", usual) or None
    if connection_string is None and address is None:
        return None
    return AzureEndpoint(
        connection_string=connection_string,
        address=address,
        client_id=reader.text(f"{setting}__clientId", reader.text("AZURE_CLIENT_ID")) or None,
    )


def _monitor_url(reader: Reader) -> str:
    return read_service_url(reader, "METER_MONITOR_URL", "https://management.azure.com")


def _retail_prices_url(reader: Reader) -> str:
    return read_service_url(reader, "METER_RETAIL_PRICES_URL", "https://prices.azure.com")
