"""The command: acknowledged events survive a kill, and signals stop it."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from azure.eventhub import EventData
from azure.eventhub.exceptions import EventDataSendError

from tests.local.eventhubs.test_harness import HUB, KEY, WAIT_SECONDS, Served, receive

_CONFIG = {
    "UserConfig": {
        "NamespaceConfig": [
            {"Entities": [{"Name": HUB, "PartitionCount": 2, "ConsumerGroups": []}]}
        ]
    }
}


@contextmanager
def _command(directory: Path, *options: str) -> Iterator[tuple[subprocess.Popen[str], Served]]:
    config = directory / "Config.json"
    config.write_text(json.dumps(_CONFIG), encoding="utf-8")
    data = str(directory / "data")
    command = [sys.executable, "-m", "local.eventhubs", "--port", "0", "--data", data]
    process = subprocess.Popen(
        [*command, "--config", str(config), "--key", KEY, *options],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        word, port = process.stdout.readline().split()
        assert word == "ready"
        served = Served(port=int(port))
        yield process, served
        for closing in served.closing:
            closing.join(WAIT_SECONDS)
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate(timeout=WAIT_SECONDS)


def _facts(events: list[EventData]) -> list[tuple[object, ...]]:
    return [
        (e.sequence_number, e.offset, e.enqueued_time, e.partition_key, e.body_as_str())
        for e in events
    ]


def test_a_killed_endpoint_has_every_acknowledged_event(tmp_path: Path) -> None:
    """After SIGKILL and a torn write, each event exists once, with its position, time and key."""
    with _command(tmp_path) as (process, served):
        with served.producer() as producer:
            producer.send_batch([EventData(str(n)) for n in range(50)], partition_key="subject")
            producer.send_event(EventData("last"), partition_key="subject")
            written = [
                partition_id
                for partition_id in ("0", "1")
                if not producer.get_partition_properties(partition_id)["is_empty"]
            ]
        before = receive(served, HUB, written[0], 51)
        served.closing.pop().join()  # the SDK leaks the socket of a client whose endpoint is gone
        process.kill()
        process.wait(WAIT_SECONDS)
    with (tmp_path / "data" / HUB / f"{written[0]}.log").open("ab") as log:
        log.write(b"\x00\x00\x10\x00half a record")

    with _command(tmp_path) as (_, served):
        with served.producer() as producer:
            producer.send_event(EventData("after"), partition_key="subject")
        after = receive(served, HUB, written[0], 52)

    assert len(before) == 51
    assert _facts(after[:51]) == _facts(before)
    assert (after[51].sequence_number, after[51].body_as_str()) == (51, "after")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_command_cleanly(tmp_path: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGINT close the endpoint and exit with 0."""
    with _command(tmp_path) as (process, _):
        process.send_signal(number)

        assert process.wait(WAIT_SECONDS) == 0


def test_health_is_answered_as_by_the_emulator(tmp_path: Path, unused_port: int) -> None:
    """GET /health on its own port says healthy; any other path is not found."""
    with _command(tmp_path, "--health-port", str(unused_port)):
        answers = [_get(unused_port, path) for path in ("/health", "/other")]

    assert answers == [(200, {"status": "healthy"}), (404, {"status": "not found"})]


def test_a_busy_endpoint_refuses_a_number_of_sends_and_then_accepts_them(
    tmp_path: Path, unused_port: int
) -> None:
    """POST /busy/4 on the health port: four transfers are refused and not stored; the SDK tries twice."""
    with _command(tmp_path, "--health-port", str(unused_port)) as (_, served):
        answer = _get(unused_port, "/busy/4", method="POST")
        outcomes = []
        with served.producer() as producer:
            for body in ("first", "second", "third"):
                try:
                    producer.send_batch([EventData(body)], partition_id="0")
                    outcomes.append("taken")
                except EventDataSendError:
                    outcomes.append("refused")
        stored = receive(served, HUB, "0", 1)

    assert answer == (200, {"status": "busy"})
    assert outcomes == ["refused", "refused", "taken"]
    assert [event.body_as_str() for event in stored] == ["third"]


def _get(port: int, path: str, method: str = "GET") -> tuple[int, object]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_SECONDS)
    connection.request(method, path)
    response = connection.getresponse()
    answer = response.status, json.loads(response.read())
    connection.close()
    return answer


@pytest.fixture
def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_a_config_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    """The command exits with 1 and one line that says what to fix."""
    config = tmp_path / "Config.json"
    config.write_text("{}", encoding="utf-8")
    arguments = ["--port", "0", "--data", str(tmp_path), "--config", str(config), "--key", KEY]

    result = subprocess.run(
        [sys.executable, "-m", "local.eventhubs", *arguments],
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )

    assert result.returncode == 1
    assert result.stderr.startswith("eventhubs: not an emulator Config.json")
