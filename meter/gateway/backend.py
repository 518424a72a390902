"""A backend: one AOAI account, its deployments and its place in the order of preference."""

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field

from msgspec import Struct

from meter.usage import Tier


class ApiKey(Struct, frozen=True):
    """A backend's key; never shown."""

    value: str

    def __repr__(self) -> str:
        return "ApiKey(***)"


class ManagedIdentity(Struct, frozen=True):
    """The app's own identity."""


type BackendAuth = ApiKey | ManagedIdentity


@dataclass(frozen=True, slots=True)
class Deployment:
    """An account's deployment, by its own name there, and what Azure prices it by where that is known.

    `model` is named as answers name it. `tier` and `deployment_type` are None where they are the
    backend's.
    """

    name: str
    _: KW_ONLY
    model: str | None = None
    tier: Tier | None = None
    deployment_type: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend:
    """One AOAI account.

    The lowest `priority` is tried first; `weight` (1-100) shares calls within a priority.
    `deployments` maps public names to the account's deployments. `region` is Azure's short name for
    where the account is. `resource_id` is its id in Azure; only reconciliation needs it.
    """

    name: str
    url: str
    priority: int = 1
    weight: int = 1
    tier: Tier = Tier.STANDARD
    region: str | None = None
    deployment_type: str | None = None
    deployments: Mapping[str, Deployment] = field(default_factory=dict, hash=False)
    resource_id: str | None = None

    def serves(self, deployment: str) -> bool:
        """Whether this account serves the public deployment name."""
        return deployment in self.deployments

    def own_name(self, deployment: str) -> str:
        """This account's name for the public deployment name, which it must serve."""
        return self.deployments[deployment].name

    def model_of(self, deployment: str) -> str | None:
        """The model configured for the public deployment name; None where none is."""
        known = self.deployments.get(deployment)
        return None if known is None else known.model

    def tier_of(self, deployment: str) -> Tier:
        """How the public deployment name is billed here: its own tier, else the backend's."""
        known = self.deployments.get(deployment)
        return self.tier if known is None else known.tier or self.tier

    def deployment_type_of(self, deployment: str) -> str | None:
        """Where the public deployment name is processed: its own type, else the backend's."""
        known = self.deployments.get(deployment)
        return (
            self.deployment_type if known is None else known.deployment_type or self.deployment_type
        )
