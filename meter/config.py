"""Reads the settings into one typed value, and finds every problem they have, not the first only.

docs/configuration.md describes each setting. A problem's text never shows a secret; its detail may
name backends, so it is for operators (`check-config`, the log) and not for `/readyz`.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from meter.errors import ConfigError
from meter.gateway.address import is_allowed_url
from meter.gateway.auth import TokenRules
from meter.gateway.backend import ApiKey, Backend, BackendAuth, ManagedIdentity
from meter.gateway.route import is_deployment_name
from meter.settings import (
    AzureEndpoint,
    Durability,
    GatewaySettings,
    HubSettings,
    Limits,
    OnDisconnect,
    PublishSettings,
    Settings,
    StorageSettings,
)
from meter.usage import Tier

KNOWN_ALGORITHMS = frozenset(
    {"RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"}
)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one setting; `detail` says where, for operators only."""

    setting: str
    text: str
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.setting} {self.text}" + (f" ({self.detail})" if self.detail else "")


class InvalidSettings(ConfigError):
    """The settings cannot be used."""

    def __init__(self, found: list[Problem]) -> None:
        super().__init__([str(problem) for problem in found])
        self.found = tuple(found)


def load_settings(environment: Mapping[str, str]) -> Settings:
    """All settings. Raises InvalidSettings with every problem."""
    reader = _Reader(environment)
    gateway, hub = _gateway(reader), _hub(reader)
    storage = _storage(reader)
    reader.raise_problems()
    return Settings(gateway=gateway, hub=hub, storage=storage)


def load_publish_settings(environment: Mapping[str, str]) -> PublishSettings:
    """The hub's and the storage's settings alone, for the outbox timer. Raises InvalidSettings."""
    reader = _Reader(environment)
    publish = PublishSettings(
        hub=_hub(reader), storage=_storage(reader), timeout_seconds=_publish_seconds(reader)
    )
    reader.raise_problems()
    return publish


def load_storage_settings(environment: Mapping[str, str]) -> StorageSettings:
    """The storage settings alone, for the aggregator and the reports. Raises InvalidSettings."""
    reader = _Reader(environment)
    storage = _storage(reader)
    reader.raise_problems()
    return storage


def event_hub_name(environment: Mapping[str, str]) -> str:
    """The hub's name, which the Functions host needs before any settings are checked."""
    return environment.get("METER_EVENT_HUB") or "usage"


def shutdown_seconds(environment: Mapping[str, str]) -> float:
    """How long the process may take to end, known whatever else is invalid."""
    return _shutdown_seconds(_Reader(environment))


class _Reader:
    """Reads settings one by one, gathering problems and going on with defaults."""

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

    def raise_problems(self) -> None:
        if self.problems:
            raise InvalidSettings(self.problems)


def _gateway(reader: _Reader) -> GatewaySettings:
    backends, auth = _backends(reader)
    site = reader.text("WEBSITE_SITE_NAME", "local")
    return GatewaySettings(
        rules=_rules(reader),
        backends=backends,
        auth=auth,
        durability=reader.choice("METER_DURABILITY", Durability.ACKNOWLEDGED),
        on_disconnect=reader.choice("METER_ON_DISCONNECT", OnDisconnect.DRAIN),
        jwks_refresh_seconds=reader.number("METER_JWKS_REFRESH_SECONDS", 30, least=1, most=86_400),
        limits=_limits(reader),
        source=f"/aoai-meter/{site}",
        exposes_backend=reader.flag("METER_EXPOSE_BACKEND"),
    )


def _limits(reader: _Reader) -> Limits:
    number = reader.number
    return Limits(
        connect_timeout_seconds=number("METER_CONNECT_TIMEOUT_SECONDS", 5, least=0.1, most=60),
        first_byte_timeout_seconds=number(
            "METER_FIRST_BYTE_TIMEOUT_SECONDS", 120, least=0.1, most=1800
        ),
        idle_timeout_seconds=number("METER_IDLE_TIMEOUT_SECONDS", 600, least=1, most=1800),
        publish_timeout_seconds=_publish_seconds(reader),
        shutdown_seconds=_shutdown_seconds(reader),
        drain_seconds=number("METER_DRAIN_SECONDS", 300, least=1, most=1800),
        write_timeout_seconds=number("METER_WRITE_TIMEOUT_SECONDS", 60, least=0.1, most=1800),
        keepalive_seconds=number("METER_KEEPALIVE_SECONDS", 20, least=0.1, most=220),
        total_timeout_seconds=number("METER_TOTAL_TIMEOUT_SECONDS", 1700, least=1, most=86_400),
        read_timeout_seconds=number("METER_READ_TIMEOUT_SECONDS", 60, least=0.1, most=1800),
        max_concurrent_calls=reader.whole(
            "METER_MAX_CONCURRENT_CALLS", 1_000, least=1, most=100_000
        ),
        max_headers=reader.whole("METER_MAX_HEADERS", 200, least=20, most=10_000),
        max_header_bytes=reader.whole(
            "METER_MAX_HEADER_BYTES", 65_536, least=1_024, most=1_048_576
        ),
        max_drains=reader.whole("METER_MAX_DRAINS", 100, least=0, most=10_000),
        max_body_bytes=reader.whole(
            "METER_MAX_BODY_BYTES", 33_554_432, least=1_024, most=104_857_600
        ),
    )


def _publish_seconds(reader: _Reader) -> float:
    return reader.number("METER_PUBLISH_TIMEOUT_SECONDS", 1, least=0.05, most=30)


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


