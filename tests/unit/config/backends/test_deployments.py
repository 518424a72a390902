"""What the backends document says of deployments is read whole, and every mistake in it is told."""

import json
from pathlib import Path

import pytest

from meter.config.environment import load_reconcile_settings, load_settings
from meter.errors import InvalidSettings
from meter.gateway.backend import Backend, Deployment
from meter.usage import Tier
from tests.unit.config.test_environment import BACKEND, backends, environment, problems

NAMES = "1-64 letters, digits and ._-"


def only(entry: dict[str, object]) -> Backend:
    return load_settings(backends(BACKEND | entry)).gateway.backends[0]


def of(deployment: object) -> dict[str, str]:
    return backends(BACKEND | {"deployments": {"gpt": deployment}})


def test_a_deployment_is_a_name_or_an_object() -> None:
    """The object's facts are what Azure prices by; all but the name are optional."""
    whole = {
        "name": "gpt-eu",
        "model": "gpt-4o-2024-11-20",
        "tier": "provisioned",
        "deployment_type": "data-zone",
    }
    read = only({"deployments": {"gpt": whole, "mini": {"name": "mini-eu"}, "embed": "embed-eu"}})

    assert read.deployments == {
        "gpt": Deployment(
            "gpt-eu",
            model="gpt-4o-2024-11-20",
            tier=Tier.PROVISIONED,
            deployment_type="data-zone",
        ),
        "mini": Deployment("mini-eu"),
        "embed": Deployment("embed-eu"),
    }


@pytest.mark.parametrize("value", ["global", "data-zone", "regional", None])
def test_a_backend_has_a_deployment_type_or_none(value: str | None) -> None:
    """`null` is none, as templates write it."""
    assert only({"deployment_type": value}).deployment_type == value


@pytest.mark.parametrize(
    ("value", "region"),
    [
        ("swedencentral", "swedencentral"),
        ("Sweden Central", "swedencentral"),
        (" EastUS2 ", "eastus2"),
        (None, None),
    ],
)
def test_a_region_is_read_as_azures_short_name(value: str | None, region: str | None) -> None:
    """The portal shows the display name; price lists have the short one."""
    assert only({"region": value}).region == region


def test_null_counts_as_absent() -> None:
    """For each fact that is optional, in the backend and in its deployments."""
    nulls = {"name": "own", "model": None, "tier": None, "deployment_type": None}
    read = only({"tier": None, "deployments": {"gpt": nulls}})

    assert (read.tier, read.deployments) == (Tier.STANDARD, {"gpt": Deployment("own")})


@pytest.mark.parametrize(
    ("deployment", "text"),
    [
        (7, "needs deployments for each backend"),
        (["gpt"], "needs deployments for each backend"),
        ("a/b", "needs deployments for each backend"),
        ({}, "needs deployments for each backend"),
        ({"name": None, "model": "m"}, "needs deployments for each backend"),
        ({"name": "a b"}, "needs deployments for each backend"),
        (
            {"name": "own", "modle": "m"},
            "deployments accept name, model, tier, deployment_type; got modle",
        ),
        ({"name": "own", "tier": "premium"}, "tier must be one of provisioned, standard, got 'pre"),
        ({"name": "own", "tier": ["standard"]}, "tier must be one of provisioned, standard, got ["),
        (
            {"name": "own", "tier": "flex"},
            "tier must be one of provisioned, standard, got 'flex'; priority and flex are chosen per "
            "call, and taken from the answer",
        ),
        (
            {"name": "own", "deployment_type": "GlobalStandard"},
            "deployment_type must be one of global, data-zone, regional, got 'GlobalStandard'; of "
            "Azure's SKUs, Global* are global",
        ),
        ({"name": "own", "deployment_type": 1}, "deployment_type must be one of global, data-zone"),
        ({"name": "own", "model": ""}, "model must be a model's name as answers have it"),
        ({"name": "own", "model": 4}, "model must be a model's name as answers have it"),
        ({"name": "own", "model": " m"}, "model must be a model's name as answers have it"),
        ({"name": "own", "model": "a\nb"}, "model must be a model's name as answers have it"),
        ({"name": "own", "model": "m" * 1_000}, "model must be a model's name as answers have it"),
    ],
    ids=str,
)
def test_a_deployment_that_cannot_be_used_is_told(deployment: object, text: str) -> None:
    """With its public name as a detail for operators."""
    (problem,) = problems(of(deployment))

    assert problem.startswith(f"METER_BACKENDS {text}")
    assert problem.endswith("(backend 'eu', deployment 'gpt')")


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"tier": "priority"}, "tier must be one of provisioned, standard, got 'priority'; prio"),
        ({"tier": 1}, "tier must be one of provisioned, standard, got 1"),
        ({"deployment_type": "Global"}, "deployment_type must be one of global, data-zone"),
        ({"region": ""}, "region must be an Azure region's name, got ''; for example sweden"),
        ({"region": "(Europe) Sweden Central"}, "region must be an Azure region's name, got '(Eu"),
        ({"region": "schweden-mitte"}, "region must be an Azure region's name, got 'schweden-"),
        ({"region": ["eastus"]}, "region must be an Azure region's name, got ['eastus']"),
    ],
    ids=str,
)
def test_a_backends_fact_that_means_nothing_is_told(change: dict[str, object], text: str) -> None:
    """A price is looked up by it, so a misspelt one would find none."""
    (problem,) = problems(backends(BACKEND | change))

    assert problem.startswith(f"METER_BACKENDS {text}")
    assert problem.endswith("(backend 'eu')")


@pytest.mark.parametrize(
    "other",
    [
        {"name": "OWN", "tier": "provisioned"},
        {"name": "own", "deployment_type": "global"},
        {"name": "own", "model": "gpt-4o"},
    ],
)
def test_two_names_of_one_deployment_agree_on_what_it_is(other: dict[str, str]) -> None:
    """Else one call would be billed in two ways, by the name it came under."""
    entry = BACKEND | {"deployments": {"gpt": "own", "gpt-4o": other, "embed": "embed"}}

    assert problems(backends(entry)) == (
        "METER_BACKENDS needs one model, tier and deployment_type for all public names of one "
        "deployment (backend 'eu', deployment 'gpt' and 'gpt-4o')",
    )


def test_two_names_of_one_deployment_may_say_the_same() -> None:
    """What the backend says already may be repeated."""
    same = {"name": "Own", "tier": "standard", "deployment_type": "global"}
    read = only({"deployment_type": "global", "deployments": {"gpt": "own", "gpt-4o": same}})

    assert [read.own_name(name) for name in ("gpt", "gpt-4o")] == ["own", "Own"]


def test_a_key_that_stands_twice_is_told(tmp_path: Path) -> None:
    """JSON's readers keep the last and drop the first without a word."""
    file = tmp_path / "backends.json"
    text = json.dumps({"backends": [BACKEND]}).replace(
        '{"gpt": "gpt-own"}', '{"gpt": "gpt-own", "gpt": "other"}'
    )
    file.write_text(text, "utf-8")

    assert problems(environment(METER_BACKENDS=text)) == (
        "METER_BACKENDS has a key twice in one object ('gpt')",
    )
    assert problems(environment(METER_BACKENDS=str(file))) == (
        f"METER_BACKENDS has a key twice in one object ('gpt' in {str(file)!r})",
    )


def test_a_reconciliation_reads_them_the_same() -> None:
    """It has the document's problems as the front door has."""
    wrong = of({"name": "own", "tier": "gold"})

    with pytest.raises(InvalidSettings) as found:
        load_reconcile_settings(wrong)

    assert problems(wrong)[0] in found.value.problems
