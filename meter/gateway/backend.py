"""A backend: one AOAI account, its deployments and its place in the order of preference."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from meter.usage import Tier


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A backend's key; never shown."""

    value: str

    def __repr__(self) -> str:
        return "ApiKey(***)"


@dataclass(frozen=True, slots=True)
class ManagedIdentity:
    """The app's own identity."""


type BackendAuth = ApiKey | ManagedIdentity


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One AOAI account.

    The lowest `priority` is tried first; `weight` (1-100) shares calls within a priority.
    `deployments` maps public names to this account's own. `resource_id` is the account's id in Azure;
    only reconciliation needs it.
    """

    name: str
    url: str
    priority: int = 1
    weight: int = 1
    tier: Tier = Tier.STANDARD
    deployments: Mapping[str, str] = field(default_factory=dict, hash=False)
    resource_id: str | None = None

    def serves(self, deployment: str) -> bool:
        """Whether this account serves the public deployment name."""
        return deployment in self.deployments

    def own_name(self, deployment: str) -> str:
        """This account's name for the public deployment name."""
        return self.deployments[deployment]
