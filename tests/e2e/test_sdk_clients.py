"""The plain OpenAI SDKs, old and new, of Python (sync and async) and Node, through the whole pipeline."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import REPOSITORY, RunningStack, new_subject

OPENAI_1 = Path(sys.prefix) / "openai1"
HERE = REPOSITORY / "tests" / "e2e"
CALLS = 16
PYTHON = [("1", "sync"), ("1", "async"), ("3", "sync"), ("3", "async")]
NODE = [(major, "node") for major in "4567"]


@dataclass(frozen=True, slots=True)
class Run:
    """What the client of one version saw, and under which subject."""

    version: str
    subject: str
    seen: Any


@pytest.fixture(scope="module", params=[*PYTHON, *NODE], ids="-".join)
def run(request: pytest.FixtureRequest, stack: RunningStack) -> Run:
    """The calls of each client in turn."""
    version, mode = request.param
    subject = new_subject(f"sdk{version}-{mode}")
    return Run(version, subject, _run_client(stack, stack.token(subject), mode, version))


def _run_client(stack: RunningStack, token: str, mode: str, version: str) -> Any:
    if mode == "node":
        command = ["node", str(HERE / "node_client.mjs"), version, stack.url, token]
    else:
        command = [sys.executable, str(HERE / "sdk_client.py"), stack.url, token, mode]
    environment = {name: text for name, text in os.environ.items() if "OPENAI" not in name}
    environment["PYTHONPATH"] = str(OPENAI_1) if version == "1" else ""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kind_of_call_is_counted_as_the_backends_recorded_it(
    stack: RunningStack, run: Run
) -> None:
    """With every SDK, the tokens in the view are those that the backends recorded."""
    rows = stack.wait_until_counted(run.subject, CALLS)

    recorded = stack.calls_of(run.subject)
    assert run.seen["version"].startswith(f"{run.version}.")
    assert len(recorded) == len(run.seen["calls"]) == CALLS
    assert {call["status"] for call in recorded} == {200}
    counted = sum(row["TotalTokens"].value for row in rows)
    assert counted == sum(call["usage"]["total_tokens"] for call in recorded)
    assert sum(row["Calls"].value for row in rows) == CALLS
    assert sum(row["MissingCalls"].value + row["EstimatedCalls"].value for row in rows) == 0


@pytest.mark.parametrize("style", ["classic", "v1"])
def test_a_caller_sees_the_usage_frame_only_when_it_asked(run: Run, style: str) -> None:
    """The frame that the gateway requests itself is hidden; one that the caller requested is not."""
    seen = {call["kind"]: call for call in run.seen["calls"] if call["style"] == style}

    assert seen["chat-stream"]["total_tokens"] is None
    assert seen["chat-stream-usage"]["total_tokens"] == seen["chat"]["total_tokens"]
    assert seen["chat-stream-usage"]["chunks"] == seen["chat-stream"]["chunks"] + 1
