"""Gateways as processes on one core: what starts them, their CPU and memory, the requests they get."""

import asyncio
import os
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path

from bench.gateway.content import Ask, whole
from bench.gateway.ground import Ground
from bench.gateway.load import Refused, Window, Wire, load
from bench.servers import REPOSITORY, SERVER_CORE, cpu_seconds, tree
from local.child import die_with_parent, free_ports

START_SECONDS = 150.0
STOP_SECONDS = 20.0
WARM_SECONDS = 1.0
RETRY_SECONDS = 0.02


class Unavailable(Exception):
    """A gateway cannot be had here, or does not start; the run goes on without it."""


class Changed(Exception):
    """Callers of a gateway that relays bytes did not get the backend's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """A process to start. `folder` is where it runs, this repository if None."""

    arguments: Sequence[str]
    settings: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """A gateway under its name in the tables. `launch` gets the port to listen on and a scratch folder.

    `wires` are the requests of some callers, for ever, in the gateway's own manner. One that may not
    change answers fails the run if it does.
    """

    name: str
    launch: Callable[[Ground, int, Path], Awaitable[Launch]]
    wires: Callable[[Ask, Sequence[str]], Iterator[Wire]]
    may_change: bool = False


def in_turn(ask: Ask, tokens: Sequence[str]) -> Iterator[Wire]:
    """The request as it is, from each caller in turn."""
    return cycle([(ask.wire(token), ask.expected) for token in tokens])


@dataclass(slots=True, kw_only=True)
class Running:
    """A gateway that answers."""

    spec: Spec
    port: int
    pid: int
    ground: Ground
    log: Path | None = None

    async def load(
        self,
        ask: Ask,
        *,
        connections: int,
        seconds: float,
        tokens: Sequence[str] | None = None,
    ) -> Window:
        """Load it for some time. Raises Refused, OSError, or Changed."""
        window = await load(
            self.port,
            self.spec.wires(ask, tokens or self.ground.tokens),
            connections=connections,
            seconds=seconds,
            cpu=lambda: cpu_seconds(self.pid),
        )
        if window.changed and not self.spec.may_change:
            raise Changed(f"{self.spec.name} changed {window.changed} of {window.calls} answers")
        return window

    def log_lines(self) -> list[str]:
        """What it has written so far; a front door that is well writes nothing."""
        return [] if self.log is None else self.log.read_text(errors="replace").splitlines()

    def rss_mb(self) -> float:
        """Resident memory of the process and its children."""
        pages = sum(int(_read(pid, "statm").split()[1]) for pid in tree(self.pid))
        return pages * os.sysconf("SC_PAGESIZE") / 1e6


@asynccontextmanager
async def running(ground: Ground, spec: Spec, *, warm: bool = True) -> AsyncIterator[Running]:
    """Start a gateway and wait until it answers. Raises Unavailable."""
    with tempfile.TemporaryDirectory() as name:
        [port] = free_ports(1)
        launch = await spec.launch(ground, port, Path(name))
        log = Path(name, "output.log")
        process = await spawn(launch, log)
        try:
            server = Running(spec=spec, port=port, pid=process.pid, ground=ground, log=log)
            try:
                await first_answer(server, process)
                if warm:
                    await server.load(whole(), connections=16, seconds=WARM_SECONDS)
            except (Refused, OSError, TimeoutError) as exc:
                tail = _tail(log)
                raise Unavailable(f"{type(exc).__name__}: {exc}; {tail}") from exc
            yield server
        finally:
            await end(process)


async def spawn(launch: Launch, log: Path) -> asyncio.subprocess.Process:
    """Start a process that, with its children, stays on the gateways' core."""
    with log.open("ab") as output:
        return await asyncio.create_subprocess_exec(
            *launch.arguments,
            stdout=output,
            stderr=output,
            stdin=asyncio.subprocess.DEVNULL,
            env={**os.environ, **launch.settings},
            cwd=launch.folder or REPOSITORY,
            preexec_fn=_pin,
        )


async def end(process: asyncio.subprocess.Process) -> None:
    """Stop a process, politely at first."""
    if process.returncode is not None:
        return
    process.terminate()
    try:
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        process.kill()
        await process.wait()


async def first_answer(server: Running, process: asyncio.subprocess.Process) -> None:
    """Ask until the first answer. Raises Refused, OSError or TimeoutError if there is none in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + START_SECONDS
    while True:
        try:
            async with asyncio.timeout_at(deadline):
                await load(
                    server.port,
                    server.spec.wires(whole(), server.ground.tokens),
                    connections=1,
                    seconds=0,
                    cpu=lambda: 0.0,
                    settle_seconds=0,
                )
        except (Refused, OSError):
            if loop.time() > deadline or process.returncode is not None:
                raise
            await asyncio.sleep(RETRY_SECONDS)
        else:
            return


def _tail(log: Path) -> str:
    """The last line that a gateway wrote, which mostly says why it ended."""
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1][:200] if lines else ""


def _read(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _pin() -> None:
    die_with_parent()
    os.sched_setaffinity(0, {SERVER_CORE})


def uvicorn(app: str, port: int) -> list[str]:
    """The command that serves an ASGI app as the container image does."""
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    return [*command, "--log-level", "warning", "--http", "httptools"]
