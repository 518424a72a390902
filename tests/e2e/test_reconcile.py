"""A direct call to an account shows up in the reconciliation, to the token; other calls agree."""

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import requests

from local.monitor.server import StandInMonitor
from local.openai.server import StandIn
from meter.__main__ import main
from meter.window import Period, window_of
from tests.support.reconcile import EAST, WEST
from tests.support.running import RunningStack, new_subject, run_stack

BODY = {"messages": [{"role": "user", "content": "one two three four"}]}
DEPLOYMENTS = {"chat": "gpt-4o-2024-11-20", "embed": "text-embedding-3-small", "spare": "gpt-4o"}


@dataclass(frozen=True, slots=True)
class Later:
    """A clock three hours ahead, so that the hour of the calls is complete."""

    at: datetime = field(default_factory=lambda: datetime.now(UTC) + timedelta(hours=3))

    def now(self) -> datetime:
        """That moment."""
        return self.at

    def monotonic(self) -> float:
        """Stands still."""
        return 0.0


@dataclass(frozen=True, slots=True)
class Metered:
    """A stack on two accounts with a stand-in for their metrics."""

    stack: RunningStack
    monitor: StandInMonitor
    accounts: list[str]
    since: datetime

    def reconcile(
        self, capsys: pytest.CaptureFixture[str], *options: str
    ) -> tuple[int, dict[str, Any]]:
        """Exit code and findings, from the hour of the first call."""
        capsys.readouterr()
        hour = window_of(self.since, Period.HOUR).name
        code = main(["reconcile", "--from", hour, "--format", "json", *options], clock=Later())
        return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def metered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Metered]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def start(part: StandIn | StandInMonitor) -> str:
        port = asyncio.run_coroutine_threadsafe(part.start(), loop).result(10)
        return f"http://127.0.0.1:{port}"

    stand_ins = [StandIn(name, DEPLOYMENTS) for name in ("east", "west")]
    east, west = (start(stand_in) for stand_in in stand_ins)
    monitor = StandInMonitor({EAST: east, WEST: west})
    monitor_url = start(monitor)
    served = {
        "east": (east, EAST, {"gpt-4o": "chat"}),
        "west": (west, WEST, {"gpt-4o": "chat"}),
        "west-embeddings": (west, WEST.upper(), {"embeddings": "embed"}),
    }
    backends = [
        {"name": name, "url": url, "resource_id": account, "deployments": names}
        | {"auth": {"kind": "api-key", "setting": "ANY_KEY"}}
        for name, (url, account, names) in served.items()
    ]
    file = tmp_path / "backends.json"
    file.write_text(json.dumps({"backends": backends}))
    since = datetime.now(UTC)
    try:
        with run_stack(
            tmp_path / "state", "--backends", str(file), settings={"ANY_KEY": "k"}
        ) as running:
            monkeypatch.setenv("METER_BACKENDS", str(file))
            monkeypatch.setenv("MeterStorage", running.description["storage_connection_string"])
            monkeypatch.setenv("METER_MONITOR_URL", monitor_url)
            yield Metered(running, monitor, [east, west], since)
    finally:
        parts: list[StandIn | StandInMonitor] = [*stand_ins, monitor]
        for part in parts:
            asyncio.run_coroutine_threadsafe(part.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def azure_name(line: dict[str, Any]) -> str:
    """The account and the deployment of a line."""
    (own,) = line["azure"]
    return f"{own['resource_id'].rpartition('/')[2]}/{own['deployment']}"


def differences(line: dict[str, Any]) -> tuple[int, int, int, int]:
    """Prompt, completion and total tokens, and calls of a line."""
    names = ("prompt_tokens", "completion_tokens", "total_tokens", "calls")
    prompt, completion, total, calls = (int(line[name]["difference"]) for name in names)
    return prompt, completion, total, calls


def test_reconciliation_names_exactly_the_tokens_of_a_direct_call(
    metered: Metered, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both sides agree until an account is called directly; then the difference is those calls."""
    subject = new_subject("reconciled")
    token = metered.stack.token(subject)
    for body in ({}, {"stream": True}, {"max_tokens": 3}, {"n": 2}):
        answer = metered.stack.post(
            "/openai/v1/chat/completions", token, {**BODY, "model": "gpt-4o", **body}
        )
        assert answer.status_code == 200
    embedding = {"model": "embeddings", "input": ["one two", "three"]}
    assert metered.stack.post("/openai/v1/embeddings", token, embedding).status_code == 200
    metered.stack.wait_until_counted(subject, 5)
    first_code, first = metered.reconcile(capsys)
    directly = [
        requests.post(
            f"{account}/openai/v1/chat/completions", json={**BODY, "model": model}, timeout=10
        ).json()["usage"]
        for account, model in zip(metered.accounts, ("spare", "chat"), strict=True)
    ]
    second_code, second = metered.reconcile(capsys)
    tolerant_code, _ = metered.reconcile(capsys, "--tolerance", "90", "--ignore", "SPARE")

    assert (first_code, first["verdict"]) == (0, "AGREES within 0.5%: difference 0 tokens (0.00%)")
    assert [line["standing"] for line in first["deployments"]] == ["agrees"] * 3
    assert first["total"]["calls"] == {"counted": 5, "azure": 5, "difference": 0, "percent": 0.0}
    lines = {(azure_name(line), line["standing"]): line for line in second["deployments"]}
    west, spare = lines["west/chat", "differs"], lines["east/spare", "not ours"]
    east, embeddings = lines["east/chat", "agrees"], lines["west/embed", "agrees"]
    assert [(usage["prompt_tokens"], usage["completion_tokens"]) for usage in directly] == [
        (7, 12),
        (7, 12),
    ]
    assert second_code == 1
    assert (west["deployments"], east["deployments"]) == (["gpt-4o"], ["gpt-4o"])
    assert differences(west) == differences(spare) == (-7, -12, -19, -1)
    assert differences(east) == (0, 0, 0, 0)
    assert east["calls"]["counted"] + west["calls"]["counted"] == 4
    assert embeddings["deployments"] == ["embeddings"]
    assert embeddings["tiers"]["standard"]["difference"] == 0
    assert tolerant_code == 0
    # The sums of two accounts, with three backends, in three runs; and no sign-in on loopback.
    asked = [str(request["query"]) for request in metered.monitor.requests]
    assert sum("ProcessedPromptTokens" in query for query in asked) == 6
    assert {request["authorization"] for request in metered.monitor.requests} == {None}
