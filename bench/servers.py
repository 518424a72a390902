"""Processes to measure, or beside what is measured: on which core they run, their CPU time."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from local.child import die_with_parent, free_ports
from local.plan import AZURITE_ACCOUNT, AZURITE_KEY

SERVER_CORE, OTHER_CORE = 0, 1
START_SECONDS = 30.0
REPOSITORY = Path(__file__).resolve().parents[1]
AZURITE = REPOSITORY / "node_modules" / "azurite" / "dist" / "src" / "azurite.js"
_NANO = 1e-9


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


async def start(
    arguments: Sequence[str], settings: Mapping[str, str], *, cpu: int | None = None
) -> asyncio.subprocess.Process:
    """Start a process with its standard input and output open; perhaps on one core."""
    process = await asyncio.create_subprocess_exec(
        *arguments,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **settings},
        preexec_fn=die_with_parent,
    )
    if cpu is not None:
        os.sched_setaffinity(process.pid, {cpu})
    return process


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process and its children, to the nanosecond."""
    total = 0
    for each in tree(pid):
        for task in Path(f"/proc/{each}/task").iterdir():
            try:
                total += int((task / "schedstat").read_text().split()[0])
            except OSError:
                continue  # a thread that has just ended
    return total * _NANO


def tree(pid: int) -> list[int]:
    """The process and its descendants."""
    found = [pid]
    for each in found:
        for task in Path(f"/proc/{each}/task").iterdir():
            try:
                found += map(int, (task / "children").read_text().split())
            except OSError:
                continue
    return found


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
