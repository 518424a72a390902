"""The local host keeps and drops log lines as the real one, and what the app logs survives it."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.support.running import REPOSITORY, RunningStack, eventually, new_subject

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
APP = """
import asyncio
import logging
import sys
import threading

import azure.functions as func
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from meter.adapters.functions import extension  # makes HTTP functions Starlette's

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
log = logging.getLogger("probe")


@app.function_name("probe")
@app.route(route="{word}", methods=["GET"])
async def probe(req: Request) -> Response:
    word = req.url.path.removeprefix("/")
    log.warning("%s handler", word)
    await asyncio.create_task(_child(word))
    await asyncio.to_thread(log.warning, "%s thread", word)
    return StreamingResponse(_stream(word))


async def _child(word):
    log.warning("%s child", word)


async def _stream(word):
    yield b"begun "
    await asyncio.sleep(0.2)
    log.warning("%s stream", word)
    sys.stderr.write(f"{word} console\\n")
    sys.stderr.flush()
    yield b"ended"
"""


@dataclass(frozen=True, slots=True)
class Logs:
    """A host's address and its two logs."""

    url: str
    kept: Path
    dropped: Path


@contextmanager
def _host(app: Path, folder: Path, settings: Mapping[str, str]) -> Iterator[Logs]:
    """The local host on an app, ended with SIGTERM."""
    kept, dropped = folder / "kept.log", folder / "dropped.log"
    dropped.touch()
    command = ["-m", "local.functions", "--app", str(app), "--port", "0"]
    with kept.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command, "--dropped-log", str(dropped)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **settings},
        )
        assert process.stdout is not None
        port = process.stdout.readline().split()[1]
        try:
            yield Logs(f"http://127.0.0.1:{port}", kept, dropped)
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=60)


def _places(log: Path, word: str) -> list[str]:
    lines = [line for line in log.read_text().splitlines() if f"{word} " in line]
    return sorted(line.rpartition(" ")[2] for line in lines)


def test_a_line_of_a_stream_is_dropped_and_one_on_standard_error_is_not(tmp_path: Path) -> None:
    """An invocation ends with its handler; threads belong to none; the console needs none."""
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "host.json").write_text('{"extensions": {"http": {"routePrefix": ""}}}')
    with _host(tmp_path, tmp_path, {}) as logs:
        answer = requests.get(f"{logs.url}/first", timeout=10)
        eventually(lambda: "stream" in _places(logs.dropped, "first"), "the stream's line")

    assert answer.text == "begun ended"
    assert _places(logs.kept, "first") == ["child", "console", "handler"]
    assert _places(logs.dropped, "first") == ["stream", "thread"]


def test_calls_that_nobody_could_store_are_in_the_log_and_can_be_published(
    stack: RunningStack, tmp_path: Path
) -> None:
    """Hub and tables are gone; a stream's line comes after its invocation. Later each is counted."""
    subject = new_subject("unpublished")
    headers = {"authorization": f"Bearer {stack.token(subject)}"}
    live = {
        "EventHubConnection": stack.description["event_hub_connection_string"],
        "MeterStorage": stack.description["storage_connection_string"],
    }
    with _host(REPOSITORY, tmp_path, _settings(stack) | _gone(live)) as logs:
        for body in (BODY, BODY | {"stream": True}) * 3:
            answer = requests.post(f"{logs.url}{CHAT}", json=body, headers=headers, timeout=30)
            assert answer.status_code == 200
    command = [sys.executable, "-m", "meter", "unpublished", str(logs.kept), "--publish"]
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**os.environ, **live}, capture_output=True, text=True
    )

    assert done.stderr == "6 events, 0 unreadable lines, published\n"
    assert done.returncode == 0
    assert " meter." not in logs.dropped.read_text()
    rows = stack.wait_until_counted(subject, 6)
    assert sum(row["Calls"].value for row in rows) == 6
    assert sum(row["TotalTokens"].value for row in rows) == sum(
        call["usage"]["total_tokens"] for call in stack.calls_of(subject)
    )


def test_the_sdks_write_no_line_per_request(stack: RunningStack) -> None:
    """A batch of one event makes several requests to Table Storage; the log is billed by size."""
    subject = new_subject("quiet")
    stack.post(CHAT, stack.token(subject), BODY).raise_for_status()
    stack.wait_until_counted(subject, 1)
    folder = stack.state / "logs"
    lines = [
        line
        for name in ("gateway.log", "gateway.dropped.log")
        if (folder / name).exists()
        for line in (folder / name).read_text().splitlines()
    ]

    assert [line for line in lines if " INFO " in line and " call_counted " not in line] == []


def test_each_call_is_logged_by_the_invocation_that_counts_it(stack: RunningStack) -> None:
    """Streamed or not, once, with its tokens, in what the host keeps."""
    subject = new_subject("logged")
    token, folder = stack.token(subject), stack.state / "logs"
    answers = [stack.post(CHAT, token, BODY | {"stream": stream}) for stream in (False, True)]
    ids = {answer.headers["x-meter-event-id"] for answer in answers}
    rows = stack.wait_until_counted(subject, 2)

    def lines(name: str) -> list[str]:
        text = (folder / name).read_text() if (folder / name).exists() else ""
        return [line for line in text.splitlines() if f" subject={subject} " in line]

    eventually(lambda: len(lines("gateway.log")) >= 2, "the calls' lines")
    found = [dict(re.findall(r"(\w+)=(\S+)", line)) for line in lines("gateway.log")]
    assert sorted(fields["event_id"] for fields in found) == sorted(ids)
    assert sum(int(fields["total_tokens"]) for fields in found) == sum(
        row["TotalTokens"].value for row in rows
    )
    assert lines("gateway.dropped.log") == []


def _settings(stack: RunningStack) -> dict[str, str]:
    return {
        "METER_ISSUERS": stack.description["issuer"],
        "METER_AUDIENCES": stack.description["audience"],
        "METER_BACKENDS": stack.description["backends_file"],
        "METER_PUBLISH_TIMEOUT_SECONDS": "0.05",
        "METER_LOG_LEVEL": "WARNING",
        "LOCAL_BACKEND_KEY": stack.description["backend_key"],
        "AzureWebJobsStorage": stack.description["storage_connection_string"],
    }


def _gone(settings: Mapping[str, str]) -> dict[str, str]:
    """The same connection strings, to a port where nothing listens."""
    return {name: re.sub(r":\d+", ":1", text) for name, text in settings.items()}
