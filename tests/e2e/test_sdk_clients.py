"""The plain OpenAI SDK, old and new, sync and async, through the whole pipeline."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.running import REPOSITORY, RunningStack, new_subject

OPENAI_1 = Path(sys.prefix) / "openai1"
CLIENT = REPOSITORY / "tests" / "e2e" / "sdk_client.py"
CALLS = 16


def _run_client(stack: RunningStack, token: str, mode: str, version: str) -> Any:
    environment = {**os.environ, "PYTHONPATH": str(OPENAI_1) if version == "1" else ""}
    done = subprocess.run(
        [sys.executable, str(CLIENT), stack.url, token, mode],
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("version", ["1", "3"])
def test_every_kind_of_call_is_counted_as_the_backends_recorded_it(
    stack: RunningStack, mode: str, version: str
) -> None:
    """With every SDK, the tokens in the view are those that the backends recorded."""
    subject = new_subject(f"sdk{version}-{mode}")
    seen = _run_client(stack, stack.token(subject), mode, version)
    rows = stack.wait_until_counted(subject, CALLS)

    recorded = stack.calls_of(subject)
    assert seen["version"].startswith(f"{version}.")
    assert len(recorded) == len(seen["calls"]) == CALLS
    assert {call["status"] for call in recorded} == {200}
    counted = sum(row["TotalTokens"].value for row in rows)
    assert counted == sum(call["usage"]["total_tokens"] for call in recorded)
    assert sum(row["Calls"].value for row in rows) == CALLS
    assert sum(row["MissingCalls"].value + row["EstimatedCalls"].value for row in rows) == 0


@pytest.mark.parametrize("version", ["1", "3"])
def test_a_caller_sees_the_usage_frame_only_when_it_asked(
    stack: RunningStack, version: str
) -> None:
    """The frame that the gateway requests itself is hidden; one that the caller requested is not."""
    token = stack.token(new_subject(f"frame{version}"))
    calls = _run_client(stack, token, "sync", version)["calls"]

    for style in ("classic", "v1"):
        seen = {call["kind"]: call for call in calls if call["style"] == style}
        assert seen["chat-stream"]["total_tokens"] is None
        assert seen["chat-stream-usage"]["total_tokens"] == seen["chat"]["total_tokens"]
        assert seen["chat-stream-usage"]["chunks"] == seen["chat-stream"]["chunks"] + 1
