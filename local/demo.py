"""The demo: real OpenAI SDK calls through the whole pipeline, checked against the backends' record.

Three subjects call chat, embeddings and Responses, streamed and not, while one backend throttles
and one caller disconnects in the middle of its answer. The report must then equal the backends' own
record, subject by subject and token by token.
"""

import asyncio
import shutil
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
from azure.data.tables.aio import TableServiceClient
from openai import AsyncAzureOpenAI, AsyncOpenAI

from local.child import ChildFailed
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import AUDIENCE, Plan, make_plan
from local.stack import Stack
from meter.adapters.clock import SystemClock
from meter.adapters.tables import TablesRowStore
from meter.reports.columns import UsageRow, usage_columns
from meter.reports.query import Grouping, Query, make_query
from meter.reports.usage import Report, read_usage
from meter.reports.write.report import Format, write_report
from meter.window import Period

SUBJECTS = ("alice@contoso.example", "bob@contoso.example", "nightly-summaries")
ROUNDS = 5
COUNT_SECONDS = 30.0
API_VERSION = "2024-10-21"

type Totals = Mapping[tuple[str, str], tuple[int, int, int, int]]


async def run_demo(state: Path, port: int) -> int:
    """Run the demo; return 0 when every total matches."""
    shutil.rmtree(state, ignore_errors=True)
    plan = make_plan(state, port=port, backends_file=None)
    stack = Stack(plan)
    print("starting Azurite, Event Hubs endpoint, token issuer, two backends, function app ...")
    try:
        await stack.start()
        return await _demonstrate(plan)
    except ChildFailed as exc:
        print(exc)
        return 1
    finally:
        await stack.stop()


async def _demonstrate(plan: Plan) -> int:
    begun = time.monotonic()
    calls = await _call_everything(plan)
    print(f"{calls} calls answered in {time.monotonic() - begun:.1f} s; waiting for the tables ...")
    query = make_query(
        period=Period.DAY,
        first=None,
        last=None,
        groups=(Grouping.SUBJECT, Grouping.DEPLOYMENT),
        now=SystemClock().now(),
    )
    rows = await _wait_for_rows(plan, query, calls)
    report = Report(query=query, columns=usage_columns(query), rows=_each(rows))
    print()
    await write_report(report, Format.TABLE, sys.stdout)
    print()
    counted, recorded = _counted(rows), await _recorded(plan)
    if counted != recorded:
        for key in sorted(counted.keys() | recorded.keys()):
            if counted.get(key) != recorded.get(key):
                print(f"differs: {key}: report {counted.get(key)}, backends {recorded.get(key)}")
        print(f"demo: {calls} calls, totals DIFFER")
        return 1
    tokens = _total(rows).sums.tokens.total_tokens
    print(f"demo: {calls} calls, {tokens} tokens, totals match")
    return 0


async def _call_everything(plan: Plan) -> int:
    async with aiohttp.ClientSession() as session:
        first, second = (f"http://127.0.0.1:{plan.ports[name]}" for name in _BACKENDS)
        await _fault(session, first, {"status": 429, "headers": {"retry-after": "2"}, "count": 3})
        async with asyncio.TaskGroup() as tasks:
            for subject in SUBJECTS:
                tasks.create_task(_use(plan, subject))
        # Slow both streams down, so that a caller can disconnect in the middle of one.
        for backend in (first, second):
            await _fault(session, backend, {"chunk_delay_ms": 20, "count": None})
        await _leave_early(plan, SUBJECTS[0])
        for backend in (first, second):
            async with session.delete(f"{backend}/_faults") as response:
                response.raise_for_status()
    return len(SUBJECTS) * ROUNDS * len(_KINDS) + 1


_BACKENDS = ("backend-a", "backend-b")


async def _fault(session: aiohttp.ClientSession, backend: str, fault: object) -> None:
    async with session.post(f"{backend}/_faults", json=fault) as response:
        response.raise_for_status()


@dataclass(frozen=True, slots=True)
class _Clients:
    """One subject's clients, as an application has them: nothing of this project in them."""

    azure: AsyncAzureOpenAI
    v1: AsyncOpenAI


