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


class Terms(Struct, frozen=True, kw_only=True, gc=False):
    """What Azure prices a deployment's calls by, its backend's own where it has none.

    `model` is named as answers name it; None where none is configured.
    """

    model: str | None = None
    tier: Tier
    region: str | None = None
    deployment_type: str | None = None


NO_TERMS = Terms(tier=Tier.STANDARD)


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
    _terms: Mapping[str, Terms] = field(init=False, repr=False, compare=False)
    _other_terms: Terms = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        terms = {name: self._terms_of(known) for name, known in self.deployments.items()}
        object.__setattr__(self, "_terms", terms)
        object.__setattr__(self, "_other_terms", self._terms_of(Deployment("")))

    def serves(self, deployment: str) -> bool:
        """Whether this account serves the public deployment name."""
        return deployment in self.deployments

    def own_name(self, deployment: str) -> str:
        """This account's name for the public deployment name; that itself where it does not serve it."""
        known = self.deployments.get(deployment)
        return deployment if known is None else known.name

    def terms_of(self, deployment: str) -> Terms:
        """What calls of the public deployment name are priced by here, also of one that is not served."""
        return self._terms.get(deployment, self._other_terms)

    def _terms_of(self, known: Deployment) -> Terms:
        return Terms(
            model=known.model,
            tier=known.tier or self.tier,
            region=self.region,
            deployment_type=known.deployment_type or self.deployment_type,
        )
