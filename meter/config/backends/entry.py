"""Reads one entry of the backends document: an account, and how the gateway authenticates to it."""

import re
from collections.abc import Mapping

from meter.config.addresses import account_url_problem, shown
from meter.config.backends.deployments import FactsReader, read_deployments
from meter.config.backends.document import SETTING
from meter.config.reader import Reader
from meter.gateway.backend import ApiKey, Backend, BackendAuth, ManagedIdentity
from meter.patterns import lazy_pattern
from meter.usage import Tier

INVALID_URL = "https://invalid.invalid"  # of a backend whose own is not valid
_KEY_LENGTH = 32  # of the shortest key of an account


class BackendReader:
    """Reads one entry of METER_BACKENDS."""

    _NAME = lazy_pattern(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
    _SETTING = lazy_pattern(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
    _KEYS = frozenset(
        {"name", "url", "priority", "weight", "tier", "region", "deployment_type"}
        | {"auth", "deployments", "resource_id"}
    )
    _RESOURCE_ID = lazy_pattern(
        r"/subscriptions/[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"
        r"/resourceGroups/[\w().-]{0,89}[\w()-]"  # Azure's rule: no full stop at the end
        r"/providers/Microsoft\.CognitiveServices/accounts/[a-z0-9][a-z0-9_.-]{0,63}",
        re.IGNORECASE,
    )

    def __init__(self, reader: Reader, place: str, index: int, entry: Mapping[str, object]) -> None:
        self._reader = reader
        self._place = place
        self._entry = entry
        name = self._entry.get("name")
        self._name = name if isinstance(name, str) else f"#{index + 1}"

    def backend(self) -> Backend:
        """The backend, with defaults for invalid values."""
        if not self._NAME.fullmatch(self._name):
            self._problem("needs a name of 1-64 letters, digits and ._- for each backend")
        if unknown := sorted(self._entry.keys() - self._KEYS):
            self._problem(f"accepts {', '.join(sorted(self._KEYS))}; got {', '.join(unknown)}")
        facts = FactsReader(self._entry, self._problem)
        tier, deployment_type = facts.tier() or Tier.STANDARD, facts.deployment_type()
        return Backend(
            name=self._name,
            url=self._url(),
            priority=self._whole("priority", 1, 1_000),
            weight=self._whole("weight", 1, 100),
            tier=tier,
            region=facts.region(),
            deployment_type=deployment_type,
            deployments=read_deployments(
                self._entry.get("deployments"), tier, deployment_type, self._deployment_problem
            ),
            resource_id=self._resource_id(),
        )

    def auth(self) -> BackendAuth:
        """How the gateway authenticates to it."""
        auth = self._auth
        kind = auth.get("kind")
        if unknown := sorted(auth.keys() - {"kind", "setting"}):
            self._problem(
                f"auth accepts kind, setting; got {', '.join(unknown)}. "
                "The key itself never stands here: setting names the setting that holds it"
            )
        elif kind == "api-key":
            return ApiKey(self._key(auth.get("setting")))
        elif kind != "managed-identity":
            self._problem(
                f'auth.kind must be managed-identity or api-key, got {kind!r}; for example "auth": '
                '{"kind": "api-key", "setting": "EU_KEY"}'
            )
        return ManagedIdentity()

    @property
    def _auth(self) -> Mapping[str, object]:
        auth = self._entry.get("auth", {"kind": "managed-identity"})
        return auth if isinstance(auth, dict) else {"kind": auth}

    def _key(self, setting: object) -> str:
        if not isinstance(setting, str) or not setting:
            self._problem(
                f"auth.setting must name the setting that holds the key, got {setting!r}; "
                'for example "setting": "EU_KEY"'
            )
            return ""
        key = self._reader.text(setting)
        if not key:
            # A key in place of the name would be shown: names are short, or have a `_`.
            is_name = bool(self._SETTING.fullmatch(setting)) and (
                "_" in setting or len(setting) < _KEY_LENGTH
            )
            self._problem(
                "auth.setting names a setting that is not set or empty",
                setting if is_name else f"a text of {len(setting)} characters",
            )
        elif not (key.isascii() and key.isprintable()) or " " in key:
            self._problem("auth.setting names a setting whose value cannot be a key", setting)
        return key

    def _problem(self, text: str, given: str = "") -> None:
        """Report a problem; `given` is for operators only."""
        given = f", got {given}" if given else ""
        self._reader.problem(SETTING, text, f"backend {self._name!r}{self._place}{given}")

    def _deployment_problem(self, text: str, names: str) -> None:
        of = f", deployment {names}" if names else ""
        self._reader.problem(SETTING, text, f"backend {self._name!r}{of}{self._place}")

    def _url(self) -> str:
        url = self._entry.get("url")
        text = url if isinstance(url, str) else ""
        has_identity = self._auth.get("kind") == "managed-identity"
        if (problem := account_url_problem(text, has_identity=has_identity)) is not None:
            given = shown(text) if isinstance(url, str) else repr(url)
            self._problem(f"url {problem}; for example https://contoso.openai.azure.com", given)
            return INVALID_URL
        # Azure's own pages show the address with and without the path; the gateway adds it.
        return text.rstrip("/").removesuffix("/v1").removesuffix("/openai")

    def _whole(self, key: str, default: int, most: int) -> int:
        value = self._entry.get(key, default)
        if type(value) is int and 1 <= value <= most:
            return value
        self._problem(f'{key} must be 1-{most}, got {value!r}; for example "{key}": {default}')
        return default

    def _resource_id(self) -> str | None:
        value = self._entry.get("resource_id")
        if value is None or (isinstance(value, str) and self._RESOURCE_ID.fullmatch(value)):
            return value
        self._problem(
            "resource_id must be /subscriptions/ID/resourceGroups/GROUP/providers/"
            "Microsoft.CognitiveServices/accounts/NAME"
        )
        return "/invalid"
