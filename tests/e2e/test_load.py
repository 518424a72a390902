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
CALLS_A_FAULT = 40
ROUNDS = 2
AT_ONCE = 10
WAIT_SECONDS = 2.5  # longer than any wait that a fault asks for, or that the front door makes of it
FIRST_BYTE_SECONDS = 10  # a healthy backend's answer begins by then on a busy machine
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
    settings = {"ANY_KEY": "k", "METER_FIRST_BYTE_TIMEOUT_SECONDS": str(FIRST_BYTE_SECONDS)}
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
    """Faults of every kind at any two of three backends: no call fails, all are counted.

    A fault ends once its calls have, and a wait that it asks for is over before the next one.
    """
    stack, urls = three_backends
    subject = new_subject("survivor")
    headers = {"authorization": f"Bearer {stack.token(subject)}"}
    dice = Random(20261123)
    failed: list[Any] = []
    numbers = itertools.count()
    turns = asyncio.Semaphore(AT_ONCE)

    async def call(session: aiohttp.ClientSession) -> None:
        number = next(numbers)
        body = {
            "stream": number % 2 == 0,
            "messages": [{"role": "user", "content": f"call {number}"}],
        }
        async with turns, session.post(stack.url + CHAT, json=body, headers=headers) as answer:
            text = await answer.text()
            if answer.status != 200:
                failed.append((number, answer.status, text))

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        for fault in FAULTS * ROUNDS:
            for url in dice.sample(urls, 2):
                await session.post(f"{url}/_faults", json={**fault, "count": None})
            await asyncio.gather(*(call(session) for _ in range(CALLS_A_FAULT)))
            for url in urls:
                await session.delete(f"{url}/_faults")
            if "headers" in fault:
                await asyncio.sleep(WAIT_SECONDS)

    assert failed == []
    calls = next(numbers)
    assert calls == len(FAULTS) * ROUNDS * CALLS_A_FAULT
    rows = stack.wait_until_counted(subject, calls)
    assert sum(row["Calls"].value for row in rows) == calls
    assert sum(row["FailedCalls"].value for row in rows) == 0
