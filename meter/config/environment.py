"""Reads the settings into one typed value, and reports every problem at once.

docs/configuration.md describes each setting. A problem's text never contains a secret; its detail
may name backends, so it is for operators (`check-config`, the log) and not for `/readyz`.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum

from meter.config.backends import read_accounts, read_backends
from meter.config.values import (
    PUBLIC_CLOUD_SCOPE,
    AzureEndpoint,
    Durability,
    GatewaySettings,
    HubSettings,
    PublishSettings,
    ReconcileSettings,
    Settings,
    StorageSettings,
)
from meter.errors import InvalidSettings, Problem
from meter.gateway.address import is_allowed_url
from meter.gateway.answer.relay import DrainLimits, RelayTimes
from meter.gateway.balance.forward import ForwardLimits
from meter.gateway.caller.auth import TokenRules
from meter.gateway.front_door import CallLimits
from meter.gateway.http import RequestLimits

KNOWN_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
)


class OnDisconnect(StrEnum):
    """What happens to a stream whose caller leaves."""

    DRAIN = "drain"
    CANCEL = "cancel"


def load_settings(environment: Mapping[str, str]) -> Settings:
    """All settings. Raises InvalidSettings with every problem."""
    return _checked(environment, _settings)


def load_publish_settings(environment: Mapping[str, str]) -> PublishSettings:
    """The hub's and the storage's settings alone, for the outbox timer. Raises InvalidSettings."""
    return _checked(environment, _publish)


def load_storage_settings(environment: Mapping[str, str]) -> StorageSettings:
    """The storage settings alone, for the aggregator and the reports. Raises InvalidSettings."""
    return _checked(environment, _storage)


def load_reconcile_settings(environment: Mapping[str, str]) -> ReconcileSettings:
    """The settings of a reconciliation; backends' keys are not needed. Raises InvalidSettings."""
    return _checked(environment, _reconciliation)


def event_hub_name(environment: Mapping[str, str]) -> str:
    """The hub's name, which the Functions host needs before any settings are checked."""
    return environment.get("METER_EVENT_HUB") or "usage"


def shutdown_seconds(environment: Mapping[str, str]) -> float:
    """How long the process may take to end; readable even when other settings are invalid."""
    return _shutdown_seconds(_Reader(environment))


