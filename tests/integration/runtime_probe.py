"""Drives requests through Microsoft's runtime in this process and reports the references it holds.

A separate program, since the runtime can be started only once per process.
`python runtime_probe.py REQUESTS repair|leave`: JSON with the references held and the statuses seen.
"""

import asyncio
import json
import logging
import sys
import uuid
from collections import Counter

import aiohttp
from azure_functions_runtime.http_v2 import http_coordinator

from local.functions.messages import http_value
from local.functions.worker import Worker
from meter.adapters.functions import web
from tests.support.running import REPOSITORY

CONCURRENCY = 50


async def drive(requests: int, *, repairs: bool) -> dict[str, object]:
    """Send the requests as the host does: forward and invocation side by side."""
    if not repairs:
        web.forget_invocation = lambda invocation_id: None
    worker = Worker(REPOSITORY)
    await worker.start()
    [front_door] = worker.triggered_by("httpTrigger")
    statuses: Counter[int] = Counter()
    limit = asyncio.Semaphore(CONCURRENCY)

    async def send(session: aiohttp.ClientSession) -> None:
        invocation_id = str(uuid.uuid4())
        headers = {web.INVOCATION_HEADER: invocation_id}
        argument = http_value("GET", "/healthz", {"path": "healthz"})
        async with limit:
            invocation = asyncio.create_task(
                worker.invoke(front_door, argument, invocation_id=invocation_id)
            )
            async with session.get(f"{worker.http_uri}/healthz", headers=headers) as response:
                await response.read()
                statuses[response.status] += 1
            await invocation

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(send(session) for _ in range(requests)))
    references = getattr(http_coordinator, web.REFERENCES)
    return {
        "held": len(references),
        "kind": type(references).__name__,
        "statuses": statuses,
    }


if __name__ == "__main__":
    logging.getLogger("azure.functions").setLevel(logging.WARNING)
    seen = asyncio.run(drive(int(sys.argv[1]), repairs=sys.argv[2] == "repair"))
    sys.stdout.write(json.dumps(seen))
    sys.stdout.flush()
