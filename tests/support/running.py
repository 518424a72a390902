"""Starts a local stack as a user does and inspects it from outside: files, ports, tables, pids."""

import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
from azure.data.tables import TableServiceClient

from local.__main__ import main

REPOSITORY = Path(__file__).resolve().parents[2]
WAIT_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class RunningStack:
    """A stack that takes calls."""

    state: Path
    process: "subprocess.Popen[str]"

    @property
    def description(self) -> Any:
        """The current stack.json."""
        return json.loads((self.state / "stack.json").read_text())

    @property
    def url(self) -> str:
        """The gateway's address."""
        return str(self.description["gateway_url"])

    def token(self, subject: str, *options: str) -> str:
        """A signed token, as `local token` mints it; in this process, which takes no time."""
        printed = io.StringIO()
        with redirect_stdout(printed):
            main(["token", "--state", str(self.state), "--subject", subject, *options])
        return printed.getvalue().strip()

    def post(
        self, path: str, token: str | None, body: object = None, **kwargs: Any
    ) -> requests.Response:
        """POST to the gateway, with the token as bearer."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        headers |= kwargs.pop("headers", {})
        return requests.post(self.url + path, json=body, headers=headers, timeout=60, **kwargs)

    def calls_of(self, subject: str) -> list[Any]:
        """The backends' record of a subject's calls."""
        calls: list[Any] = []
        for backend in self.description["backends"]:
            record = requests.get(f"{backend['url']}/_calls", timeout=10).json()
            calls += [call for call in record if call["caller_subject"] == subject]
        return calls

    def fault(self, fault: Mapping[str, object], *, backend: int | None = None) -> None:
        """Queue a fault at one backend, or at all of them."""
        for index, each in enumerate(self.description["backends"]):
            if backend in {None, index}:
                response = requests.post(f"{each['url']}/_faults", json=fault, timeout=10)
                response.raise_for_status()

    def clear_faults(self) -> None:
        """Remove all faults from all backends."""
        for each in self.description["backends"]:
            requests.delete(f"{each['url']}/_faults", timeout=10).raise_for_status()

    def rows(self, table: str, query: str = "PartitionKey ne ''") -> list[Any]:
        """The rows of a table; none when it does not exist yet."""
        connection = self.description["storage_connection_string"]
        with TableServiceClient.from_connection_string(connection) as service:
            if table not in {each.name for each in service.list_tables()}:
                return []
            return list(service.get_table_client(table).query_entities(query))

    def usage(self, subject: str, table: str = "UsageByMonth") -> list[Any]:
        """A subject's rows of a view."""
        return [row for row in self.rows(table) if row["Subject"] == subject]

    def calls_counted(self, subject: str) -> int:
        """The number of the subject's calls in its month view."""
        return sum(int(row["Calls"].value) for row in self.usage(subject))

    def wait_until_counted(self, subject: str, calls: int) -> list[Any]:
        """Wait for the view to show this many calls; return its rows."""
        eventually(lambda: self.calls_counted(subject) >= calls, f"{calls} calls of {subject}")
        return self.usage(subject)

    def kill(self, child: str, number: signal.Signals = signal.SIGKILL) -> int:
        """Send a signal to one of the stack's processes; return its pid."""
        pid = int(self.description["pids"][child])
        os.kill(pid, number)
        return pid

    def wait_for_restart(self, child: str, old_pid: int) -> None:
        """Wait until stack.json names another pid for the child."""
        eventually(lambda: self.description["pids"][child] != old_pid, f"{child} restarts")


@contextmanager
def run_stack(
    state: Path,
    *options: str,
    settings: Mapping[str, str] | None = None,
    says: str = "ready",
) -> Iterator[RunningStack]:
    """A stack on free ports, ended with SIGTERM; `says` is what it prints once it runs."""
    state.mkdir(parents=True, exist_ok=True)
    log = (state / "up.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "up", "--port", "0", "--state", str(state), *options],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        env={**os.environ, **(settings or {})},
    )
    try:
        assert process.stdout is not None
        lines = iter(process.stdout.readline, "")
        found = next((line.strip() for line in lines if line.strip() in {"ready", "unready"}), "")
        assert found == says, (state / "up.log").read_text()
        yield RunningStack(state, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=70)
        log.close()


def run_local(*arguments: str) -> str:
    """The output of `python -m local ...`."""
    done = subprocess.run(
        [sys.executable, "-m", "local", *arguments],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return done.stdout.strip()


def eventually(condition: Callable[[], bool], what: str, *, seconds: float = WAIT_SECONDS) -> None:
    """Wait for a condition in other processes; on timeout fail with its description."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s: {what}"
        time.sleep(0.1)


def new_subject(name: str) -> str:
    """A subject that no other test uses."""
    return f"{name}-{uuid.uuid4().hex[:8]}"
