"""Drives calls through Microsoft's runtime in this process and reports what it holds afterwards.

A separate program, since the runtime can be started only once per process.
`python -m tests.integration.runtime_probe MODE CALLS`: JSON on standard output. Modes:

- `met`: each call arrives as a request and an invocation, as the host sends them; the last 50 calls
  say what they leave for a garbage collection;
- `unreplaced`: the same on the runtime's own coordinator;
- `alone`: invocations without requests, three times as many as asked, beside calls of mode `met`;
- `idle`: POSTs through Microsoft's proxy (`YARP_FRONT`), on connections that were idle for about as
  long as uvicorn keeps them by itself.
"""

import asyncio
import gc
import json
import logging
import os
import sys
import tracemalloc
import uuid
from collections import Counter
from collections.abc import Awaitable, Mapping
from pathlib import Path
from typing import Any

import aiohttp
from azure.functions.eventhub import EventHubTriggerConverter
from azure_functions_runtime.http_v2 import http_coordinator

from local.functions.invocations import HttpInvocations
from local.functions.messages import http_value
from local.functions.real_proxy import RealProxy
from local.functions.worker import Function, Invoked, Worker
from meter.adapters.functions import extension, hub_times
from tests.support.running import REPOSITORY

AT_ONCE = 50
ALONE_AT_ONCE = 1_000
CALLS_BESIDE = 200
WAIT_SECONDS = 3.0  # longer than a busy machine takes for the calls beside them
ROUNDS = 3
IDLE_SECONDS, IDLE_AT_ONCE = 5.0, 300
# The runtime's own memory of requests, by id.
REFERENCES = "_context_references"


class Driven:
    """The worker under the runtime, and one session to its HTTP side."""

    def __init__(self, worker: Worker, session: aiohttp.ClientSession) -> None:
        self._worker = worker
        self._session = session
        [self._front_door] = worker.triggered_by("httpTrigger")
        self.statuses: Counter[int] = Counter()
        self.errors: Counter[str] = Counter()

    async def met(self, calls: int) -> None:
        """Calls of both halves."""
        limit = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(self._met(limit) for _ in range(calls)))

    async def alone(self, calls: int) -> None:
        """Invocations whose requests never come."""
        limit = asyncio.Semaphore(ALONE_AT_ONCE)
        await asyncio.gather(*(self._alone(limit) for _ in range(calls)))

    async def _met(self, limit: asyncio.Semaphore) -> None:
        invocation_id = str(uuid.uuid4())
        headers = {extension.INVOCATION_HEADER: invocation_id}
        async with limit:
            invocation = asyncio.create_task(self._invoke(self._front_door, invocation_id))
            url = f"{self._worker.http_uri}/healthz"
            async with self._session.get(url, headers=headers) as response:
                await response.read()
                self.statuses[response.status] += 1
            await invocation

    async def _alone(self, limit: asyncio.Semaphore) -> None:
        async with limit:
            invoked = await self._invoke(self._front_door, str(uuid.uuid4()))
        self.errors[str(invoked.error)] += 1

    async def _invoke(self, function: Function, invocation_id: str) -> Invoked:
        argument = http_value("GET", "/healthz", {"path": "healthz"})
        return await self._worker.invoke(function, argument, invocation_id=invocation_id)


async def drive(mode: str, calls: int) -> Mapping[str, Any]:
    """Run the mode's calls."""
    if mode == "unreplaced":
        setattr(extension, "replace_coordinator", lambda rendezvous: False)  # noqa: B010
    worker = Worker(REPOSITORY)
    await worker.start()
    unlimited = aiohttp.TCPConnector(limit=0, keepalive_timeout=60)
    async with aiohttp.ClientSession(connector=unlimited) as session:
        driven = Driven(worker, session)
        if mode == "alone":
            return await _alone(driven, calls)
        if mode == "idle":
            return await _idle(worker, session, calls)
        await driven.met(calls - AT_ONCE)
        garbage = await _garbage_of(driven.met(AT_ONCE))
        reads_times = hub_times.READ in vars(EventHubTriggerConverter)
        seen = {"statuses": driven.statuses, "garbage": garbage, "reads_times": reads_times}
        return {**_held(), **seen}


async def _alone(driven: Driven, calls: int) -> Mapping[str, Any]:
    await driven.met(CALLS_BESIDE)  # connections, caches
    before = asyncio.all_tasks()
    tracemalloc.start()
    sizes = []
    for _ in range(ROUNDS):
        await asyncio.gather(driven.alone(calls), driven.met(CALLS_BESIDE))
        gc.collect()
        sizes.append(tracemalloc.get_traced_memory()[0])
    tasks = len(asyncio.all_tasks() - before)
    seen = {"statuses": driven.statuses, "errors": driven.errors, "sizes": sizes, "tasks": tasks}
    return {**_held(), **seen}


async def _idle(worker: Worker, session: aiohttp.ClientSession, calls: int) -> Mapping[str, Any]:
    delivered: Counter[str] = Counter()
    serve = extension.WebApp.__call__

    async def counted(app: extension.WebApp, scope: Any, receive: Any, send: Any) -> None:
        delivered[str(dict(scope["headers"]).get(b"x-number"))] += 1
        await serve(app, scope, receive, send)

    setattr(extension.WebApp, "__call__", counted)  # noqa: B010
    invocations = HttpInvocations(worker, "", timeout_seconds=60)
    proxy = RealProxy(Path(os.environ["YARP_FRONT"]), worker.http_uri, invocations)
    url = f"http://127.0.0.1:{await proxy.start(0)}/healthz"
    statuses: Counter[int] = Counter()

    async def post(number: int) -> None:
        # Spread over some milliseconds around the moment at which uvicorn would close.
        await asyncio.sleep(IDLE_SECONDS + (number % 21 - 10) / 1_000)
        headers = {"x-number": str(number)}
        async with session.post(url, data=b"x" * 600, headers=headers) as response:
            await response.read()
            statuses[response.status] += 1

    for start in range(0, calls, IDLE_AT_ONCE):
        await asyncio.gather(*map(post, range(start, min(calls, start + IDLE_AT_ONCE))))
    await proxy.stop(grace_seconds=1)
    doubled = sum(count > 1 for count in delivered.values())
    return {"statuses": statuses, "delivered": len(delivered), "doubled": doubled}


async def _garbage_of(work: Awaitable[None]) -> int:
    """How many objects the work leaves for a garbage collection."""
    gc.collect()
    gc.disable()
    try:
        await work
        await asyncio.sleep(0)
        return gc.collect()
    finally:
        gc.enable()


def _held() -> Mapping[str, int]:
    apps = [held for held in gc.get_objects() if isinstance(held, extension.WebApp)]
    return {
        "references": len(getattr(http_coordinator, REFERENCES)),
        "meeting": sum(app.held for app in apps),
    }


if __name__ == "__main__":
    if sys.argv[1] == "alone":
        os.environ["METER_INVOCATION_WAIT_SECONDS"] = str(WAIT_SECONDS)
    logging.getLogger("azure.functions").setLevel(logging.WARNING)
    logging.getLogger("meter").setLevel(logging.CRITICAL)
    sys.stdout.write(json.dumps(asyncio.run(drive(sys.argv[1], int(sys.argv[2])))))
    sys.stdout.flush()
