"""Shutdown of the front door in each of its hosts: answered calls are counted."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
import requests
from azure.data.tables import TableServiceClient

from tests.support.running import REPOSITORY, RunningStack, eventually, new_subject, run_stack

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
MESSAGES = [{"role": "user", "content": "one two three"}]
BODY = {"model": "gpt-4o", "messages": MESSAGES}
STREAM = {**BODY, "stream": True, "max_tokens": 30}
STREAMS, CLIENTS = 10, 4
SLOW = {"chunk_delay_ms": 50, "count": None}  # a stream then takes about two seconds
LOAD_SECONDS = 0.8
END_SECONDS = 120.0
SEVERAL_SENDS = 40  # calls one after another: more than one send of 20 ms gathers


@pytest.fixture(autouse=True)
def _no_faults(stack: RunningStack) -> Iterator[None]:
    stack.clear_faults()
    yield
    stack.clear_faults()


@contextmanager
def plain_server(
    stack: RunningStack, log: Path, settings: Mapping[str, str], *, answers_seconds: int = 15
) -> Iterator[tuple["subprocess.Popen[bytes]", str]]:
    """`meter.bootstrap:asgi_app` under uvicorn beside the stack, on its hub, tables and backends."""
    description = stack.description
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        "METER_ISSUERS": description["issuer"],
        "METER_AUDIENCES": description["audience"],
        "METER_BACKENDS": description["backends_file"],
        "LOCAL_BACKEND_KEY": description["backend_key"],
        "EventHubConnection": description["event_hub_connection_string"],
        "MeterStorage": description["storage_connection_string"],
    }
    server = [sys.executable, "-m", "uvicorn", "meter.bootstrap:asgi_app", "--port", str(port)]
    grace = ("--timeout-graceful-shutdown", str(answers_seconds))
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*server, "--log-level", "warning", *grace],
            cwd=REPOSITORY,
            env={**os.environ, **environment, **settings},
            stderr=out,
        )
        url = f"http://127.0.0.1:{port}"
        try:
            eventually(lambda: _is_ready(url), "the server is ready")
            yield process, url
        finally:
            if process.poll() is None:
                process.kill()
            process.wait(timeout=END_SECONDS)


def _is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=5).status_code == 200
    except requests.RequestException:
        return False


class Callers:
    """Clients that call without pause, and streams that take a while."""

    def __init__(self, url: str, token: str) -> None:
        self._url = url + CHAT
        self._headers = {"authorization": f"Bearer {token}"}
        self.begun_streams = 0
        self.whole_streams = 0
        self.seen_to_the_end: set[str] = set()

    async def run(self, pid: int) -> None:
        """Run load, send SIGTERM in the middle of it, and go on until no call is answered."""
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
            streams = [asyncio.create_task(self._stream(session)) for _ in range(STREAMS)]
            clients = [asyncio.create_task(self._call_on(session)) for _ in range(CLIENTS)]
            await asyncio.sleep(LOAD_SECONDS)
            self.begun_streams = STREAMS - sum(stream.done() for stream in streams)
            os.kill(pid, signal.SIGTERM)
            await asyncio.gather(*streams, *clients)

    async def _stream(self, session: aiohttp.ClientSession) -> None:
        text = await self._post(session, STREAM)
        self.whole_streams += text is not None and text.endswith(b"data: [DONE]\n\n")

    async def _call_on(self, session: aiohttp.ClientSession) -> None:
        while await self._post(session, BODY) is not None:
            pass

    async def _post(
        self, session: aiohttp.ClientSession, body: Mapping[str, object]
    ) -> bytes | None:
        try:
            async with session.post(self._url, json=body, headers=self._headers) as answer:
                text = await answer.read()
                if answer.status != 200:
                    return None
        except aiohttp.ClientError:
            return None
        self.seen_to_the_end.add(answer.headers["x-meter-event-id"])
        return text


def counted_ids(stack: RunningStack, ids: set[str]) -> set[str]:
    """The event ids that have a marker row in a ledger."""
    connection = stack.description["storage_connection_string"]
    with TableServiceClient.from_connection_string(connection) as service:
        ledgers = [t.name for t in service.list_tables() if t.name.startswith("Ledger")]
        keys = "\n".join(
            row["RowKey"]
            for ledger in ledgers
            for row in service.get_table_client(ledger).list_entities(select=["RowKey"])
        )
    return {each for each in ids if each in keys}


def wait_until_all_are_counted(stack: RunningStack, ids: set[str]) -> None:
    """Assert each call by its id: a number could be right by chance."""
    assert ids
    eventually(lambda: counted_ids(stack, ids) == ids, f"{len(ids)} calls are counted")


def test_a_worker_that_gets_sigterm_finishes_its_streams_and_loses_no_call(
    stack: RunningStack,
) -> None:
    """With Microsoft's runtime in the local host under load, all calls seen to their end are counted."""
    stack.fault(SLOW)
    pid = int(stack.description["pids"]["gateway"])
    callers = Callers(stack.url, stack.token(new_subject("worker")))
    asyncio.run(callers.run(pid))
    stack.wait_for_restart("gateway", pid)

    assert callers.whole_streams == callers.begun_streams == STREAMS
    assert len(callers.seen_to_the_end) > STREAMS
    wait_until_all_are_counted(stack, callers.seen_to_the_end)


