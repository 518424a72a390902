"""A backend: one AOAI account, what it serves, and how it is preferred."""

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

    `priority` is tried lowest first; `weight` (1-100) shares calls within a priority.
    `deployments` maps public names to this account's own. `resource_id` is the account's id in Azure,
    which only reconciliation needs.
    """

    name: str
    url: str
    priority: int = 1
    weight: int = 1
    tier: Tier = Tier.STANDARD
    deployments: Mapping[str, str] = field(default_factory=dict, hash=False)
    resource_id: str | None = None

    def serves(self, deployment: str) -> bool:
        """Whether calls for the public deployment name may go here."""
        return deployment in self.deployments

    def own_name(self, deployment: str) -> str:
        """This account's name for the public deployment name."""
        return self.deployments[deployment]