@asynccontextmanager
async def _clients(plan: Plan, subject: str) -> AsyncIterator[_Clients]:
    token = mint(KeyRing(plan.state), issuer=plan.issuer, audience=AUDIENCE, subject=subject)
    azure = AsyncAzureOpenAI(
        azure_endpoint=plan.gateway_url, azure_ad_token=token, api_version=API_VERSION
    )
    v1 = AsyncOpenAI(base_url=f"{plan.gateway_url}/openai/v1/", api_key=token)
    async with azure, v1:
        yield _Clients(azure, v1)


async def _use(plan: Plan, subject: str) -> None:
    async with _clients(plan, subject) as clients:
        for number in range(ROUNDS):
            question = f"{subject} asks question {number}: " + "why " * (number + 1)
            await asyncio.gather(*(kind(clients, question) for kind in _KINDS))


async def _chat(clients: _Clients, question: str) -> None:
    await clients.azure.chat.completions.create(
        model="gpt-4o", messages=[{"role": "user", "content": question}]
    )


async def _chat_stream(clients: _Clients, question: str) -> None:
    stream = await clients.v1.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": question}], stream=True
    )
    async for _ in stream:
        pass


async def _embed(clients: _Clients, question: str) -> None:
    await clients.azure.embeddings.create(model="text-embedding-3-small", input=question)


async def _respond(clients: _Clients, question: str) -> None:
    stream = await clients.v1.responses.create(model="gpt-4o", input=question, stream=True)
    async for _ in stream:
        pass


_KINDS = (_chat, _chat_stream, _embed, _respond)


async def _leave_early(plan: Plan, subject: str) -> None:
    async with _clients(plan, subject) as clients:
        stream = await clients.azure.chat.completions.create(
            model="gpt-4o",
            messages=[{"role": "user", "content": "a long story, please"}],
            max_tokens=40,
            stream=True,
        )
        async for _ in stream:
            break
        await stream.close()


async def _wait_for_rows(plan: Plan, query: Query, calls: int) -> list[UsageRow]:
    async with TableServiceClient.from_connection_string(plan.storage_connection_string) as service:
        store = TablesRowStore(service)
        deadline = time.monotonic() + COUNT_SECONDS
        while True:
            rows = [row async for row in read_usage(store, query)]
            if _total(rows).sums.calls >= calls or time.monotonic() > deadline:
                return rows
            await asyncio.sleep(0.3)


async def _each(rows: Sequence[UsageRow]) -> AsyncIterator[UsageRow]:
    for row in rows:
        yield row


def _total(rows: Sequence[UsageRow]) -> UsageRow:
    return sum(rows, UsageRow())


def _counted(rows: Sequence[UsageRow]) -> Totals:
    totals: dict[tuple[str, str], tuple[int, int, int, int]] = {}
    for row in rows:
        subject, deployment = row.names
        tokens = row.sums.tokens
        before = totals.get((subject, deployment), (0, 0, 0, 0))
        counted = (
            row.sums.calls,
            tokens.prompt_tokens,
            tokens.completion_tokens,
            tokens.total_tokens,
        )
        totals[subject, deployment] = _added(before, counted)
    return totals


async def _recorded(plan: Plan) -> Totals:
    """The backends' record of the calls they served."""
    totals: dict[tuple[str, str], tuple[int, int, int, int]] = {}
    async with aiohttp.ClientSession() as session:
        for name in _BACKENDS:
            async with session.get(f"http://127.0.0.1:{plan.ports[name]}/_calls") as response:
                calls = await response.json()
            for call in calls:
                if call["status"] == 200:
                    key = call["caller_subject"], call["deployment"]
                    totals[key] = _added(totals.get(key, (0, 0, 0, 0)), _tokens(call["usage"]))
    return totals


def _tokens(usage: Mapping[str, int]) -> tuple[int, int, int, int]:
    prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
    completion = usage.get("completion_tokens", usage.get("output_tokens", 0))
    return 1, prompt, completion, usage["total_tokens"]


def _added(
    left: tuple[int, int, int, int], right: tuple[int, int, int, int]
) -> tuple[int, int, int, int]:
    return left[0] + right[0], left[1] + right[1], left[2] + right[2], left[3] + right[3]
