"""A state directory belongs to one running stack, and a stack to its settings."""

from pathlib import Path

import pytest

from local.plan import make_plan, without_settings
from local.state import StateLock, StateTaken
from meter.config.environment import load_settings


def test_a_directory_is_held_until_it_is_released(tmp_path: Path) -> None:
    """A second stack is refused until then, and taking it twice is no second stack."""
    first, second = StateLock(tmp_path / "state"), StateLock(tmp_path / "state")
    first.take()
    first.take()
    with pytest.raises(StateTaken, match="choose another directory with --state"):
        second.take()
    assert (first.is_held, second.is_held) == (True, False)
    first.release()

    second.take()

    assert (first.is_held, second.is_held) == (False, True)
    second.release()


def test_settings_of_the_environment_win_unless_they_are_left_out(tmp_path: Path) -> None:
    """A test can bring its own issuer; the demo takes none."""
    shell = {"METER_ISSUERS": "https://login.example", "MeterStorage": "x", "PATH": "/bin"}

    plans = [
        make_plan(tmp_path, port=0, environment=environment)
        for environment in (shell, without_settings(shell))
    ]

    assert plans[0].settings()["METER_ISSUERS"] == "https://login.example"
    assert plans[1].settings()["METER_ISSUERS"] == plans[1].issuer
    assert plans[1].environment == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "name",
    [
        *("METER_ISSUERS", "meter_issuers", "MeterStorage__tableServiceUri", "AZURE_CLIENT_ID"),
        *("EventHubConnection", "EventHubConnection__clientId", "AzureWebJobsStorage"),
        *("AzureFunctionsJobHost__functionTimeout", "WEBSITE_SITE_NAME", "LOCAL_BACKEND_KEY"),
    ],
)
def test_every_kind_of_setting_is_left_out(name: str) -> None:
    """Whatever the app or the SDKs read."""
    assert without_settings({name: "x", "HOME": "/"}) == {"HOME": "/"}


def test_the_stacks_own_backends_say_what_azure_prices_by(tmp_path: Path) -> None:
    """And the front door takes them as they are written."""
    plan = make_plan(tmp_path, port=0, environment={})
    plan.write_files()

    backends = load_settings(plan.settings()).gateway.backends

    assert [(each.name, each.region, each.deployment_type) for each in backends] == [
        ("backend-a", "swedencentral", "global"),
        ("backend-b", "swedencentral", "global"),
    ]
