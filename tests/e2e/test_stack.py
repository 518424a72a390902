"""The stack's contract: files, precedence of settings, no processes left behind."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from tests.support.running import REPOSITORY, RunningStack, run_local, run_stack

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_stack_json_has_all_that_other_programs_need(stack: RunningStack) -> None:
    """The file's contract: addresses, connection strings, backends and true pids."""
    description = stack.description

    assert set(description) >= {
        *("gateway_url", "admin_key", "issuer", "audience", "storage_connection_string"),
        *("event_hub_connection_string", "event_hub_name", "backends", "pids"),
    }
    assert {"gateway", "eventhubs", "azurite"} <= set(description["pids"])
    assert all(_is_alive(pid) for pid in description["pids"].values())


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """The answers of a stack with invalid settings, and the processes that it had."""
    state: Path = tmp_path_factory.mktemp("broken")
    settings = {
        "METER_DURABILITY": "sometimes",
        "METER_ALGORITHMS": "HS256",
        "METER_BACKENDS": json.dumps({"backends": [{"name": "secret-name", "weight": 0}]}),
    }
    with run_stack(state, settings=settings, says="unready") as running:
        pids = list(running.description["pids"].values())
        ready = requests.get(f"{running.url}/readyz", timeout=10)
        alive = requests.get(f"{running.url}/healthz", timeout=10)
        call = running.post(CHAT, running.token("someone"), {})
    return {"ready": ready, "alive": alive, "call": call, "pids": pids, "state": state}


def test_settings_that_cannot_be_used_are_all_listed(broken: dict[str, object]) -> None:
    """The app still loads; /readyz names every problem, but no backend."""
    ready = broken["ready"]
    assert isinstance(ready, requests.Response)

    assert ready.status_code == 503
    listed = " ".join(ready.json()["settings"])
    for setting in ("METER_DURABILITY", "METER_ALGORITHMS", "METER_BACKENDS"):
        assert setting in listed
    assert "secret-name" not in ready.text


def test_calls_to_an_unconfigured_gateway_get_a_clear_503(broken: dict[str, object]) -> None:
    """The answer is a 503 in AOAI's shape that says where to look, never a bare 500."""
    call, alive = broken["call"], broken["alive"]
    assert isinstance(call, requests.Response)
    assert isinstance(alive, requests.Response)

    assert call.status_code == 503
    assert "check-config" in call.json()["error"]["message"]
    assert alive.status_code == 200


def test_a_stopped_stack_leaves_no_process(broken: dict[str, object]) -> None:
    """SIGTERM to `local up` ends every process that it started."""
    pids = broken["pids"]
    assert isinstance(pids, list)

    assert [pid for pid in pids if _is_alive(pid)] == []


def test_a_second_stack_does_not_touch_the_first(stack: RunningStack) -> None:
    """One state directory serves one stack; the second says so and leaves stack.json."""
    before = stack.description

    second = subprocess.run(
        [sys.executable, "-m", "local", "up", "--port", "0", "--state", str(stack.state)],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert second.returncode == 1
    assert second.stderr == (
        f"a stack is running in {stack.state.resolve()}: stop it, or choose another directory "
        "with --state\n"
    )
    assert stack.description == before


def test_the_printed_curl_line_works(stack: RunningStack) -> None:
    """It mints its own token and calls a deployment that chats."""
    log = (stack.state / "up.log").read_text()
    (line,) = [line for line in log.splitlines() if line.startswith("curl ")]

    done = subprocess.run(
        ["bash", "-c", line], cwd=REPOSITORY, capture_output=True, text=True, timeout=60, check=True
    )

    assert json.loads(done.stdout)["choices"]


def test_every_child_is_restarted_and_the_pids_stay_true(stack: RunningStack) -> None:
    """A killed child is back under its new pid."""
    for child in ("issuer", "backend-b"):
        old = stack.kill(child, signal.SIGKILL)
        stack.wait_for_restart(child, old)

        assert _is_alive(stack.description["pids"][child])


def test_tokens_take_claims_roles_and_another_audience(stack: RunningStack) -> None:
    """`local token` can mint the tokens that tests of rules need."""
    token = run_local(
        *("token", "--state", str(stack.state), "--subject", "s", "--role", "r1", "--role", "r2"),
        *("--app", "app-1", "--audience", "aud-1", "--claim", "extra=[1]"),
    )

    assert token.count(".") == 2
