"""The sample of a settings file for Core Tools is that of a running stack."""

import json
import re
from pathlib import Path

import pytest

from local.plan import BACKEND_KEY_SETTING, DEFAULT_PORTS, Plan
from meter.config.environment import load_settings
from tests.support.running import REPOSITORY

SAMPLE = REPOSITORY / "local.settings.sample.json"
NEEDED_BY_THE_HOST = {"FUNCTIONS_WORKER_RUNTIME": "python"}


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    """A stack on its usual ports, with the placeholders of the sample as its keys."""
    plan = Plan(
        state=tmp_path,
        ports=DEFAULT_PORTS,
        hub_key="HUB_KEY",
        admin_key="",
        backend_key="BACKEND_KEY",
        backends_file=None,
        environment={},
        outbox_seconds=60,
    )
    plan.write_files()
    return plan


def sample_values() -> dict[str, str]:
    document = json.loads(SAMPLE.read_text(encoding="utf-8"))
    assert document["IsEncrypted"] is False
    values: dict[str, str] = document["Values"]
    return values


def test_its_values_are_those_of_the_stack(plan: Plan) -> None:
    """Storage is written short (Azurite on its usual ports), the backends' file relative."""
    written_otherwise = {
        "AzureWebJobsStorage": "UseDevelopmentStorage=true",
        "METER_BACKENDS": ".local/backends.json",
    }
    values = sample_values()

    own = plan.settings() | written_otherwise | NEEDED_BY_THE_HOST
    assert values == {name: own[name] for name in values}
    assert [DEFAULT_PORTS[name] for name in ("blob", "queue", "table")] == [10000, 10001, 10002]


def test_it_has_all_that_the_app_and_its_host_need(plan: Plan) -> None:
    """With it the app reads the settings that it has in the stack."""
    values = sample_values() | {"METER_BACKENDS": str(plan.backends_path)}
    function_app = (REPOSITORY / "function_app.py").read_text(encoding="utf-8")
    (connection,) = re.findall(r"connection=\"(\w+)\"", function_app)

    ours, theirs = load_settings(values), load_settings(plan.settings())

    assert (ours.gateway, ours.hub) == (theirs.gateway, theirs.hub)
    assert {connection, BACKEND_KEY_SETTING, "AzureWebJobsStorage"} < values.keys()
