"""Applications that keep calling through all faults, and the verdict on what was counted."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import aiohttp

from tests.faults.books import Books
from tests.faults.stage import Stage

CHAT = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
CALL_SECONDS = 30.0
THINK_SECONDS = 0.05  # between two calls of a caller
RECOVERY_SECONDS = 0.2  # after a call that was not answered
DRAIN_SECONDS = 120.0
UNTIL_SECONDS = 120.0


@dataclass(slots=True, kw_only=True)
class Call:
    """One call as its caller knows it. It is seen when the caller got the complete answer."""

    subject: str
    started: float
    ended: float = 0.0
    event_id: str | None = None
    request_id: str | None = None
    is_seen: bool = False


@dataclass(slots=True)
class Callers:
    """Concurrent callers that alternate between whole answers and streams. `calls` are all their calls."""

    stage: Stage
    subjects: Sequence[str]
    calls: list[Call] = field(default_factory=list)
    _numbers: Any = field(default_factory=count)

    @asynccontextmanager
    async def calling(self, at_once: int) -> AsyncIterator[None]:
        """Call without pause until the block ends, then wait for calls in progress."""
        is_over = asyncio.Event()
        tokens = {subject: self.stage.token(subject) for subject in self.subjects}
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
            asyncio.TaskGroup() as tasks,
        ):
            for _ in range(at_once):
                tasks.create_task(self._go_on(http, tokens, is_over))
            try:
                yield
            finally:
                is_over.set()

    async def until_seen(self, more: int) -> None:
        """Wait until this many more calls were answered."""
        target = sum(call.is_seen for call in self.calls) + more
        await until(lambda: sum(call.is_seen for call in self.calls) >= target)

    async def _go_on(
        self, http: aiohttp.ClientSession, tokens: Mapping[str, str], is_over: asyncio.Event
    ) -> None:
        while not is_over.is_set():
            number = next(self._numbers)
            subject = self.subjects[number % len(self.subjects)]
            call = Call(subject=subject, started=asyncio.get_running_loop().time())
            self.calls.append(call)
            try:
                async with asyncio.timeout(CALL_SECONDS):
                    await self._call(http, call, number, tokens[subject])
            except (aiohttp.ClientError, OSError, TimeoutError):
                await asyncio.sleep(RECOVERY_SECONDS)
            call.ended = asyncio.get_running_loop().time()
            await asyncio.sleep(THINK_SECONDS)

    async def _call(self, http: aiohttp.ClientSession, call: Call, number: int, token: str) -> None:
        is_stream = number % 2 == 0
        body = {
            "stream": is_stream,
            "max_tokens": 1 + number % 17,
            "messages": [{"role": "user", "content": "word " * (number % 23)}],
        }
        headers = {"authorization": f"Bearer {token}"}
        url = self.stage.stack.url + CHAT
        async with http.post(url, json=body, headers=headers) as answer:
            joined = answer.headers.get("x-meter-joined")  # a repeat makes no event of its own
            call.event_id = joined or answer.headers.get("x-meter-event-id")
            call.request_id = answer.headers.get("x-request-id")
            text = await answer.read()
        is_whole = text.endswith(b"data: [DONE]\n\n") if is_stream else True
        call.is_seen = answer.status == 200 and is_whole


async def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition in other processes. Raises TimeoutError."""
    async with asyncio.timeout(UNTIL_SECONDS):
        while not condition():  # noqa: ASYNC110  # other processes cannot signal an event
            await asyncio.sleep(0.01)


@dataclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """The outcome of some calls. The lists are empty when all is well."""

    made: int
    seen: int
    counted: int
    recorded: int
    lost: list[str]
    differing: list[str]
    missing: list[str]
    doubled: list[str]

    @property
    def problems(self) -> list[str]:
        """Seen calls without a marker or with tokens other than billed, and wrong sums."""
        return [*self.lost, *self.differing, *self.missing, *self.doubled]


def judge(calls: Sequence[Call], books: Books, recorded: Mapping[str, Any]) -> Judgement:
    """Compare the callers' and the backends' records with what is stored."""
    subjects = {call.subject for call in calls}
    accounts = {subject: books.of(subject) for subject in subjects}
    billed = [each for each in recorded.values() if each["caller_subject"] in subjects]
    lost, differing = [], []
    for call in calls:
        tokens = accounts[call.subject].calls.get(str(call.event_id))
        bill = recorded.get(str(call.request_id))
        if call.is_seen and tokens is None:
            lost.append(f"{call.subject} {call.event_id}")
        elif call.is_seen and (bill is None or bill["usage"]["total_tokens"] != tokens):
            differing.append(f"{call.subject} {call.event_id}: {tokens} tokens, billed {bill}")
    missing: list[str] = []
    doubled: list[str] = []
    for subject, account in accounts.items():
        for wrong in account.disagreements():
            (doubled if wrong.is_too_much else missing).append(f"{subject}: {wrong}")
        bills = sum(each["caller_subject"] == subject for each in billed)
        if len(account.calls) > bills:
            doubled.append(f"{subject}: {len(account.calls)} calls counted, {bills} billed")
    return Judgement(
        made=len(calls),
        seen=sum(call.is_seen for call in calls),
        counted=sum(len(account.calls) for account in accounts.values()),
        recorded=len(billed),
        lost=lost,
        differing=differing,
        missing=missing,
        doubled=doubled,
    )


async def judge_in_the_end(stage: Stage, calls: Sequence[Call]) -> Judgement:
    """The verdict once everything has drained, or after a time limit."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + DRAIN_SECONDS
    while True:
        judgement = judge(calls, await stage.books(), await stage.recorded())
        if not judgement.problems or loop.time() > give_up:
            return judgement
        await asyncio.sleep(0.3)
