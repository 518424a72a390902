"""The demo: real OpenAI SDK calls through the whole pipeline, checked against the backends' record.

Three subjects call chat, embeddings and Responses, streamed and not, while one backend throttles
and one caller disconnects in the middle of its answer. The report must then equal the backends' own
record, subject by subject and count by count.

The report is in money, by prices that are made up (`local/example-prices.csv`).

It waits for facts, not for a time: until each call is in the tables. What is late is in the outbox,
and the demo says so. Settings in the caller's shell do not reach it.
"""

import asyncio
import os
import shutil
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from azure.data.tables.aio import TableServiceClient
from openai import AsyncAzureOpenAI, AsyncOpenAI

from local.child import ChildFailed
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import AUDIENCE, Plan, make_plan, without_settings
from local.stack import Stack, Unready
from local.stand_ins import add_fault, clear_faults, served_by, urls_of
from local.state import StateLock, StateTaken
from meter.adapters.clock import SystemClock
from meter.adapters.tables import TablesRowStore
from meter.publishing.outbox import TableOutbox
from meter.reports.columns import usage_columns
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Grouping, Query, make_query
from meter.reports.rows import UsageRow, total_of
from meter.reports.usage import Report, read_usage
from meter.reports.write.report import Format, write_report
from meter.window import Period, window_of
from meter.wiring.books import read_price_book

EXAMPLE_PRICES = Path(__file__).with_name("example-prices.csv")
SUBJECTS = ("alice@contoso.example", "bob@contoso.example", "nightly-summaries")
ROUNDS = 5
# A call that neither the tables nor the outbox have is given up when nothing moves for so long.
STILL_SECONDS = 60.0
OUTBOX_SECONDS = 2.0
API_VERSION = "2024-10-21"

type Totals = Mapping[tuple[str, str], Counter[str]]


@dataclass(frozen=True, slots=True)
class _Progress:
    """Where the calls' events are: in the tables, or still in the outbox."""

    rows: Sequence[UsageRow]
    waiting: int

    @property
    def counted(self) -> int:
        return total_of(self.rows).sums.calls


async def run_demo(state: Path, port: int) -> int:
    """Run the demo; return 0 when every total matches. Logs of a run that failed are kept."""
    try:
        _empty(state)
    except StateTaken as exc:
        print(exc)
        return 1
    plan = make_plan(
        state,
        port=port,
        environment=without_settings(os.environ),
        outbox_seconds=OUTBOX_SECONDS,
    )
    stack = Stack(plan)
    print("starting Azurite, Event Hubs endpoint, token issuer, two backends, function app ...")
    code = 1
    try:
        await stack.start()
        await stack.wait_until_ready()
        code = await _demonstrate(plan)
    except (ChildFailed, StateTaken, Unready) as exc:
        print(exc)
    finally:
        await stack.stop()
        if code:
            print(f"the logs are in {_keep_logs(state)}")
    return code


def _empty(state: Path) -> None:
    """Remove what an earlier run left. Raises StateTaken while it still runs."""
    lock = StateLock(state)
    lock.take()
    for path in state.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name != "lock":
            path.unlink()
    lock.release()


def _keep_logs(state: Path) -> Path:
    """Move the logs to where the next run leaves them."""
    kept = state.with_name(f"{state.name}-failed")
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(state / "logs", kept, dirs_exist_ok=True)
    return kept


async def _demonstrate(plan: Plan) -> int:
    begun, first_day = time.monotonic(), window_of(SystemClock().now(), Period.DAY)
    book = read_price_book([EXAMPLE_PRICES])
    calls = await _call_everything(plan)
    print(f"{calls} calls answered in {time.monotonic() - begun:.1f} s; waiting for the tables ...")
    query = make_query(
        period=Period.DAY,
        first=first_day,
        last=None,
        groups=(Grouping.SUBJECT, Grouping.DEPLOYMENT),
        now=SystemClock().now(),
    )
    progress = await _wait_for_calls(plan, query, book, calls)
    rows = progress.rows
    await _print_report(query, book, rows)
    if progress.counted < calls:
        print(
            f"demo: {calls} calls, {progress.counted} counted, {progress.waiting} wait in the "
            f"outbox: nothing has moved for {STILL_SECONDS:.0f} s"
        )
        return 1
    counted, recorded = _counted(rows), await _recorded(plan)
    if counted != recorded:
        for key in sorted(counted.keys() | recorded.keys()):
            if counted.get(key) != recorded.get(key):
                print(f"differs: {key}: report {counted.get(key)}, backends {recorded.get(key)}")
        print(f"demo: {calls} calls, totals DIFFER")
        return 1
    tokens = total_of(rows).sums.tokens.total_tokens
    print(f"demo: {calls} calls, {tokens} tokens, totals match")
    return 0


async def _call_everything(plan: Plan) -> int:
    backends = urls_of(plan)
    await add_fault(backends[:1], {"status": 429, "headers": {"retry-after": "2"}, "count": 3})
    async with asyncio.TaskGroup() as tasks:
        for subject in SUBJECTS:
            tasks.create_task(_use(plan, subject))
    # Slow both streams down, so that a caller can disconnect in the middle of one.
    await add_fault(backends, {"chunk_delay_ms": 20, "count": None})
    await _leave_early(plan, SUBJECTS[0])
    await clear_faults(backends)
    return len(SUBJECTS) * ROUNDS * len(_KINDS) + 1


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


async def _print_report(query: Query, book: PriceBook, rows: Sequence[UsageRow]) -> None:
    print(f"\nEXAMPLE prices, made up ({EXAMPLE_PRICES.name}):")
    report = Report(
        query=query,
        columns=usage_columns(query, book.currency),
        rows=_each(rows),
        currency=book.currency,
    )
    total = await write_report(report, Format.TABLE, sys.stdout)
    for unpriced, quantity in total.unpriced:
        print(f"no price for {quantity:,} {unpriced.kind} of {unpriced.model}")
    print()


async def _wait_for_calls(plan: Plan, query: Query, book: PriceBook, calls: int) -> _Progress:
    """Wait until all calls are in the tables, or until nothing has moved for a while."""
    async with TableServiceClient.from_connection_string(plan.storage_connection_string) as service:
        store = TablesRowStore(service)
        outbox = TableOutbox(store, SystemClock())
        before: tuple[int, int] | None = None
        moved = time.monotonic()
        while True:
            rows = [row async for row in read_usage(store, query, book=book)]
            progress = _Progress(rows, (await outbox.backlog()).events)
            if progress.counted >= calls or time.monotonic() - moved > STILL_SECONDS:
                return progress
            now = progress.counted, progress.waiting
            if now != before:
                before, moved = now, time.monotonic()
                print(f"  {now[0]} of {calls} calls counted, {now[1]} in the outbox")
            await asyncio.sleep(0.3)


async def _each(rows: Sequence[UsageRow]) -> AsyncIterator[UsageRow]:
    for row in rows:
        yield row


def _counted(rows: Sequence[UsageRow]) -> Totals:
    totals: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for row in rows:
        subject, deployment = row.names
        totals[subject, deployment].update(calls=row.sums.calls, **row.sums.tokens.nonzero())
    return totals


async def _recorded(plan: Plan) -> Totals:
    """The backends' record of the calls they served."""
    totals: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for call in await served_by(plan):
        totals[call["caller_subject"], call["deployment"]].update(calls=1, **call["counts"])
    return totals
