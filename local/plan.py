"""The plan of a stack: its ports, keys, addresses and settings, kept in its state directory.

`STATE/stack.json` is what other programs read (see docs/local-development.md).
"""

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.child import free_ports, is_free
from local.openai.server import DEFAULT_DEPLOYMENTS

HUB_NAME = "usage"
EXPORTS = "exports"
AUDIENCE = "api://aoai-meter"
KEY_NAME = "RootManageSharedAccessKey"
BACKEND_KEY_SETTING = "LOCAL_BACKEND_KEY"
PARTITIONS = 4
# Azurite's published development account; it protects nothing.
AZURITE_ACCOUNT = "devstoreaccount1"
AZURITE_KEY = (
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)
SETTING_PREFIXES = (
    "METER",
    "EVENTHUBCONNECTION",
    "AZUREWEBJOBS",
    "AZUREFUNCTIONS",
    "AZURE_",
    "WEBSITE_",
    BACKEND_KEY_SETTING,
)
DEFAULT_PORTS = {
    "gateway": 7071,
    "eventhubs": 5672,
    "eventhubs_health": 5300,
    "blob": 10000,
    "queue": 10001,
    "table": 10002,
    "issuer": 7072,
    "backend-a": 7073,
    "backend-b": 7074,
}
BACKEND_NAMES = ("backend-a", "backend-b")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One stack."""

    state: Path
    ports: Mapping[str, int]
    hub_key: str
    admin_key: str
    backend_key: str
    backends_file: Path | None
    environment: Mapping[str, str]
    outbox_seconds: float

    @property
    def gateway_url(self) -> str:
        """The front door's URL, which applications call."""
        return f"http://127.0.0.1:{self.ports['gateway']}"

    @property
    def issuer(self) -> str:
        """The URL of the stack's own token issuer."""
        return f"http://127.0.0.1:{self.ports['issuer']}"

    @property
    def storage_connection_string(self) -> str:
        """Azurite."""
        base = "http://127.0.0.1:{}/" + AZURITE_ACCOUNT
        endpoints = "".join(
            f"{name.capitalize()}Endpoint={base.format(self.ports[name])};"
            for name in ("blob", "queue", "table")
        )
        return (
            f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};"
            f"AccountKey={AZURITE_KEY};{endpoints}"
        )

    @property
    def hub_connection_string(self) -> str:
        """The Event Hubs endpoint, in the form Microsoft's emulator uses."""
        return (
            f"Endpoint=sb://localhost:{self.ports['eventhubs']};SharedAccessKeyName={KEY_NAME};"
            f"SharedAccessKey={self.hub_key};UseDevelopmentEmulator=true"
        )

    @property
    def backends_path(self) -> Path:
        """The file named by METER_BACKENDS."""
        return self.backends_file or self.state / "backends.json"

    def settings(self) -> dict[str, str]:
        """The app's settings; those already in the environment win."""
        own = {
            "METER_ISSUERS": self.issuer,
            "METER_AUDIENCES": AUDIENCE,
            "METER_BACKENDS": str(self.backends_path),
            "METER_EVENT_HUB": HUB_NAME,
            "METER_OUTBOX_INTERVAL_SECONDS": f"{self.outbox_seconds:g}",
            "METER_LOG_LEVEL": "WARNING",
            "METER_EXPORT_CONTAINER": EXPORTS,
            BACKEND_KEY_SETTING: self.backend_key,
            "EventHubConnection": self.hub_connection_string,
            "MeterStorage": self.storage_connection_string,
            "AzureWebJobsStorage": self.storage_connection_string,
        }
        return {name: self.environment.get(name) or value for name, value in own.items()}

    def write_files(self) -> None:
        """Write the backends and the hub's configuration."""
        self.state.mkdir(parents=True, exist_ok=True)
        if self.backends_file is None:
            write_json(self.backends_path, {"backends": [self._backend(n) for n in BACKEND_NAMES]})
        write_json(self.state / "Config.json", _hub_config())

    def describe(self, pids: Mapping[str, int | None]) -> dict[str, object]:
        """The content of stack.json."""
        settings = self.settings()
        return {
            "gateway_url": self.gateway_url,
            "admin_key": self.admin_key,
            "issuer": settings["METER_ISSUERS"].split(",")[0],
            "audience": settings["METER_AUDIENCES"].split(",")[0],
            "storage_connection_string": settings["MeterStorage"],
            "event_hub_connection_string": settings["EventHubConnection"],
            "event_hub_name": settings["METER_EVENT_HUB"],
            "backends": self._backend_addresses(),
            "backends_file": settings["METER_BACKENDS"],
            "backend_key": self.backend_key,
            "pids": dict(pids),
        }

    def _backend(self, name: str) -> dict[str, object]:
        return {
            "name": name,
            "url": f"http://127.0.0.1:{self.ports[name]}",
            "priority": 1,
            "weight": 1,
            "tier": "standard",
            "region": "swedencentral",
            "deployment_type": "global",
            "auth": {"kind": "api-key", "setting": BACKEND_KEY_SETTING},
            "deployments": {
                deployment: {"name": deployment, "model": model}
                for deployment, model in DEFAULT_DEPLOYMENTS.items()
            },
        }

    def deployments(self) -> list[str]:
        """The public names of all deployments, in the order of the backends document."""
        try:
            names = [name for entry in self._entries() for name in entry["deployments"]]
        except (KeyError, TypeError):
            return []
        return list(dict.fromkeys(names))

    def _backend_addresses(self) -> list[dict[str, object]]:
        try:
            return [{"name": entry["name"], "url": entry["url"]} for entry in self._entries()]
        except (KeyError, TypeError):
            return []

    def _entries(self) -> list[Any]:
        """The backends; none where `check-config` and /readyz report what is wrong with them."""
        try:
            text = self.settings()["METER_BACKENDS"]
            document = json.loads(text if text.startswith(("{", "[")) else Path(text).read_text())
        except (OSError, ValueError):
            return []
        entries = document.get("backends") if isinstance(document, dict) else document
        return entries if isinstance(entries, list) else []


