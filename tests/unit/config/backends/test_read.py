"""The backends as a command reads them that can do without."""

import json

import pytest

from meter.config.backends.read import load_known_backends
from meter.errors import InvalidSettings

ACCOUNT = (
    "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/rg"
    "/providers/Microsoft.CognitiveServices/accounts/east"
)


def test_without_the_setting_no_backend_is_known() -> None:
    """Analysts may have the tables alone."""
    assert load_known_backends({}) == ()


def test_known_backends_need_no_keys_and_no_account() -> None:
    """Those of a local stack have none."""
    backends = [
        {"name": "east", "url": "https://e.example", "deployments": {"g": "g"}, "region": "eastus"},
        {"name": "west", "url": "https://w.example", "deployments": {"g": "g"}},
    ]
    found = load_known_backends(
        {"METER_BACKENDS": json.dumps([backends[0] | {"resource_id": ACCOUNT}, backends[1]])}
    )

    assert [(each.name, each.resource_id, each.region) for each in found] == [
        ("east", ACCOUNT, "eastus"),
        ("west", None, None),
    ]


def test_mistakes_of_known_backends_are_refused() -> None:
    """A file with the wrong accounts would be worse than none."""
    with pytest.raises(InvalidSettings, match="METER_BACKENDS"):
        load_known_backends({"METER_BACKENDS": '[{"name": "east"}]'})
