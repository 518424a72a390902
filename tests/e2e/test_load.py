"""Many calls at once, and faults of every kind: no call fails, no count is mixed or lost."""

import asyncio
import itertools
import json
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import aiohttp
import pytest

from local.openai.server import StandIn
from tests.support.running import RunningStack, new_subject, run_stack

STREAMS = 500
CALLS = 1_000
CALLS_A_SECOND = 80
PHASE_SECONDS = 0.6
PAUSE_SECONDS = 1.2  # longer than the first-byte time-out, so that no call meets two phases
CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
FAULTS: list[dict[str, object]] = [
    {"status": 429, "headers": {"retry-after-ms": "300"}},
    {"status": 500},
    {"status": 503, "headers": {"retry-after": "1"}},
    {"status": 408},
    {"status": 401},
    {"reset": True},
    {"hang": True},
    {"cut_after_bytes": 60},
]


async def test_interleaved_streams_never_mix_their_counts(stack: RunningStack) -> None:
    """500 concurrent streams of 25 subjects: every subject has exactly its own tokens."""
    subjects = [new_subject(f"mixed{number:02d}") for number in range(25)]
    tokens = {subject: stack.token(subject) for subject in subjects}
    stack.fault({"chunk_delay_ms": 5, "count": None})
    statuses: Counter[int] = Counter()

    async def stream(session: aiohttp.ClientSession, number: int) -> None:
        body = {
            "stream": True,
            "max_tokens": 1 + number % 17,
            "messages": [{"role": "user", "content": "word " * (number % 23)}],
        }
        headers = {"authorization": f"Bearer {tokens[subjects[number % 25]]}"}
        async with session.post(stack.url + CHAT, json=body, headers=headers) as answer:
            text = await answer.read()
            statuses[answer.status] += text.endswith(b"data: [DONE]\n\n")

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        await asyncio.gather(*(stream(session, number) for number in range(STREAMS)))
    stack.clear_faults()

    assert statuses == {200: STREAMS}
    for subject in subjects:
        rows = stack.wait_until_counted(subject, STREAMS // 25)
        recorded = stack.calls_of(subject)
        assert sum(row["Calls"].value for row in rows) == len(recorded) == STREAMS // 25
        for column, name in (
            ("PromptTokens", "prompt_tokens"),
            ("CompletionTokens", "completion_tokens"),
            ("TotalTokens", "total_tokens"),
        ):
            counted = sum(row[column].value for row in rows)
            assert counted == sum(call["usage"][name] for call in recorded)


@pytest.fixture
def three_backends(tmp_path: Path) -> Iterator[tuple[RunningStack, list[str]]]:
    """A stack on three stand-ins that run in a thread of this process."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    stand_ins = [StandIn(name) for name in ("one", "two", "three")]
    ports = [
        asyncio.run_coroutine_threadsafe(stand_in.start(), loop).result(10)
        for stand_in in stand_ins
    ]
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    backends = [
        {
            "name": f"b{number}",
            "url": url,
            "auth": {"kind": "api-key", "setting": "ANY_KEY"},
            "deployments": {"gpt-4o": "gpt-4o"},
        }
        for number, url in enumerate(urls)
    ]
    (tmp_path / "backends.json").write_text(json.dumps({"backends": backends}))
    settings = {"ANY_KEY": "k", "METER_FIRST_BYTE_TIMEOUT_SECONDS": "1"}
    options = ("--backends", str(tmp_path / "backends.json"))
    try:
        with run_stack(tmp_path / "state", *options, settings=settings) as running:
            yield running, urls
    finally:
        for stand_in in stand_ins:
            asyncio.run_coroutine_threadsafe(stand_in.stop(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def test_no_call_fails_while_one_backend_lives(
    three_backends: tuple[RunningStack, list[str]],
) -> None:
    """1,000 calls with faults of every kind at any two of three backends: none fails, all are counted."""
    stack, urls = three_backends
    subject = new_subject("survivor")
    token = stack.token(subject)
    dice = Random(20261123)
    failed: list[Any] = []
    is_done = asyncio.Event()

    async def trouble(session: aiohttp.ClientSession) -> None:
        for fault in itertools.cycle(FAULTS):
            for url in dice.sample(urls, 2):
                async with session.post(f"{url}/_faults", json={**fault, "count": None}):
                    pass
            if await _within(PHASE_SECONDS, is_done):
                return
            for url in urls:
                async with session.delete(f"{url}/_faults"):
                    pass
            if await _within(PAUSE_SECONDS, is_done):
                return

    async def call(session: aiohttp.ClientSession, number: int) -> None:
        body = {
            "stream": number % 2 == 0,
            "messages": [{"role": "user", "content": f"call {number}"}],
        }
        await asyncio.sleep(number / CALLS_A_SECOND)
        async with session.post(
            stack.url + CHAT, json=body, headers={"authorization": f"Bearer {token}"}
        ) as answer:
            if answer.status != 200:
                failed.append((number, answer.status, await answer.text()))
            await answer.read()

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        making_trouble = asyncio.create_task(trouble(session))
        await asyncio.gather(*(call(session, number) for number in range(CALLS)))
        is_done.set()
        await making_trouble

    assert failed == []
    rows = stack.wait_until_counted(subject, CALLS)
    assert sum(row["Calls"].value for row in rows) == CALLS
    assert sum(row["FailedCalls"].value for row in rows) == 0


async def _within(seconds: float, event: asyncio.Event) -> bool:
    try:
        async with asyncio.timeout(seconds):
            return await event.wait()
    except TimeoutError:
        return False
