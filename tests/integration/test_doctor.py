"""`doctor` on the real parts: a stack that is in order, and each way in which one is not."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests

from local.child import free_ports
from meter.bootstrap import App
from meter.doctor.settings_text import read_settings_text
from tests.support.running import REPOSITORY, RunningStack, run_local
from tests.unit.test_bootstrap import asked


@pytest.fixture(scope="module")
def settings(stack: RunningStack) -> Mapping[str, str]:
    """The settings that read the stack."""
    return read_settings_text(run_local("env", "--state", str(stack.state)), "env")


def examined(tmp_path: Path, settings: Mapping[str, str]) -> tuple[int, list[dict[str, Any]], str]:
    file = tmp_path / "settings.json"
    file.write_text(json.dumps([{"name": n, "value": v} for n, v in settings.items()]))
    done = subprocess.run(
        [sys.executable, "-m", "meter", "doctor", "--settings", str(file), "--format", "json"],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"]},
        timeout=180,
    )
    assert done.stderr == ""
    document = json.loads(done.stdout)
    assert document["exit_code"] == done.returncode
    return done.returncode, document["findings"], done.stdout


def of(findings: list[dict[str, Any]], area: str) -> list[dict[str, Any]]:
    return [finding for finding in findings if finding["class"] == area]


def test_a_stack_in_order_has_no_failure(
    tmp_path: Path, stack: RunningStack, settings: Mapping[str, str]
) -> None:
    """Every class is examined, and nothing stays: no table, no event, no call."""
    events_before, letters_before = stack.rows("UsageByDay"), stack.rows("DeadLetters")
    code, findings, _ = examined(tmp_path, settings)

    assert [each for each in findings if each["status"] != "ok"] == []
    assert code == 0
    assert {each["class"] for each in findings} == {
        *("settings", "issuers", "backends", "hub", "tables", "blobs", "clock", "versions")
    }
    assert {each["name"] for each in of(findings, "hub")} == {"usage (send)", "usage (receive)"}
    assert stack.rows("DeadLetters") == letters_before
    assert stack.rows("UsageByDay") == events_before


def test_each_fault_is_found_beside_the_others(tmp_path: Path, settings: Mapping[str, str]) -> None:
    """Wrong keys, a missing deployment, an issuer and a backend that are not there; no secret is shown."""
    document = json.loads(Path(settings["METER_BACKENDS"]).read_text())
    first, second = document["backends"]
    (closed,) = free_ports(1)
    first["deployments"] = {"gpt-4o": "gpt-4o", "gone": "no-such-deployment"}
    second["auth"] = {"kind": "api-key", "setting": "OTHER_KEY"}
    absent = {**first, "name": "absent", "url": f"http://127.0.0.1:{closed}"}
    faulty = {
        **settings,
        "METER_BACKENDS": json.dumps([first, second, absent]),
        "OTHER_KEY": "not-the-key-of-this-account",
        "METER_ISSUERS": f"http://127.0.0.1:{closed}",
        "METER_DURABILTY": "acknowledged",
        "METER_PRICES": "no-such-book.csv",
        "EventHubConnection": settings["EventHubConnection"].replace(
            "SharedAccessKey=", "SharedAccessKey=bm90"
        ),
        "MeterStorage": settings["MeterStorage"].replace("AccountKey=", "AccountKey=bm90"),
    }
    code, findings, shown = examined(tmp_path, faulty)
    failed = {
        (each["class"], each["name"]): each["found"]
        for each in findings
        if each["status"] == "fail"
    }

    assert code == 10
    assert any("no-such-book.csv" in each["found"] for each in of(findings, "settings"))
    assert failed["settings", "METER_DURABILTY"].endswith("did you mean METER_DURABILITY?")
    assert failed["issuers", faulty["METER_ISSUERS"]] == "the connection is refused"
    assert (
        "no deployment 'no-such-deployment'" in failed["backends", "backend-a/no-such-deployment"]
    )
    assert "refuses the key (401)" in failed["backends", "backend-b"]
    assert "the connection is refused" in failed["backends", "absent"]
    assert "the key is refused" in failed["hub", "usage (send)"]
    assert "the key is refused" in failed["hub", "usage (receive)"]
    assert "the key is refused" in failed["tables", "tables"]
    assert of(findings, "backends")[0]["status"] == "ok"
    for secret in ("not-the-key", "SharedAccessKey=", "AccountKey=", settings["LOCAL_BACKEND_KEY"]):
        assert secret not in shown


def test_references_are_left_to_the_app(tmp_path: Path, settings: Mapping[str, str]) -> None:
    """A laptop sees `@Microsoft.KeyVault(...)` in place of a key: a warning, and the rest is examined."""
    reference = "@Microsoft.KeyVault(SecretUri=https://v.vault.azure.net/secrets/x)"
    code, findings, _ = examined(tmp_path, {**settings, "LOCAL_BACKEND_KEY": reference})

    assert code == 0
    assert {each["name"]: each["status"] for each in of(findings, "settings")}[
        "LOCAL_BACKEND_KEY"
    ] == "warn"
    assert [each["status"] for each in of(findings, "backends")] == ["warn", "warn"]
    assert all(each["status"] == "ok" for each in of(findings, "hub"))


def test_what_is_not_there_is_told_from_what_refuses(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    """A hub and storage at closed ports, and a hub without such a name."""
    (closed,) = free_ports(1)
    hub = urlsplit(settings["EventHubConnection"].split(";")[0].removeprefix("Endpoint=")).netloc
    tables = settings["MeterStorage"].split("TableEndpoint=")[1].split("/")[2]
    gone = {
        **settings,
        "EventHubConnection": settings["EventHubConnection"].replace(hub, f"localhost:{closed}"),
        "MeterStorage": settings["MeterStorage"].replace(tables, f"127.0.0.1:{closed}"),
    }
    code, findings, _ = examined(tmp_path, gone)
    other, of_other, _ = examined(tmp_path, {**settings, "METER_EVENT_HUB": "other"})

    assert (code, other) == (14, 14)
    found = {each["found"] for each in (*of(findings, "hub"), *of(findings, "tables"))}
    assert found == {"the connection is refused"}
    assert "does not exist" in of(of_other, "hub")[0]["found"]


def test_a_front_door_alone_needs_no_rights_of_the_aggregator(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    """Nor would it be well to grant them: it sends, writes the outbox, and reads."""
    disabled = {"AzureWebJobs.aggregator.Disabled": "true"}
    code, findings, _ = examined(tmp_path, {**settings, **disabled})

    assert code == 0
    assert [each["name"] for each in of(findings, "hub")] == ["usage (send)"]
    assert [each["name"] for each in of(findings, "tables")] == ["Outbox", "tables"]
    assert {each["status"] for each in of(findings, "tables")} == {"ok"}
    assert of(findings, "clock")[0]["status"] == "ok"


def test_an_aggregator_alone_needs_no_rights_of_the_front_door(
    tmp_path: Path, settings: Mapping[str, str]
) -> None:
    """It has no issuers, and no keys of backends."""
    needed = {"EventHubConnection", "MeterStorage", "METER_EVENT_HUB", "METER_BACKENDS"}
    own = {name: value for name, value in settings.items() if name in needed}
    disabled = {f"AzureWebJobs_{name}_Disabled": "1" for name in ("front_door", "outbox")}
    code, findings, _ = examined(tmp_path, {**own, **disabled})
    _, of_outbox, _ = examined(tmp_path, {**own, "AzureWebJobs_front_door_Disabled": "1"})

    assert code == 0
    assert [each["name"] for each in of(of_outbox, "hub")] == ["usage (send)", "usage (receive)"]
    assert [each["name"] for each in of(findings, "hub")] == ["usage (receive)"]
    assert [each["name"] for each in of(findings, "tables")] == ["tables"]
    assert {each["class"] for each in findings} == {
        *("settings", "hub", "tables", "clock", "versions")
    }


async def test_the_app_examines_itself_for_operators(
    stack: RunningStack, settings: Mapping[str, str]
) -> None:
    """With the role that METER_OPERATOR_ROLE names: every finding, as JSON."""
    app = App(lambda: {**settings, "METER_OPERATOR_ROLE": "Meter.Operate"})
    tokens = [stack.token("ada", *options) for options in ((), ("--role", "Meter.Operate"))]
    try:
        answers = [
            await app.answer(*asked("GET", "/doctor", *headers))
            for headers in (
                (),
                *(((b"authorization", f"Bearer {each}".encode()),) for each in tokens),
            )
        ]
    finally:
        await app.close()

    assert [answer.status_code for answer in answers] == [401, 403, 200]
    document = json.loads(bytes(answers[-1].body))
    assert (document["status"], document["exit_code"]) == ("ok", 0)
    assert len(of(document["findings"], "backends")) > 2


def test_the_app_without_a_role_for_operators_has_no_such_address(stack: RunningStack) -> None:
    """`GET /doctor` is 404, with a token and without."""
    headers = {"Authorization": f"Bearer {stack.token('ada')}"}
    answers = [
        requests.get(f"{stack.url}/doctor", headers=each, timeout=30) for each in ({}, headers)
    ]

    assert [answer.status_code for answer in answers] == [404, 404]