@pytest.mark.parametrize("durability", ["acknowledged", "background"])
def test_a_plain_server_that_gets_sigterm_loses_no_call(
    stack: RunningStack, tmp_path: Path, durability: str
) -> None:
    """With uvicorn under load, background durability loses nothing in an orderly shutdown either."""
    stack.fault(SLOW)
    settings = {"METER_DURABILITY": durability}
    with plain_server(stack, tmp_path / "log", settings) as (process, url):
        callers = Callers(url, stack.token(new_subject(durability)))
        asyncio.run(callers.run(process.pid))
        process.wait(timeout=END_SECONDS)

    assert callers.whole_streams == callers.begun_streams == STREAMS
    wait_until_all_are_counted(stack, callers.seen_to_the_end)
    assert "usage_event_unpublished" not in (tmp_path / "log").read_text()


def test_a_stream_whose_caller_has_left_is_read_to_its_usage_before_the_worker_ends(
    stack: RunningStack,
) -> None:
    """No caller waits for its answer any more, so only the worker itself can save its event."""
    stack.fault(SLOW)
    subject = new_subject("left")
    pid = int(stack.description["pids"]["gateway"])
    asyncio.run(_leave(stack.url + CHAT, stack.token(subject)))
    stack.kill("gateway", signal.SIGTERM)
    stack.wait_for_restart("gateway", pid)

    [row] = stack.wait_until_counted(subject, 1)
    [recorded] = stack.calls_of(subject)
    assert row["TotalTokens"].value == recorded["usage"]["total_tokens"]


async def _leave(url: str, token: str) -> None:
    headers = {"authorization": f"Bearer {token}"}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, json=STREAM, headers=headers) as answer,
    ):
        await answer.content.readany()


def test_a_stream_that_is_longer_than_the_time_to_end_is_cut_and_counted(
    stack: RunningStack, tmp_path: Path
) -> None:
    """The caller sees a broken answer; the part that it received is counted as an estimate."""
    stack.fault({**SLOW, "chunk_delay_ms": 1000})
    subject = new_subject("cut")
    settings = {"METER_SHUTDOWN_SECONDS": "5"}
    with plain_server(stack, tmp_path / "log", settings, answers_seconds=2) as (process, url):
        headers = {"authorization": f"Bearer {stack.token(subject)}"}
        answer = requests.post(
            url + CHAT, json=STREAM, headers=headers, stream=True, timeout=END_SECONDS
        )
        chunks = answer.iter_content(None)
        next(chunks)
        process.terminate()
        with pytest.raises(requests.exceptions.ChunkedEncodingError):
            list(chunks)
        process.wait(timeout=20)  # the stream would go on for longer

    [row] = stack.wait_until_counted(subject, 1)
    assert (row["EstimatedCalls"].value, row["FailedCalls"].value) == (1, 1)


