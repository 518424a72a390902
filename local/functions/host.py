"""The host: starts the worker, then its triggers, and stops them in order on SIGTERM.

As when a container stops: the host takes no new work and lets running invocations end, then the
worker's own SIGTERM handler runs, and whatever is still running is killed.
"""

import asyncio
import json
import logging
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from local.functions.admin import Admin
from local.functions.front import Front
from local.functions.hub_trigger import HubTrigger
from local.functions.invocations import HttpInvocations, timeout_seconds
from local.functions.logs import WorkerLogs
from local.functions.messages import TypedData, bytes_values, json_value
from local.functions.real_proxy import RealProxy
from local.functions.timer import interval_seconds, run_timer, timer_value
from local.functions.worker import Function, Worker
from local.serving import stop_asked

# Calls have this long to end; then the real host is gone.
GRACE_SECONDS = 30.0
KILL_SECONDS = 40.0

log = logging.getLogger(__name__)


class Host:
    """Runs one function app in this process."""

    def __init__(
        self, app_dir: Path, *, admin_key: str, dropped_log: Path | None, behind: Path | None
    ) -> None:
        self._settings: Mapping[str, Any] = json.loads((app_dir / "host.json").read_text())
        self._logs = WorkerLogs(dropped_log)
        self._admin = Admin(admin_key, self._run_by_name)
        self._worker = Worker(app_dir, self._logs)
        self._tasks: list[asyncio.Task[None]] = []
        self._behind = behind
        self._invocations: HttpInvocations | None = None
        self._front: Front | RealProxy | None = None

    async def start(self, port: int) -> int:
        """Start everything and return the HTTP port. Raises AppFailed."""
        self._logs.install()
        await self._worker.start()
        extensions = self._settings.get("extensions", {})
        prefix = extensions.get("http", {}).get("routePrefix", "api")
        timeout = timeout_seconds(self._settings)
        self._invocations = HttpInvocations(self._worker, prefix, timeout_seconds=timeout)
        uri = self._worker.http_uri
        if self._behind is None:
            self._front = Front(uri, self._invocations, self._admin)
        else:
            self._front = RealProxy(self._behind, uri, self._invocations)
        bound = await self._front.start(port)
        for function in self._worker.triggered_by("eventHubTrigger"):
            trigger = HubTrigger(self._worker, function, extensions.get("eventHubs", {}))
            self._tasks.append(asyncio.create_task(trigger.run()))
        for function in self._worker.triggered_by("timerTrigger"):
            timer = run_timer(self._worker, function, interval_seconds(function))
            self._tasks.append(asyncio.create_task(timer))
        return bound

    async def stop(self) -> None:
        """Stop taking work; let calls and running invocations end within the grace time."""
        loop = asyncio.get_running_loop()
        end = loop.time() + GRACE_SECONDS
        if self._front is not None:
            await self._front.stop(grace_seconds=GRACE_SECONDS)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._worker.wait(max(0.0, end - loop.time()))

    async def _run_by_name(self, name: str, argument: object) -> bool:
        function = next((f for f in self._worker.functions if f.name == name), None)
        if function is None:
            return False
        value, metadata = _admin_argument(function, argument)
        invoked = await self._worker.invoke(function, value, metadata=metadata)
        if invoked.error is not None:
            log.error("%s failed: %s", name, invoked.error)
        return True


async def run(
    app_dir: Path,
    port: int,
    *,
    admin_key: str = "",
    dropped_log: Path | None = None,
    behind: Path | None = None,
) -> None:
    """Run the app until SIGTERM or SIGINT; prints `ready PORT` when it takes calls.

    `behind` is Microsoft's proxy, a program that then takes the calls in place of the imitated one.
    """
    host = Host(app_dir, admin_key=admin_key, dropped_log=dropped_log, behind=behind)
    bound = await host.start(port)
    # Only once the worker has started: its HTTP server installs signal handlers of its own.
    workers_handler = signal.getsignal(signal.SIGTERM)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, signal.SIG_DFL)
    stopping = stop_asked()
    print(f"ready {bound}", flush=True)
    await stopping.wait()
    await host.stop()
    if callable(workers_handler):
        workers_handler(signal.SIGTERM, None)
        await asyncio.sleep(KILL_SECONDS)  # normally the worker ends this process earlier


def _admin_argument(
    function: Function, argument: object
) -> tuple[TypedData, Mapping[str, TypedData]]:
    match function.trigger["type"]:
        case "timerTrigger":
            return timer_value(), {}
        case "eventHubTrigger":
            text = argument if isinstance(argument, str) else json.dumps(argument)
            context = json.dumps({"PartitionId": "admin"})
            return bytes_values([text.encode()]), {
                "SystemPropertiesArray": json_value([{"SequenceNumber": 0}]),
                "PartitionContext": TypedData(json=context),
            }
        case _:
            return TypedData(string=str(argument)), {}
