"""Exports on Azurite: by the timer of the function app, and by the command, in containers and folders."""

import asyncio
import io
import json
import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
import requests
from azure.core.exceptions import ResourceNotFoundError
from azure.storage.blob import ContainerClient

from meter.__main__ import main
from meter.wiring.commands import open_store
from tests.fakes.gateway import FakeClock
from tests.support.exports import NIGHT
from tests.support.ledger import views_on
from tests.support.prices import book_text, line
from tests.support.reports import row
from tests.support.running import RunningStack, eventually, new_subject

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
BODY = {"model": "gpt-4o", "messages": [{"role": "user", "content": "one two three"}]}
MANIFEST = "v1/manifest.json"


@pytest.fixture(scope="module")
def filled(azurite: str) -> str:
    """Usage of two days of November."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("MeterStorage", azurite)
        asyncio.run(_fill())
    return azurite


@pytest.fixture
def storage(filled: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MeterStorage", filled)
    return filled


async def _fill() -> None:
    async with open_store() as store:
        await views_on(store).write(
            [
                row("2026-11-22", "alice", calls=1_000),
                row("2026-11-23", "alice", calls=1_000),
                row("2026-11-23", "bob", calls=4_000),
                row("2024-02-29", "alice"),
                row("2024-02", "alice"),
                row("2026-11", "alice", calls=2_000),
                row("2026-11", "bob", calls=4_000),
            ]
        )


def run(*words: str, at: datetime = NIGHT) -> int:
    return main(["export", *words], clock=FakeClock(moment=at))


def manifest_of(data: bytes) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(data)
    return document


def blob(storage: str, container: str, path: str) -> bytes:
    with ContainerClient.from_connection_string(storage, container) as client:
        return client.download_blob(path).readall()


def test_the_timer_exports_to_the_container(stack: RunningStack) -> None:
    """A call is in the file of its month, which the manifest lists; the container was made for it."""
    subject = new_subject("exported")
    token = stack.token(subject)
    stack.post(CHAT, token, BODY)
    stack.wait_until_counted(subject, 1)
    description = stack.description
    storage = description["storage_connection_string"]
    answer = requests.post(
        f"{stack.url}/admin/functions/export",
        headers={"x-functions-key": description["admin_key"]},
        json={},
        timeout=60,
    )
    month = f"{datetime.now(UTC):%Y-%m}"
    path = f"v1/usage-by-month/period={month}/usage.parquet"

    def is_exported() -> bool:
        try:
            names = [
                file["path"] for file in manifest_of(blob(storage, "exports", MANIFEST))["files"]
            ]
        except ResourceNotFoundError:
            return False
        return path in names

    assert answer.status_code == 202
    eventually(is_exported, "the export is written")
    table = pyarrow.parquet.read_table(
        io.BytesIO(blob(storage, "exports", path)), use_threads=False
    )
    assert subject in table["subject"].to_pylist()


def test_the_command_writes_a_folder_and_says_what(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With money where there are prices; a repeat changes nothing."""
    book = tmp_path / "book.csv"
    book.write_text(book_text(line(price="2.50")))
    words = ("--to", str(tmp_path / "out"), "--prices", str(book), "--format", "csv.gz")
    first = run(*words)
    said = capsys.readouterr().out
    files = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.gz")}
    second = run(*words)

    assert (first, second) == (0, 0)
    assert "v1/usage/date=2026-11-23/usage.csv.gz  2 rows" in said
    assert "days to 2026-11-23" in said
    assert "0 files written (0 bytes), 26 as they were" in capsys.readouterr().out
    assert {path: path.read_bytes() for path in files} == files
    manifest = manifest_of((tmp_path / "out" / MANIFEST).read_bytes())
    assert manifest["currency"] == "USD"
    assert [each["file"] for each in manifest["sources"]] == ["book.csv"]
    assert manifest["files"][-1]["totals"]["cost"] == "12.5"


def test_the_command_writes_a_container_of_the_tables_account(
    storage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """By its name alone, or its address; the same files either way."""
    by_name = run("--container", "finance")
    address = storage.partition("BlobEndpoint=")[2].rstrip(";")
    by_address = run("--container", f"{address}/finance")

    assert (by_name, by_address) == (0, 0)
    assert "25 as they were" in capsys.readouterr().out
    assert manifest_of(blob(storage, "finance", MANIFEST))["complete_to"] == "2026-11-23"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "one of --to and --container is required"),
        (("--container", "No"), "must be a container's name"),
        (("--container", "https://c.blob.core.windows.net/a?sig=secret"), "without a signature"),
        (("--to", "a", "--container", "exports"), "not allowed with"),
        (("--to", "a", "--date", "2026-02-30"), "a time is"),
        (("--to", "a", "--date", "2026-11"), "takes YYYY-MM-DD"),
        (("--to", "a", "--month", "2026-11-23"), "takes YYYY-MM"),
        (("--to", "a", "--currency", "EUR"), "takes effect with --prices only"),
    ],
)
def test_what_cannot_be_asked_for_is_refused(
    words: tuple[str, ...],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """With 2, before anything is read; a signature is not repeated."""
    monkeypatch.setenv("MeterStorage", "UseDevelopmentStorage=true")
    with pytest.raises(SystemExit) as refused:
        run(*words)
    said = capsys.readouterr().err

    assert refused.value.code == 2
    assert message in " ".join(said.split())
    assert "secret" not in said


def test_a_day_that_is_not_over_is_refused(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 1, and nothing is written."""
    assert run("--to", str(tmp_path / "out"), "--date", "2026-11-24") == 1
    assert "2026-11-24 is not over yet" in capsys.readouterr().err
    assert not (tmp_path / "out" / MANIFEST).exists()


def test_an_unwritable_folder_is_named(
    storage: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With 1, and the system's reason."""
    (tmp_path / "file").write_text("no folder")
    assert run("--to", str(tmp_path / "file")) == 1
    assert f"error: {tmp_path / 'file'}" in capsys.readouterr().err


def test_a_killed_export_is_made_good_by_the_next(storage: str, tmp_path: Path) -> None:
    """Killed while it writes: what the manifest lists is there, and a second run completes it."""
    out = tmp_path / "out"
    words = [sys.executable, "-m", "meter", "export", "--to", str(out), "--month", "2024-02"]
    process = subprocess.Popen(words, env=os.environ.copy(), stdout=subprocess.DEVNULL)
    try:
        give_up = time.monotonic() + 60
        while not list(out.rglob("usage.*")) and process.poll() is None:
            assert time.monotonic() < give_up
            time.sleep(0.002)  # another process works; there is nothing else to wait for
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(30)
    manifest = out / MANIFEST
    listed = manifest_of(manifest.read_bytes())["files"] if manifest.exists() else []

    assert all((out / each["path"]).exists() for each in listed)
    assert run("--to", str(out), "--month", "2024-02") == 0
    assert len(manifest_of(manifest.read_bytes())["files"]) == 2 + 29
    assert not list(out.rglob("*.part"))
