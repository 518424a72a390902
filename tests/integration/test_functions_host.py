"""The local functions host keeps the real host's rules for batches, retries and checkpoints."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests
from azure.eventhub import EventData, EventHubProducerClient

from tests.support.running import REPOSITORY, RunningStack, eventually

KEY = "the host's key"
APP = """
import os
from pathlib import Path
from typing import List

import azure.functions as func

app = func.FunctionApp()
SEEN = Path(os.environ["PROBE_FILE"])


@app.function_name("probe")
@app.event_hub_message_trigger(
    arg_name="events",
    event_hub_name="probe",
    connection="EventHubConnection",
    cardinality=func.Cardinality.MANY,
    data_type=func.DataType.BINARY,
)
@app.retry(strategy="fixed_delay", max_retry_count="2", delay_interval="00:00:01")
async def probe(events: List[func.EventHubEvent]) -> None:
    bodies = [event.get_body().decode() for event in events]
    with SEEN.open("a") as out:
        out.write(" ".join(bodies) + "\\n")
    if "die" in bodies and not Path(os.environ["PROBE_FILE"] + ".died").exists():
        Path(os.environ["PROBE_FILE"] + ".died").touch()
        os.kill(os.getpid(), 9)
    if "throw" in bodies:
        raise RuntimeError("as asked")


@app.function_name("tick")
@app.timer_trigger(arg_name="timer", schedule="0 0 0 1 1 *")
async def tick(timer: func.TimerRequest) -> None:
    with SEEN.open("a") as out:
        out.write("tick\\n")


@app.function_name("hello")
@app.route(route="hello/{name}", methods=["GET"])
async def hello(req: func.HttpRequest) -> func.HttpResponse:
    return func.HttpResponse(req.route_params["name"])
"""


@pytest.fixture
def app(tmp_path: Path) -> Path:
    """A function app that records its input."""
    (tmp_path / "function_app.py").write_text(APP)
    hubs = {"eventHubs": {"maxEventBatchSize": 10}}
    (tmp_path / "host.json").write_text(json.dumps({"version": "2.0", "extensions": hubs}))
    return tmp_path


@contextmanager
def _hub(folder: Path) -> Iterator[str]:
    """An Event Hubs endpoint with its own hub of one partition."""
    entity = {"Name": "probe", "PartitionCount": 1, "ConsumerGroups": []}
    namespaces = [{"Type": "EventHub", "Name": "n", "Entities": [entity]}]
    (folder / "Config.json").write_text(json.dumps({"UserConfig": {"NamespaceConfig": namespaces}}))
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "local.eventhubs", "--port", "0", "--key", "key"),
            *("--data", str(folder / "hub"), "--config", str(folder / "Config.json")),
        ],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = process.stdout.readline().split()[1]
    try:
        yield (
            f"Endpoint=sb://localhost:{port};SharedAccessKeyName=RootManageSharedAccessKey;"
            "SharedAccessKey=key;UseDevelopmentEmulator=true"
        )
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=20)


@contextmanager
def _host(
    app: Path, stack: RunningStack, hub: str
) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """The host on that app: its process and address."""
    process = subprocess.Popen(
        [sys.executable, "-m", "local.functions", "--app", str(app), "--port", "0"],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={
            **os.environ,
            "PROBE_FILE": str(app / "seen"),
            "LOCAL_ADMIN_KEY": KEY,
            "EventHubConnection": hub,
            "AzureWebJobsStorage": stack.description["storage_connection_string"],
        },
    )
    assert process.stdout is not None
    port = process.stdout.readline().split()[1]
    try:
        yield process, f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def _send(hub: str, *bodies: str) -> None:
    producer = EventHubProducerClient.from_connection_string(hub, eventhub_name="probe")
    with producer:
        producer.send_batch([EventData(body) for body in bodies])


def _seen(app: Path) -> list[str]:
    file = app / "seen"
    return file.read_text().splitlines() if file.exists() else []


def test_a_batch_that_keeps_failing_is_retried_and_then_checkpointed(
    app: Path, stack: RunningStack
) -> None:
    """After the last retry the batch is lost and the partition goes on, as in the real host."""
    with _hub(app) as hub:
        with _host(app, stack, hub):
            _send(hub, "throw")
            eventually(lambda: len(_seen(app)) >= 3, "first try and two retries")
            _send(hub, "next")
            eventually(lambda: "next" in _seen(app), "the next batch")
        with _host(app, stack, hub):
            _send(hub, "last")
            eventually(lambda: "last" in _seen(app), "the batch after a restart")

    assert _seen(app) == ["throw", "throw", "throw", "next", "last"]


def test_a_batch_of_a_killed_worker_comes_again(app: Path, stack: RunningStack) -> None:
    """A kill within the function leaves no checkpoint, so the same batch is delivered again."""
    with _hub(app) as hub:
        with _host(app, stack, hub) as (process, _):
            _send(hub, "first")
            eventually(lambda: _seen(app) == ["first"], "the first batch")
            _send(hub, "die")
            process.wait(timeout=30)
        with _host(app, stack, hub):
            eventually(lambda: _seen(app).count("die") == 2, "the batch again")

    assert _seen(app) == ["first", "die", "die"]


def test_functions_run_by_route_and_by_the_admin_address(app: Path, stack: RunningStack) -> None:
    """Plain HTTP functions and `POST /admin/functions/NAME` work as in the real host."""
    key = {"x-functions-key": KEY}
    with _hub(app) as hub, _host(app, stack, hub) as (_, url):
        run = requests.post(f"{url}/admin/functions/tick", json={}, headers=key, timeout=10)
        unknown = requests.post(f"{url}/admin/functions/none", json={}, headers=key, timeout=10)
        shut = requests.post(f"{url}/admin/functions/tick", json={}, timeout=10)
        missing = requests.get(f"{url}/nothing/here", timeout=10)

    answers = (run, unknown, shut, missing)
    assert [answer.status_code for answer in answers] == [202, 404, 401, 404]
    assert _seen(app) == ["tick"]