def make_plan(
    state: Path,
    *,
    port: int,
    backends_file: Path | None = None,
    environment: Mapping[str, str] = os.environ,
    outbox_seconds: float = 60,
) -> Plan:
    """Choose ports and keys. With port 0 all ports are free ones.

    Otherwise the front door takes the port given, and the other parts the usual ones, if free. The
    processes of the stack get `environment`, whose settings win over the stack's own.
    """
    if port == 0:
        ports = dict(zip(DEFAULT_PORTS, free_ports(len(DEFAULT_PORTS)), strict=True))
    else:
        spare = iter(free_ports(len(DEFAULT_PORTS)))
        ports = {
            name: usual if is_free(usual) else next(spare)
            for name, usual in {**DEFAULT_PORTS, "gateway": port}.items()
        }
        ports["gateway"] = port
        if not is_free(port):
            raise SystemExit(
                f"port {port} is taken: choose another with --port, or 0 for free ones"
            )
    return Plan(
        state=state,
        ports=ports,
        hub_key=_kept_secret(state / "hub.key"),
        admin_key=_kept_secret(state / "admin.key"),
        backend_key=_kept_secret(state / "backend.key"),
        backends_file=backends_file.resolve() if backends_file else None,
        environment=environment,
        outbox_seconds=outbox_seconds,
    )


def without_settings(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment without the meter's, the host's and Azure identity's settings."""
    return {
        name: value
        for name, value in environment.items()
        if not name.upper().startswith(SETTING_PREFIXES)
    }


def read_stack(state: Path) -> dict[str, object]:
    """Read stack.json of a running stack. Raises SystemExit with a hint when there is none."""
    try:
        document = json.loads((state / "stack.json").read_text())
    except (OSError, ValueError):
        raise SystemExit(f"no stack in {state}: start one with `python -m local up`") from None
    assert isinstance(document, dict)
    return document


def write_json(path: Path, document: object) -> None:
    """Write a file atomically, so that readers never see half of it."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(document, indent=2) + "\n")
    part.replace(path)


def _kept_secret(path: Path) -> str:
    """A key that survives restarts, so that old connection strings keep working."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch(mode=0o600)
        path.write_text(secrets.token_hex(32))
    return path.read_text()


def _hub_config() -> dict[str, object]:
    groups = [{"Name": name} for name in ("aggregator", "audit")]
    hub = {"Name": HUB_NAME, "PartitionCount": PARTITIONS, "ConsumerGroups": groups}
    namespace = {"Type": "EventHub", "Name": "emulatorNs1", "Entities": [hub]}
    return {"UserConfig": {"NamespaceConfig": [namespace], "LoggingConfig": {"Type": "File"}}}