def _backends(reader: _Reader) -> tuple[tuple[Backend, ...], dict[str, BackendAuth]]:
    entries = _backend_entries(reader)
    backends: list[Backend] = []
    auth: dict[str, BackendAuth] = {}
    for index, entry in enumerate(entries):
        backend, backend_auth = _BackendReader(reader, index, entry).read()
        if backend.name in auth:
            reader.problem("METER_BACKENDS", "has a name twice", f"backend {backend.name!r}")
        backends.append(backend)
        auth[backend.name] = backend_auth
    return tuple(backends), auth


def _backend_entries(reader: _Reader) -> list[object]:
    setting = "METER_BACKENDS"
    text = reader.text(setting)
    if not text:
        reader.problem(setting, "is not set: give the backends as JSON, or a file's path")
        return []
    if not text.startswith(("{", "[")):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            reader.problem(setting, "names a file that cannot be read", type(exc).__name__)
            return []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        reader.problem(setting, "is not valid JSON", str(exc)[:200])
        return []
    entries = document.get("backends") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not entries:
        reader.problem(setting, 'must be {"backends": [...]} with at least one backend')
        return []
    return entries


class _BackendReader:
    """Reads one entry of METER_BACKENDS."""

    _NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
    _KEYS = frozenset({"name", "url", "priority", "weight", "tier", "auth", "deployments"})

    def __init__(self, reader: _Reader, index: int, entry: object) -> None:
        self._reader = reader
        self._entry: Mapping[str, object] = entry if isinstance(entry, dict) else {}
        name = self._entry.get("name")
        self._name = name if isinstance(name, str) else f"#{index + 1}"
        if not isinstance(entry, dict):
            self._problem("has an entry that is no object")

    def read(self) -> tuple[Backend, BackendAuth]:
        if not self._NAME.fullmatch(self._name):
            self._problem("needs a name of 1-64 letters, digits and ._- for each backend")
        if unknown := sorted(self._entry.keys() - self._KEYS):
            self._problem(f"accepts {', '.join(sorted(self._KEYS))}; got {', '.join(unknown)}")
        backend = Backend(
            name=self._name,
            url=self._url(),
            priority=self._whole("priority", 1, 1_000),
            weight=self._whole("weight", 1, 100),
            tier=self._tier(),
            deployments=self._deployments(),
        )
        return backend, self._auth()

    def _problem(self, text: str) -> None:
        self._reader.problem("METER_BACKENDS", text, f"backend {self._name!r}")

    def _url(self) -> str:
        url = self._entry.get("url")
        if not isinstance(url, str) or not is_allowed_url(url) or "?" in url or "#" in url:
            self._problem("needs an https url for each backend; plain http on loopback only")
            return "https://invalid.invalid"
        # Azure's own pages show the address with and without the path; ours adds it.
        return url.rstrip("/").removesuffix("/v1").removesuffix("/openai")

    def _whole(self, key: str, default: int, most: int) -> int:
        value = self._entry.get(key, default)
        if type(value) is int and 1 <= value <= most:
            return value
        self._problem(f"{key} must be 1-{most}, got {value!r}")
        return default

    def _tier(self) -> Tier:
        value = self._entry.get("tier", Tier.STANDARD.value)
        try:
            return Tier(str(value))
        except ValueError:
            self._problem(f"tier must be one of {', '.join(Tier)}, got {value!r}")
            return Tier.STANDARD

    def _deployments(self) -> Mapping[str, str]:
        value = self._entry.get("deployments")
        if isinstance(value, dict) and value:
            names = [*value.keys(), *value.values()]
            if all(is_deployment_name(name) for name in names):
                return value
        self._problem(
            "needs deployments for each backend: an object from public names to the backend's own, "
            "of 1-64 letters, digits and ._-"
        )
        return {}

    def _auth(self) -> BackendAuth:
        auth = self._entry.get("auth", {"kind": "managed-identity"})
        kind = auth.get("kind") if isinstance(auth, dict) else None
        if kind == "managed-identity":
            return ManagedIdentity()
        if isinstance(auth, dict) and kind == "api-key":
            setting = auth.get("setting")
            key = self._reader.text(setting) if isinstance(setting, str) else ""
            if not key:
                self._problem("auth.setting must name a setting that holds the key")
            return ApiKey(key)
        self._problem("auth.kind must be managed-identity or api-key")
        return ManagedIdentity()


def _hub(reader: _Reader) -> HubSettings:
    return HubSettings(
        endpoint=_endpoint(reader, "EventHubConnection", "fullyQualifiedNamespace"),
        name=event_hub_name(reader.environment),
    )


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


def _is_connection_string(text: str) -> bool:
    parts = dict(part.partition("=")[::2] for part in text.split(";") if part)
    has_place = not parts.keys().isdisjoint({"Endpoint", "TableEndpoint", "AccountName"})
    secrets = {"AccountKey", "SharedAccessKey", "SharedAccessSignature"}
    return has_place and not parts.keys().isdisjoint(secrets)


def _endpoint(reader: _Reader, setting: str, address_name: str) -> AzureEndpoint:
    connection_string = reader.text(setting) or None
    if connection_string is not None and not _is_connection_string(connection_string):
        reader.problem(setting, "is no connection string: Name=value pairs, separated by ;")
    address = reader.text(f"{setting}__{address_name}") or None
    if connection_string is None and address is None:
        reader.problem(setting, f"is not set, nor is {setting}__{address_name}")
    return AzureEndpoint(
        connection_string=connection_string,
        address=address,
        client_id=reader.text(f"{setting}__clientId", reader.text("AZURE_CLIENT_ID")) or None,
    )