class _Reader:
    """Reads settings one by one; collects problems and continues with defaults."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self.environment = environment
        self.problems: list[Problem] = []

    def text(self, name: str, default: str = "") -> str:
        return self.environment.get(name, "").strip() or default

    def problem(self, setting: str, text: str, detail: str = "") -> None:
        self.problems.append(Problem(setting, text, detail))

    def names(self, name: str, default: str = "") -> frozenset[str]:
        parts = (part.strip() for part in self.text(name, default).split(","))
        return frozenset(part for part in parts if part)

    def number(self, name: str, default: float, *, least: float, most: float) -> float:
        text = self.text(name, str(default))
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if least <= value <= most:
            return value
        self.problem(name, f"must be a number from {least:g} to {most:g}, got {text!r}")
        return default

    def whole(self, name: str, default: int, *, least: int, most: int) -> int:
        value = self.number(name, default, least=least, most=most)
        if value != int(value):
            self.problem(name, f"must be a whole number, got {self.text(name)!r}")
        return int(value)

    def choice[E: StrEnum](self, name: str, default: E) -> E:
        text = self.text(name, default.value)
        try:
            return type(default)(text)
        except ValueError:
            self.problem(name, f"must be one of {', '.join(type(default))}, got {text!r}")
            return default

    def flag(self, name: str) -> bool:
        text = self.text(name, "false").lower()
        if text not in {"true", "false"}:
            self.problem(name, f"must be true or false, got {text!r}")
        return text == "true"


def _checked[T](environment: Mapping[str, str], read: "Callable[[_Reader], T]") -> T:
    reader = _Reader(environment)
    settings = read(reader)
    if reader.problems:
        raise InvalidSettings(reader.problems)
    return settings


def _settings(reader: _Reader) -> Settings:
    gateway, publish = _gateway(reader), _publish(reader)
    return Settings(
        gateway=gateway,
        hub=publish.hub,
        storage=publish.storage,
        timeout_seconds=publish.timeout_seconds,
    )


def _gateway(reader: _Reader) -> GatewaySettings:
    number, whole = reader.number, reader.whole
    backends, auth = read_backends(reader)
    return GatewaySettings(
        rules=_rules(reader),
        backends=backends,
        auth=auth,
        token_scope=_token_scope(reader),
        durability=reader.choice("METER_DURABILITY", Durability.ACKNOWLEDGED),
        source=f"/aoai-meter/{reader.text('WEBSITE_SITE_NAME', 'local')}",
        exposes_backend=reader.flag("METER_EXPOSE_BACKEND"),
        jwks_refresh_seconds=number("METER_JWKS_REFRESH_SECONDS", 30, least=1, most=86_400),
        connect_timeout_seconds=number("METER_CONNECT_TIMEOUT_SECONDS", 5, least=0.1, most=60),
        idle_timeout_seconds=number("METER_IDLE_TIMEOUT_SECONDS", 600, least=1, most=1800),
        shutdown_seconds=_shutdown_seconds(reader),
        max_frame_bytes=whole("METER_MAX_FRAME_BYTES", 4_194_304, least=65_536, most=104_857_600),
        requests=_request_limits(reader),
        calls=CallLimits(
            max_concurrent_calls=whole("METER_MAX_CONCURRENT_CALLS", 1_000, least=1, most=100_000),
            first_keepalive_seconds=number(
                "METER_FIRST_KEEPALIVE_SECONDS", 200, least=0.1, most=220
            ),
        ),
        forwarding=ForwardLimits(
            first_byte_timeout_seconds=number(
                "METER_FIRST_BYTE_TIMEOUT_SECONDS", 120, least=0.1, most=1800
            ),
            max_buffered_bytes=whole(
                "METER_MAX_BUFFERED_ANSWER_BYTES", 33_554_432, least=65_536, most=1_073_741_824
            ),
        ),
        times=RelayTimes(
            write_seconds=number("METER_WRITE_TIMEOUT_SECONDS", 60, least=0.1, most=1800),
            keepalive_seconds=number("METER_KEEPALIVE_SECONDS", 20, least=0.1, most=220),
            total_seconds=number("METER_TOTAL_TIMEOUT_SECONDS", 1700, least=1, most=86_400),
        ),
        drains=_drain_limits(reader),
    )


def _token_scope(reader: _Reader) -> str:
    setting = "METER_BACKEND_TOKEN_SCOPE"
    scope = reader.text(setting, PUBLIC_CLOUD_SCOPE)
    if not scope.startswith("https://") or any(mark.isspace() for mark in scope):
        reader.problem(setting, f"must be one https URL, got {scope!r}")
    return scope


def _request_limits(reader: _Reader) -> RequestLimits:
    whole = reader.whole
    return RequestLimits(
        max_headers=whole("METER_MAX_HEADERS", 200, least=20, most=10_000),
        max_header_bytes=whole("METER_MAX_HEADER_BYTES", 65_536, least=1_024, most=1_048_576),
        max_body_bytes=whole("METER_MAX_BODY_BYTES", 33_554_432, least=1_024, most=104_857_600),
        read_timeout_seconds=reader.number("METER_READ_TIMEOUT_SECONDS", 60, least=0.1, most=1800),
    )


def _drain_limits(reader: _Reader) -> DrainLimits:
    most = reader.whole("METER_MAX_DRAINS", 100, least=0, most=10_000)
    seconds = reader.number("METER_DRAIN_SECONDS", 300, least=1, most=1800)
    drains = reader.choice("METER_ON_DISCONNECT", OnDisconnect.DRAIN) is OnDisconnect.DRAIN
    return DrainLimits(most=most if drains else 0, seconds=seconds)


def _shutdown_seconds(reader: _Reader) -> float:
    return reader.number("METER_SHUTDOWN_SECONDS", 25, least=1, most=3_600)


def _rules(reader: _Reader) -> TokenRules:
    issuers = reader.names("METER_ISSUERS")
    if not issuers:
        reader.problem("METER_ISSUERS", "is not set: name the token issuers, comma-separated")
    for number, issuer in enumerate(sorted(issuers), 1):
        if not is_allowed_url(issuer):
            reader.problem(
                "METER_ISSUERS",
                "must be https URLs without a user; plain http is accepted on loopback only",
                f"number {number} of {len(issuers)} in alphabetical order",
            )
    audiences = reader.names("METER_AUDIENCES")
    if not audiences:
        reader.problem("METER_AUDIENCES", "is not set: name the audiences tokens must be for")
    algorithms = reader.names("METER_ALGORITHMS", "RS256")
    if not algorithms:
        reader.problem("METER_ALGORITHMS", "names no algorithm; leave it out for RS256")
    if unknown := sorted(algorithms - KNOWN_ALGORITHMS):
        accepted = ", ".join(sorted(KNOWN_ALGORITHMS))
        reader.problem("METER_ALGORITHMS", f"accepts {accepted}; got {', '.join(unknown)}")
    return TokenRules(
        issuers=issuers,
        audiences=audiences,
        algorithms=algorithms,
        allowed_tenants=reader.names("METER_ALLOWED_TENANTS"),
        allowed_apps=reader.names("METER_ALLOWED_APPS"),
        required_roles=reader.names("METER_REQUIRED_ROLES"),
        required_scopes=reader.names("METER_REQUIRED_SCOPES"),
        subject_claim=reader.text("METER_SUBJECT_CLAIM", "sub"),
    )


def _publish(reader: _Reader) -> PublishSettings:
    hub = HubSettings(
        endpoint=_endpoint(reader, "EventHubConnection", "fullyQualifiedNamespace"),
        name=event_hub_name(reader.environment),
    )
    seconds = reader.number("METER_PUBLISH_TIMEOUT_SECONDS", 1, least=0.05, most=30)
    return PublishSettings(hub=hub, storage=_storage(reader), timeout_seconds=seconds)


def _reconciliation(reader: _Reader) -> ReconcileSettings:
    backends, url = read_accounts(reader), _monitor_url(reader)
    return ReconcileSettings(backends=backends, monitor_url=url, storage=_storage(reader))


def _storage(reader: _Reader) -> StorageSettings:
    setting = "AzureWebJobsStorage"
    has_own = reader.text("MeterStorage") or reader.text("MeterStorage__tableServiceUri")
    has_fallback = reader.text(setting) or reader.text(f"{setting}__tableServiceUri")
    if has_own or not has_fallback:
        setting = "MeterStorage"
    return StorageSettings(
        endpoint=_endpoint(reader, setting, "tableServiceUri"),
        retention=timedelta(days=reader.number("METER_RETENTION_DAYS", 100, least=1, most=3_660)),
    )


def _monitor_url(reader: _Reader) -> str:
    setting = "METER_MONITOR_URL"
    url = reader.text(setting, "https://management.azure.com").rstrip("/")
    if not is_allowed_url(url) or "?" in url or "#" in url:
        reader.problem(setting, "must be an https url; plain http is accepted on loopback only")
    return url


def _is_connection_string(text: str) -> bool:
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part)
    has_place = not parts.keys().isdisjoint({"Endpoint", "TableEndpoint", "AccountName"})
    secrets = {"AccountKey", "SharedAccessKey", "SharedAccessSignature"}
    return has_place and not parts.keys().isdisjoint(secrets)


def _endpoint(reader: _Reader, setting: str, address_name: str) -> AzureEndpoint:
    connection_string = reader.text(setting) or None
    if connection_string is not None and not _is_connection_string(connection_string):
        reader.problem(setting, "is not a connection string: Name=value pairs, separated by ;")
    address = reader.text(f"{setting}__{address_name}") or None
    if connection_string is None and address is None:
        reader.problem(setting, f"is not set, nor is {setting}__{address_name}")
    return AzureEndpoint(
        connection_string=connection_string,
        address=address,
        client_id=reader.text(f"{setting}__clientId", reader.text("AZURE_CLIENT_ID")) or None,
    )
