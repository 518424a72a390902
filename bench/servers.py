"""Servers to compare in one run: started together on one core, loaded in turn."""

import asyncio
import json
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.load import Measured, load
from local.child import free_ports
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from local.plan import AUDIENCE, AZURITE_ACCOUNT, AZURITE_KEY, make_plan
from local.stack import Stack

PATH = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-10-21"
SERVER_CORE, OTHER_CORE = 0, 1
START_SECONDS = 30.0
REPOSITORY = Path(__file__).resolve().parents[1]
AZURITE = REPOSITORY / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """Shared by all servers of a run: the stack's settings with one fixed backend, and a request."""

    settings: Mapping[str, str]
    request: bytes


@asynccontextmanager
async def azurite() -> AsyncIterator[tuple[str, int]]:
    """Run a fresh Azurite on the other core; gives its connection string and its process id."""
    with tempfile.TemporaryDirectory() as folder:
        ports = dict(zip(("blob", "queue", "table"), free_ports(3), strict=True))
        arguments = ["node", str(AZURITE), "--silent", "--disableTelemetry", "--location", folder]
        arguments += ["--skipApiVersionCheck"]
        for service, port in ports.items():
            arguments += [f"--{service}Host", "127.0.0.1", f"--{service}Port", str(port)]
        process = await start(arguments, {}, cpu=OTHER_CORE)
        try:
            await _listens(ports["table"])
            yield (
                f"DefaultEndpointsProtocol=http;AccountName={AZURITE_ACCOUNT};"
                f"AccountKey={AZURITE_KEY};"
                f"TableEndpoint=http://127.0.0.1:{ports['table']}/{AZURITE_ACCOUNT};",
                process.pid,
            )
        finally:
            process.terminate()
            await process.wait()


@asynccontextmanager
async def ground() -> AsyncIterator[Ground]:
    """Run a stack and a backend that costs almost nothing, all on the other core."""
    os.sched_setaffinity(0, {OTHER_CORE})
    with tempfile.TemporaryDirectory() as folder:
        plan = make_plan(Path(folder), port=0)
        stack = Stack(plan, host=None)  # an aggregator would take the hub's core
        await stack.start()
        try:
            backend = await start([sys.executable, "-m", "bench.backend"], {})
            assert backend.stdout is not None
            port = int((await backend.stdout.readline()).split()[1])
            token = mint(KeyRing(plan.state), issuer=plan.issuer, audience=AUDIENCE, subject="b")
            backends = {"name": "fixed", "deployments": {"gpt-4o": "gpt-4o"}}
            backends |= {"url": f"http://127.0.0.1:{port}"}
            auth = {"auth": {"kind": "api-key", "setting": "BACKEND_KEY"}}
            settings = plan.settings() | {
                "METER_BACKENDS": json.dumps({"backends": [backends | auth]}),
                "BACKEND_KEY": "k",
                "BACKEND_URL": f"http://127.0.0.1:{port}",
            }
            try:
                yield Ground(settings=settings, request=_request(token))
            finally:
                backend.terminate()
                await backend.wait()
        finally:
            await stack.stop()


async def compare(
    ground: Ground,
    apps: Mapping[str, str],
    settings: Mapping[str, str],
    *,
    rounds: int,
    connections: int,
    calls: int,
    own: Mapping[str, Mapping[str, str]] | None = None,
) -> dict[str, list[Measured]]:
    """Run each app as one server; load them in turn, `rounds` times. `own` are settings of some apps."""
    results: dict[str, list[Measured]] = {name: [] for name in apps}
    ports = dict(zip(apps, free_ports(len(apps)), strict=True))
    processes = {}
    for name, app in apps.items():
        arguments = [sys.executable, "-m", "uvicorn", app, "--port", str(ports[name])]
        arguments += ["--log-level", "warning", "--no-access-log", "--http", "httptools"]
        ours = (own or {}).get(name, {})
        processes[name] = await start(arguments, {**ground.settings, **settings, **ours})
        os.sched_setaffinity(processes[name].pid, {SERVER_CORE})
    try:
        for name, process in processes.items():
            await _listens(ports[name])
            await load(ports[name], ground.request, pid=process.pid, connections=8, calls=500)
        for _ in range(rounds):
            for name, process in processes.items():
                measured = await load(
                    ports[name],
                    ground.request,
                    pid=process.pid,
                    connections=connections,
                    calls=calls,
                )
                results[name].append(measured)
    finally:
        for process in processes.values():
            process.terminate()
            await process.wait()
    return results


async def _listens(port: int) -> None:
    async with asyncio.timeout(START_SECONDS):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


def _request(token: str) -> bytes:
    body = json.dumps(
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "word " * 100}]}
    ).encode()
    head = (
        f"POST {PATH} HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def start(
    arguments: Sequence[str], settings: Mapping[str, str], *, cpu: int | None = None
) -> asyncio.subprocess.Process:
    """Start a process with its standard input and output open; perhaps on one core."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings},
    )
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    return process
