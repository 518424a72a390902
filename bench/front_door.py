"""CPU a call of the front door as a plain ASGI app, against a bare relay in the same run."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from bench.load import Measured, load
from local.child import free_ports
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import AUDIENCE, make_plan
from local.stack import Stack

CONNECTIONS = 64
CALLS = 6_000
ROUNDS = 3
PATH = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
SERVER_CORE, OTHER_CORE = 0, 1


async def measure() -> dict[str, list[Measured]]:
    """Both servers in turn, `ROUNDS` times, pinned to one core; the rest runs on the other."""
    os.sched_setaffinity(0, {OTHER_CORE})
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(Path(folder), port=0, backends_file=None)
        stack = Stack(plan)
        await stack.start()
        try:
            backend = await _start([sys.executable, "-m", "bench.backend"], {})
            assert backend.stdout is not None
            port = int((await backend.stdout.readline()).split()[1])
            token = mint(KeyRing(plan.state), issuer=plan.issuer, audience=AUDIENCE, subject="b")
            backends = {"name": "fixed", "deployments": {"gpt-4o": "gpt-4o"}}
            backends |= {"url": f"http://127.0.0.1:{port}"}
            auth = {"auth": {"kind": "api-key", "setting": "BACKEND_KEY"}}
            settings = plan.settings() | {
                "METER_BACKENDS": json.dumps({"backends": [backends | auth]}),
                "METER_DURABILITY": "background",
                "BACKEND_KEY": "k",
                "BACKEND_URL": f"http://127.0.0.1:{port}",
            }
            try:
                return await _compare(settings, token)
            finally:
                backend.terminate()
                await backend.wait()
        finally:
            await stack.stop()


async def _compare(settings: Mapping[str, str], token: str) -> dict[str, list[Measured]]:
    apps = {"front door": "meter.bootstrap:asgi_app", "bare relay": "bench.bare_relay:app"}
    results: dict[str, list[Measured]] = {name: [] for name in apps}
    ports = dict(zip(apps, free_ports(len(apps)), strict=True))
    request = _request(token)
    processes = {}
    for name, app in apps.items():
        arguments = [sys.executable, "-m", "uvicorn", app, "--port", str(ports[name])]
        arguments += ["--log-level", "warning", "--no-access-log", "--http", "httptools"]
        processes[name] = await _start(arguments, settings)
        os.sched_setaffinity(processes[name].pid, {SERVER_CORE})
    try:
        await asyncio.sleep(3)
        for name, process in processes.items():
            await load(ports[name], request, pid=process.pid, connections=8, calls=500)
        for _ in range(ROUNDS):
            for name, process in processes.items():
                measured = await load(
                    ports[name], request, pid=process.pid, connections=CONNECTIONS, calls=CALLS
                )
                results[name].append(measured)
    finally:
        for process in processes.values():
            process.terminate()
            await process.wait()
    return results


def _request(token: str) -> bytes:
    body = json.dumps(
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 100}]}
    ).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _start(arguments: list[str], settings: Mapping[str, str]) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *arguments, stdout=asyncio.subprocess.PIPE, env={**os.environ, **settings}
    )
