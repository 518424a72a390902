"""The local host keeps and drops log lines as the real one, and what the app logs survives it."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.support.running import REPOSITORY, eventually

APP = """
import asyncio
import logging
import sys
import threading

import azure.functions as func
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from meter.adapters.functions import web  # makes HTTP functions Starlette's

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


@pytest.fixture
def logs(tmp_path: Path) -> Iterator[Logs]:
    (tmp_path / "function_app.py").write_text(APP)
    (tmp_path / "host.json").write_text('{"extensions": {"http": {"routePrefix": ""}}}')
    kept, dropped = tmp_path / "kept.log", tmp_path / "dropped.log"
    command = ["-m", "local.functions", "--app", str(tmp_path), "--port", "0"]
    with kept.open("w") as file:
        process = subprocess.Popen(
            [sys.executable, *command, "--dropped-log", str(dropped)],
            cwd=REPOSITORY,
            stdout=subprocess.PIPE,
            stderr=file,
            text=True,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
        )
        assert process.stdout is not None
        port = process.stdout.readline().split()[1]
        yield Logs(f"http://127.0.0.1:{port}", kept, dropped)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)


def _places(log: Path, word: str) -> list[str]:
    lines = [line for line in log.read_text().splitlines() if f"{word} " in line]
    return sorted(line.rpartition(" ")[2] for line in lines)


def test_a_line_of_a_stream_is_dropped_and_one_on_standard_error_is_not(logs: Logs) -> None:
    """An invocation ends with its handler; threads belong to none; the console needs none."""
    answer = requests.get(f"{logs.url}/first", timeout=10)
    eventually(lambda: "stream" in _places(logs.dropped, "first"), "the stream's line")

    assert answer.text == "begun ended"
    assert _places(logs.kept, "first") == ["child", "console", "handler"]
    assert _places(logs.dropped, "first") == ["stream", "thread"]
