"""Telemetry from the app to an OTLP receiver: what is sent, and what is not."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from local.child import free_ports
from tests.support.otlp import Receiver, attributes_of, receiving
from tests.support.running import REPOSITORY, RunningStack, eventually, new_subject

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
PROMPT = "a secret prompt of nine words that nobody sees"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": PROMPT}]}
TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def settings_of(stack: RunningStack, receiver: Receiver) -> dict[str, str]:
    return {
        "METER_ISSUERS": stack.description["issuer"],
        "METER_AUDIENCES": stack.description["audience"],
        "METER_BACKENDS": stack.description["backends_file"],
        "LOCAL_BACKEND_KEY": stack.description["backend_key"],
        "EventHubConnection": stack.description["event_hub_connection_string"],
        "MeterStorage": stack.description["storage_connection_string"],
        "METER_TELEMETRY": "otlp",
        "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-key=secret-of-the-receiver",
        "OTEL_METRIC_EXPORT_INTERVAL": "200",
        "OTEL_BSP_SCHEDULE_DELAY": "200",
        "OTEL_SERVICE_NAME": "meter-under-test",
    }


def test_a_traced_call_reaches_the_receiver_without_a_secret(
    stack: RunningStack, receiver: Receiver, tmp_path: Path
) -> None:
    """Metrics and spans by OTLP; the backend is in the caller's trace; no text, key, token, subject."""
    subject = new_subject("traced")
    token, (port,) = stack.token(subject), free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "meter.bootstrap:asgi_app", "--port", str(port)]
    with (tmp_path / "app.log").open("w") as log:
        app = subprocess.Popen(
            [*command, "--log-level", "warning"],
            cwd=REPOSITORY,
            env={**os.environ, **settings_of(stack, receiver)},
            stderr=log,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: _is_up(url), "the app's start")
            headers = {"authorization": f"Bearer {token}"}
            traced = {**headers, "traceparent": f"00-{TRACE}-{PARENT}-01"}
            answer = requests.post(url + CHAT, json=BODY, headers=traced, timeout=60)
            requests.post(url + CHAT, json=BODY, timeout=60)
            eventually(lambda: len(receiver.spans()) == 1, "the call's span")
            eventually(lambda: len(_rejected(receiver)) >= 1, "the rejected call's metric")
        finally:
            app.terminate()
            app.wait(timeout=60)

    assert answer.status_code == 200
    [span] = receiver.spans()
    found = attributes_of(span)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.name == "chat gpt-4o"
    assert found["gen_ai.usage.input_tokens"] == answer.json()["usage"]["prompt_tokens"]
    assert found["aoai_meter.event_id"] == answer.headers["x-meter-event-id"]
    metrics = receiver.metrics()
    assert {
        "gen_ai.client.token.usage",
        "gen_ai.client.operation.duration",
        "aoai_meter.calls",
        "aoai_meter.backend.attempt.duration",
        "aoai_meter.backend.circuit.open",
        "aoai_meter.publish.duration",
        "aoai_meter.slots.used",
        "aoai_meter.body_budget.used",
        "aoai_meter.drains.used",
    } <= metrics.keys()
    assert {resource["service.name"] for resource in receiver.resources()} == {"meter-under-test"}
    assert receiver.paths == {"/v1/metrics", "/v1/traces"}  # no logs
    sent = b"".join(body for _, body in receiver.bodies)
    secrets = [PROMPT, token, subject, stack.description["backend_key"], "secret-of-the-receiver"]
    secrets.append(answer.json()["choices"][0]["message"]["content"])
    assert [text for text in secrets if text.encode() in sent] == []


def test_a_receiver_that_fails_harms_no_call_and_is_told_once(
    stack: RunningStack, receiver: Receiver, tmp_path: Path
) -> None:
    """Exports go on in a thread of their own; the log says that they fail."""
    receiver.status = 400
    token, (port,) = stack.token(new_subject("untold")), free_ports(1)
    command = [sys.executable, "-m", "uvicorn", "meter.bootstrap:asgi_app", "--port", str(port)]
    log = tmp_path / "app.log"
    with log.open("w") as file:
        app = subprocess.Popen(
            [*command, "--log-level", "warning"],
            cwd=REPOSITORY,
            env={**os.environ, **settings_of(stack, receiver)},
            stderr=file,
        )
        try:
            url = f"http://127.0.0.1:{port}"
            eventually(lambda: _is_up(url), "the app's start")
            trace = {"traceparent": f"00-{TRACE}-{PARENT}-01"}
            headers = {"authorization": f"Bearer {token}", **trace}
            statuses = [
                requests.post(url + CHAT, json=BODY, headers=headers, timeout=60).status_code
                for _ in range(3)
            ]
            eventually(lambda: "signal=traces" in log.read_text(), "the line")
            eventually(lambda: "signal=metrics" in log.read_text(), "the line")
        finally:
            app.terminate()
            app.wait(timeout=60)

    assert statuses == [200, 200, 200]
    lines = [line for line in log.read_text().splitlines() if "telemetry_export_failed" in line]
    assert len(lines) == 2


def test_nothing_of_opentelemetry_is_imported_when_it_is_off() -> None:
    """Off, it costs neither time nor memory."""
    check = (
        "import sys, meter.bootstrap, function_app\n"
        "from meter.wiring.telemetry import Observation\n"
        "Observation(dict).monitoring()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", check], cwd=REPOSITORY, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


def test_a_missing_extra_is_named_in_one_line() -> None:
    """By `check-config`, and in the app's log; calls go on."""
    hidden = (
        "import sys\n"
        "class Hidden:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name.partition('.')[0] == 'opentelemetry': raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Hidden())\n"
        "from meter.__main__ import main\n"
        "sys.exit(main(['check-config']))"
    )
    backends = [{"name": "a", "url": "https://a.example", "deployments": {"gpt": "gpt"}}]
    settings = {
        "METER_ISSUERS": "https://login.example/t/v2.0",
        "METER_AUDIENCES": "api://meter",
        "METER_BACKENDS": json.dumps(backends),
        "EventHubConnection__fullyQualifiedNamespace": "n.servicebus.windows.net",
        "MeterStorage__tableServiceUri": "https://a.table.core.windows.net",
        "METER_TELEMETRY": "otlp",
    }
    done = subprocess.run(
        [sys.executable, "-c", hidden],
        cwd=REPOSITORY,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "error: METER_TELEMETRY is otlp, which needs packages that are not installed: "
        "pip install 'aoai-meter[otlp]'\n"
    )


def _is_up(url: str) -> bool:
    try:
        return requests.get(f"{url}/healthz", timeout=5).status_code == 200
    except requests.ConnectionError:
        return False


def _rejected(receiver: Receiver) -> list[object]:
    return [
        point
        for metric in receiver.metrics().get("aoai_meter.calls", [])
        for point in metric.sum.data_points
        if any(pair.value.string_value == "rejected" for pair in point.attributes)
    ]
