"""One child process of the stack: started, watched, restarted when it dies, stopped with its tree.

| state    | event                       | next                                                   |
|----------|-----------------------------|--------------------------------------------------------|
| starting | printed `ready`, or listens | running                                                |
| starting | ended                       | failed on its first start; else starting again         |
| running  | ended                       | starting again after `RESTART_SECONDS`, on its port    |
| any      | stop                        | SIGTERM, after `stop_seconds` SIGKILL; stopped         |
"""

import asyncio
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

RESTART_SECONDS = 0.3
READY_SECONDS = 60.0
STOP_SECONDS = 15.0
_PR_SET_PDEATHSIG = 1


class ChildFailed(Exception):
    """A child did not start; the message holds the end of its log."""


@dataclass(slots=True, kw_only=True)
class Child:
    """A child on a fixed port. `on_change` is called whenever its pid changes.

    `environment` is all that it gets of one.
    """

    name: str
    arguments: Sequence[str]
    port: int
    log_path: Path
    environment: Mapping[str, str]
    says_ready: bool = True
    stop_seconds: float = STOP_SECONDS
    on_change: Callable[[], None] = lambda: None
    pid: int | None = None
    _process: asyncio.subprocess.Process | None = None
    _watch: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Start it and wait until it is ready. Raises ChildFailed."""
        await self._start()
        self._watch = asyncio.create_task(self._restart_for_ever())

    async def stop(self) -> None:
        """Stop it and every process it started."""
        if self._watch is not None:
            self._watch.cancel()
            with suppress(asyncio.CancelledError):
                await self._watch
        process = self._process
        if process is None:
            return
        if process.returncode is None:
            _signal_group(process.pid, signal.SIGTERM)
            with suppress(TimeoutError):
                await asyncio.wait_for(process.wait(), self.stop_seconds)
        _signal_group(process.pid, signal.SIGKILL)
        await process.wait()

    async def _start(self) -> None:
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE if self.says_ready else log,
                stderr=log,
                env=dict(self.environment),
                start_new_session=True,
                preexec_fn=die_with_parent,
            )
        self._process, self.pid = process, process.pid
        try:
            await asyncio.wait_for(self._ready(process), READY_SECONDS)
        except TimeoutError:
            raise ChildFailed(f"{self.name} was not ready in {READY_SECONDS:.0f} s") from None
        self.on_change()

    async def _ready(self, process: asyncio.subprocess.Process) -> None:
        if process.stdout is not None:
            while line := await process.stdout.readline():
                if line.startswith(b"ready"):
                    return
        else:
            while process.returncode is None:
                if await _listens(self.port):
                    return
                await asyncio.sleep(0.05)
        await process.wait()
        raise ChildFailed(f"{self.name} ended with {process.returncode}:\n{self._end_of_log()}")

    async def _restart_for_ever(self) -> None:
        while True:
            assert self._process is not None, "started"
            await self._process.wait()
            _signal_group(self._process.pid, signal.SIGKILL)  # processes it may have orphaned
            await asyncio.sleep(RESTART_SECONDS)
            with suppress(ChildFailed):
                await self._start()

    def _end_of_log(self) -> str:
        return self.log_path.read_text(errors="replace")[-3000:]


def free_ports(count: int) -> list[int]:
    """Distinct ports that are free now."""
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


def is_free(port: int) -> bool:
    """Whether a loopback port can be listened on."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def die_with_parent() -> None:
    """Ask the kernel, where it is Linux, to end this child if its parent is killed (prctl(2))."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
