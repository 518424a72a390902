"""Reads the backends document, METER_BACKENDS: the AOAI accounts and their deployments."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from meter.gateway.address import is_allowed_url
from meter.gateway.backend import ApiKey, Backend, BackendAuth, ManagedIdentity
from meter.gateway.request.route import is_deployment_name
from meter.usage import Tier

SETTING = "METER_BACKENDS"


class SettingReader(Protocol):
    """Reads settings and collects their problems."""

    def text(self, name: str, default: str = "") -> str:
        """A setting's value without spaces around it; the default where it is not set."""

    def problem(self, setting: str, text: str, detail: str = "") -> None:
        """Report a problem; `detail` may name backends."""


def read_backends(
    reader: SettingReader,
) -> tuple[tuple[Backend, ...], dict[str, BackendAuth]]:
    """The backends, and by name how the gateway authenticates to each. Problems are reported."""
    readers = _backend_readers(reader)
    backends = _backends(reader, readers)
    auth = {backend.name: each.auth() for backend, each in zip(backends, readers, strict=True)}
    return backends, auth


def read_accounts(reader: SettingReader) -> tuple[Backend, ...]:
    """The backends as accounts in Azure, without their keys. Problems are reported."""
    backends = _backends(reader, _backend_readers(reader))
    first_of_url: dict[str, Backend] = {}
    for backend in backends:
        first = first_of_url.setdefault(backend.url.lower(), backend)
        if (first.resource_id or "").lower() != (backend.resource_id or "").lower():
            # Calls to one of them would look like calls of strangers.
            reader.problem(
                SETTING,
                "needs one resource_id, or none, for all backends of one url",
                f"backends {first.name!r} and {backend.name!r}",
            )
    if backends and all(backend.resource_id is None for backend in backends):
        reader.problem(SETTING, "gives no backend a resource_id, so there is no account to query")
    return backends


def _backends(reader: SettingReader, readers: Sequence["_BackendReader"]) -> tuple[Backend, ...]:
    backends = tuple(each.backend() for each in readers)
    names: set[str] = set()
    for backend in backends:
        if backend.name in names:
            reader.problem(SETTING, "has a name twice", f"backend {backend.name!r}")
        names.add(backend.name)
    return backends


def _backend_readers(reader: SettingReader) -> list["_BackendReader"]:
    text = reader.text(SETTING)
    if not text:
        reader.problem(SETTING, "is not set: give the backends as JSON, or a file's path")
        return []
    if not text.startswith(("{", "[")):
        try:
            text = Path(text).read_text(encoding="utf-8")
        except (OSError, ValueError) as exc:
            reader.problem(SETTING, "is the path of a file that cannot be read", type(exc).__name__)
            return []
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as exc:
        reader.problem(SETTING, "is not valid JSON", str(exc)[:200])
        return []
    entries = document.get("backends") if isinstance(document, dict) else document
    if not isinstance(entries, list) or not entries:
        reader.problem(SETTING, 'must be {"backends": [...]} with at least one backend')
        return []
    return [_BackendReader(reader, index, entry) for index, entry in enumerate(entries)]


class _BackendReader:
    """Reads one entry of METER_BACKENDS."""

    _NAME = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
    _KEYS = frozenset(
        {"name", "url", "priority", "weight", "tier", "auth", "deployments", "resource_id"}
    )
    _RESOURCE_ID = re.compile(
        r"/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
        r"/resourceGroups/[\w().-]{0,89}[\w()-]"  # Azure's rule: no full stop at the end
        r"/providers/Microsoft\.CognitiveServices/accounts/[a-z0-9][a-z0-9_.-]{0,63}",
        re.IGNORECASE,
    )

    def __init__(self, reader: SettingReader, index: int, entry: object) -> None:
        self._reader = reader
        self._entry: Mapping[str, object] = entry if isinstance(entry, dict) else {}
        name = self._entry.get("name")
        self._name = name if isinstance(name, str) else f"#{index + 1}"
        if not isinstance(entry, dict):
            self._problem("has an entry that is not an object")

    def backend(self) -> Backend:
        """The backend, with defaults for invalid values."""
        if not self._NAME.fullmatch(self._name):
            self._problem("needs a name of 1-64 letters, digits and ._- for each backend")
        if unknown := sorted(self._entry.keys() - self._KEYS):
            self._problem(f"accepts {', '.join(sorted(self._KEYS))}; got {', '.join(unknown)}")
        return Backend(
            name=self._name,
            url=self._url(),
            priority=self._whole("priority", 1, 1_000),
            weight=self._whole("weight", 1, 100),
            tier=self._tier(),
            deployments=self._deployments(),
            resource_id=self._resource_id(),
        )

    def auth(self) -> BackendAuth:
        """How the gateway authenticates to it."""
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

    def _problem(self, text: str) -> None:
        self._reader.problem(SETTING, text, f"backend {self._name!r}")

    def _url(self) -> str:
        url = self._entry.get("url")
        if not isinstance(url, str) or not is_allowed_url(url) or "?" in url or "#" in url:
            self._problem("needs an https url for each backend; plain http on loopback only")
            return "https://invalid.invalid"
        # Azure's own pages show the address with and without the path; the gateway adds it.
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

    def _resource_id(self) -> str | None:
        value = self._entry.get("resource_id")
        if value is None or (isinstance(value, str) and self._RESOURCE_ID.fullmatch(value)):
            return value
        self._problem(
            "resource_id must be /subscriptions/ID/resourceGroups/GROUP/providers/"
            "Microsoft.CognitiveServices/accounts/NAME"
        )
        return "/invalid"
