"""A backend answers for each of its deployments: what it is called there, and how it is billed."""

from meter.gateway.backend import Backend, Deployment
from meter.usage import Tier

BACKEND = Backend(
    name="eu",
    url="https://eu.example",
    tier=Tier.PROVISIONED,
    deployment_type="regional",
    deployments={
        "gpt": Deployment("gpt-ptu"),
        "mini": Deployment(
            "mini-eu", model="gpt-4o-mini", tier=Tier.STANDARD, deployment_type="global"
        ),
    },
)


def test_a_deployment_has_its_own_facts() -> None:
    """An account may have provisioned deployments beside those that are paid by the token."""
    assert BACKEND.own_name("mini") == "mini-eu"
    assert BACKEND.terms_of("mini").model == "gpt-4o-mini"
    assert BACKEND.terms_of("mini").tier is Tier.STANDARD
    assert BACKEND.terms_of("mini").deployment_type == "global"


def test_a_deployment_without_facts_has_its_backends() -> None:
    """But for the model, which no account has as a whole."""
    assert BACKEND.own_name("gpt") == "gpt-ptu"
    assert BACKEND.terms_of("gpt").model is None
    assert BACKEND.terms_of("gpt").tier is Tier.PROVISIONED
    assert BACKEND.terms_of("gpt").deployment_type == "regional"


def test_a_deployment_that_is_not_known_has_its_backends_facts() -> None:
    """A stored response may be of a deployment that the document no longer names."""
    assert BACKEND.terms_of("gone").model is None
    assert BACKEND.terms_of("gone").tier is Tier.PROVISIONED
    assert BACKEND.terms_of("gone").deployment_type == "regional"


def test_a_deployment_that_is_not_served_keeps_its_public_name() -> None:
    """A stored response goes where it is stored, and an image tool may name what draws elsewhere."""
    assert BACKEND.own_name("gone") == "gone"
