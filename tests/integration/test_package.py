"""The deployed files are sufficient: requirements.txt and those that .funcignore names."""

import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import requests

from local.package import core_tools, deployed, files_of
from tests.support.package import FUNCIGNORE
from tests.support.running import REPOSITORY, RunningStack, eventually, new_subject

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
LIMIT_BYTES = 60_000_000
LIST_FUNCTIONS = (
    "import json, function_app; "
    "print(json.dumps([f.get_function_name() for f in function_app.app.get_functions()]))"
)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The app as deployed by `func azure functionapp publish`, with its dependencies beside it."""
    folder: Path = tmp_path_factory.mktemp("package")
    for path in deployed(files_of(REPOSITORY), core_tools(FUNCIGNORE)):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, folder / path)
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-compile"),
            *("--disable-pip-version-check", "--target", str(folder / "packages")),
            *("-r", str(folder / "requirements.txt")),
        ],
        check=True,
        capture_output=True,
        timeout=300,
    )
    return folder


def _environment(package: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": f"{package}:{package / 'packages'}"}


def test_only_what_the_app_needs_is_deployed(package: Path) -> None:
    """host.json, requirements.txt, function_app.py and meter/, and nothing else."""
    deployed = {entry.name for entry in package.iterdir()}

    assert deployed == {"host.json", "requirements.txt", "function_app.py", "meter", "packages"}


def test_the_deployed_dependencies_stay_small(package: Path) -> None:
    """They stay under 60 MB, so that cold starts and remote builds are quick."""
    files = [file for file in (package / "packages").rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files if file.suffix != ".pyc")

    assert size < LIMIT_BYTES


def test_the_deployed_app_is_indexed(package: Path) -> None:
    """The host finds the functions with only the deployed files on the path."""
    done = subprocess.run(
        # -S: this environment's own packages must not be found.
        [sys.executable, "-S", "-c", LIST_FUNCTIONS],
        cwd=package,
        env=_environment(package),
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == [
        "aggregator",
        "export",
        "front_door",
        "outbox",
        "retention",
        "sweep",
    ]


def test_the_deployed_app_serves_a_call(package: Path, stack: RunningStack) -> None:
    """A call through the deployed files, started as in a container, is answered and counted."""
    subject = new_subject("deployed")
    description = stack.description
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = {
        "METER_ISSUERS": description["issuer"],
        "METER_AUDIENCES": description["audience"],
        "METER_BACKENDS": description["backends_file"],
        "LOCAL_BACKEND_KEY": description["backend_key"],
        "EventHubConnection": description["event_hub_connection_string"],
        "MeterStorage": description["storage_connection_string"],
    }
    _, *arguments = _command_of_the_container()
    places = {"0.0.0.0": "127.0.0.1", "8080": str(port)}
    server = [sys.executable, "-S", *(places.get(each, each) for each in arguments)]
    process = subprocess.Popen(server, cwd=package, env=_environment(package) | settings)
    try:
        eventually(lambda: _is_ready(port), "the deployed app is ready")
        answer = requests.post(
            f"http://127.0.0.1:{port}{CHAT}",
            json=BODY,
            headers={"authorization": f"Bearer {stack.token(subject)}"},
            timeout=30,
        )
    finally:
        process.terminate()
        stopped = process.wait(timeout=20)

    assert stopped in {0, -15}
    assert answer.status_code == 200
    [row] = stack.wait_until_counted(subject, 1)
    assert row["TotalTokens"].value == answer.json()["usage"]["total_tokens"]


def _command_of_the_container() -> list[str]:
    text = (REPOSITORY / "Containerfile").read_text()
    (command,) = (line for line in text.splitlines() if line.startswith("CMD "))
    found: list[str] = json.loads(command.removeprefix("CMD "))
    return found


def _is_ready(port: int) -> bool:
    try:
        return requests.get(f"http://127.0.0.1:{port}/readyz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False
