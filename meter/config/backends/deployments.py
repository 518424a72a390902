"""Reads what the backends document says of deployments: of one, and of all of a backend."""

import re
from collections.abc import Callable, Mapping

from meter.gateway.answer.usage import model_name
from meter.gateway.backend import Deployment
from meter.gateway.request.route import is_deployment_name
from meter.patterns import lazy_pattern
from meter.usage import Tier

KEYS = ("name", "model", "tier", "deployment_type")
TIERS = (Tier.PROVISIONED, Tier.STANDARD)
DEPLOYMENT_TYPES = ("global", "data-zone", "regional")
_REGION = lazy_pattern(r"[a-z][a-z0-9]{1,49}", re.ASCII)
_NEEDED = (
    "needs deployments for each backend: an object from public names to the backend's own, of 1-64 "
    'letters, digits and ._-; for example {"gpt-4o": "gpt-4o-eu"} or {"gpt-4o": {"name": '
    '"gpt-4o-eu", "model": "gpt-4o-2024-11-20"}}'
)


class FactsReader:
    """Reads the optional facts of one backend, or of one deployment. `null` is as good as none.

    `problem` takes the text of a problem.
    """

    def __init__(self, entry: Mapping[str, object], problem: Callable[[str], None]) -> None:
        self._entry = entry
        self._problem = problem

    def tier(self) -> Tier | None:
        """How its calls are billed. Priority and flex are no capacity, but the choice of a call."""
        value = self._entry.get("tier")
        if value is None or value in TIERS:
            return None if value is None else Tier(str(value))
        text = f"tier must be one of {', '.join(TIERS)}, got {value!r}"
        if value in tuple(Tier):
            text += "; priority and flex are chosen per call, and taken from the answer"
        self._problem(text)
        return None

    def deployment_type(self) -> str | None:
        """Where Azure may process its calls."""
        value = self._entry.get("deployment_type")
        if value is None or value in DEPLOYMENT_TYPES:
            return None if value is None else str(value)
        self._problem(
            f"deployment_type must be one of {', '.join(DEPLOYMENT_TYPES)}, got {value!r}; of "
            "Azure's SKUs, Global* are global, DataZone* data-zone, the others regional"
        )
        return None

    def region(self) -> str | None:
        """Azure's short name of a region, which is also read from its display name."""
        value = self._entry.get("region")
        if value is None:
            return None
        region = value.replace(" ", "").lower() if isinstance(value, str) else ""
        if _REGION.fullmatch(region):
            return region
        self._problem(
            f"region must be an Azure region's name, got {value!r}; for example swedencentral"
        )
        return None

    def model(self) -> str | None:
        """The model's name as answers have it."""
        value = self._entry.get("model")
        model = model_name(value)
        if value is None or (model is not None and model.isprintable() and model == model.strip()):
            return model
        self._problem(
            "model must be a model's name as answers have it, for example gpt-4o-2024-08-06"
        )
        return None


def read_deployments(
    value: object, tier: Tier, deployment_type: str | None, problem: Callable[[str, str], None]
) -> Mapping[str, Deployment]:
    """The deployments of a backend that has this tier and type, by public name.

    `problem` takes the text of a problem, and the public names that have it.
    """
    if not isinstance(value, dict) or not value or not all(map(is_deployment_name, value)):
        problem(_NEEDED, "")
        return {}
    found = {}
    described: dict[str, tuple[str, object]] = {}
    for public, entry in value.items():
        deployment = _deployment(public, entry, problem)
        if deployment is None:
            continue
        found[public] = deployment
        facts = (
            deployment.model,
            deployment.tier or tier,
            deployment.deployment_type or deployment_type,
        )
        # Azure ignores the case of names.
        first, same = described.setdefault(deployment.name.lower(), (public, facts))
        if facts != same:
            problem(
                "needs one model, tier and deployment_type for all public names of one deployment",
                f"{first!r} and {public!r}",
            )
    return found


def _deployment(
    public: str, entry: object, problem: Callable[[str, str], None]
) -> Deployment | None:
    facts = entry if isinstance(entry, dict) else {"name": entry}
    name = facts.get("name")
    if not isinstance(name, str) or not is_deployment_name(name):
        problem(_NEEDED, repr(public))
        return None
    if unknown := sorted(facts.keys() - set(KEYS)):
        problem(f"deployments accept {', '.join(KEYS)}; got {', '.join(unknown)}", repr(public))
    reader = FactsReader(facts, lambda text: problem(text, repr(public)))
    return Deployment(
        name,
        model=reader.model(),
        tier=reader.tier(),
        deployment_type=reader.deployment_type(),
    )