UNHURRIED = {
    "METER_DURABILITY": "background",
    "METER_PUBLISH_TIMEOUT_SECONDS": "30",
    "METER_SHUTDOWN_SECONDS": "10",
}


def test_what_waits_for_a_frozen_hub_is_in_the_outbox_before_a_plain_server_ends(
    stack: RunningStack, tmp_path: Path
) -> None:
    """In the background, with a publish timeout far longer than the shutdown time, SIGTERM loses nothing."""
    token = stack.token(new_subject("frozen-hub"))
    with plain_server(stack, tmp_path / "log", UNHURRIED) as (process, url):
        stack.kill("eventhubs", signal.SIGSTOP)
        try:
            ids = {_call(url, token) for _ in range(20)}
            process.terminate()
            process.wait(timeout=25)  # publishing would go on for longer
            kept = {row["RowKey"] for row in stack.rows("Outbox")}
        finally:
            stack.kill("eventhubs", signal.SIGCONT)

    assert ids <= kept
    wait_until_all_are_counted(stack, ids)


def test_what_waits_for_a_frozen_hub_is_in_the_outbox_before_the_worker_ends(
    tmp_path: Path,
) -> None:
    """The same in Microsoft's runtime, where only the web extension is notified of the signal."""
    with run_stack(tmp_path, settings=UNHURRIED) as stack:
        token = stack.token(new_subject("frozen-worker"))
        before = _call(stack.url, token)
        wait_until_all_are_counted(stack, {before})
        stack.kill("eventhubs", signal.SIGSTOP)
        try:
            ids = {_call(stack.url, token) for _ in range(20)}
            pid = stack.kill("gateway", signal.SIGTERM)
            stack.wait_for_restart("gateway", pid)
            kept = {row["RowKey"] for row in stack.rows("Outbox")}
        finally:
            stack.kill("eventhubs", signal.SIGCONT)

    assert ids <= kept


def test_a_kill_in_the_background_loses_just_what_was_pending(
    stack: RunningStack, tmp_path: Path
) -> None:
    """After kill -9 events on the hub are counted; those still pending in the process are not."""
    settings = {"METER_DURABILITY": "background", "METER_PUBLISH_TIMEOUT_SECONDS": "30"}
    subject = new_subject("killed-background")
    token = stack.token(subject)
    with plain_server(stack, tmp_path / "log", settings) as (process, url):
        safe = {_call(url, token) for _ in range(10)}
        wait_until_all_are_counted(stack, safe)
        stack.kill("eventhubs", signal.SIGSTOP)
        try:
            pending = [_call(url, token) for _ in range(SEVERAL_SENDS)]
            process.kill()
            process.wait(timeout=END_SECONDS)
        finally:
            stack.kill("eventhubs", signal.SIGCONT)
        # It follows in the subject's partition: the hub has accepted all that was on the wire.
        last = _call(stack.url, token)
        wait_until_all_are_counted(stack, {last})

    survived = counted_ids(stack, set(pending))
    assert survived == set(pending[: len(survived)]), (
        "one send was on the wire, of the first events"
    )
    assert len(survived) <= len(pending) // 2
    assert counted_ids(stack, safe) == safe
    assert stack.wait_until_counted(subject, 11 + len(survived))
    assert stack.calls_counted(subject) == 11 + len(survived)


def _call(url: str, token: str) -> str:
    """One call, answered; its event id."""
    headers = {"authorization": f"Bearer {token}"}
    answer = requests.post(url + CHAT, json=BODY, headers=headers, timeout=30)
    assert answer.status_code == 200
    return answer.headers["x-meter-event-id"]
