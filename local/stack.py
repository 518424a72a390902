"""The local stack: Azurite, the Event Hubs endpoint, the issuer, the stand-ins, the function app."""

import asyncio
import shutil
import sys
from collections.abc import Mapping
from contextlib import AsyncExitStack
from pathlib import Path

import aiohttp

from local.azurite import azurite_command
from local.child import Child, ChildFailed
from local.functions.admin import KEY_VARIABLE
from local.plan import BACKEND_NAMES, KEY_NAME, Plan, write_json
from local.state import StateLock

# Time for streams to end or be cut, and for their usage to be published.
GATEWAY_STOP_SECONDS = 60.0

READY_POLL_SECONDS = 0.2

REPOSITORY = Path(__file__).resolve().parent.parent


class Unready(Exception):
    """The function app answers calls with 503 and will go on to: its settings are invalid."""


class Stack:
    """A running stack. `start` returns when all processes run; `stop` ends them.

    Without a host it has everything but the function app, for benchmarks that bring their own.
    `behind` is Microsoft's proxy, for the worker host.
    """

    def __init__(
        self, plan: Plan, *, host: str | None = "worker", behind: Path | None = None
    ) -> None:
        self.plan = plan
        children = [self._azurite(), self._eventhubs(), self._issuer()]
        if plan.backends_file is None:
            children += [self._backend(name) for name in BACKEND_NAMES]
        self._infrastructure = children
        self._apps = [] if host is None else [self._function_app(host, behind)]
        self._running = AsyncExitStack()
        self._lock = StateLock(plan.state)

    async def start(self) -> None:
        """Start all children. Raises StateTaken, or ChildFailed after stopping those that run."""
        self._lock.take()
        self.plan.write_files()
        (self.plan.state / "stack.json").unlink(missing_ok=True)
        try:
            for child in (*self._infrastructure, *self._apps):
                self._running.push_async_callback(child.stop)
            async with asyncio.TaskGroup() as tasks:
                for child in self._infrastructure:
                    tasks.create_task(child.start())
            for app in self._apps:
                await app.start()
        except* ChildFailed as failures:
            await self.stop()
            raise failures.exceptions[0] from None
        for child in (*self._infrastructure, *self._apps):
            child.on_change = self._write_stack
        self._write_stack()

    async def wait_until_ready(self) -> None:
        """Wait until calls are answered, as `/readyz` says. Raises Unready."""
        url = f"{self.plan.gateway_url}/readyz"
        async with aiohttp.ClientSession() as session:
            while True:
                found = await _readiness(session, url)
                if found.get("status") == "ready":
                    return
                if problems := found.get("settings"):
                    assert isinstance(problems, list)
                    raise Unready("\n".join(map(str, problems)))
                await asyncio.sleep(READY_POLL_SECONDS)

    async def stop(self) -> None:
        """Stop all children, the function app first."""
        await self._running.aclose()
        if self._lock.is_held:
            (self.plan.state / "stack.json").unlink(missing_ok=True)
            self._lock.release()

    def _write_stack(self) -> None:
        children = (*self._infrastructure, *self._apps)
        pids = {child.name: child.pid for child in children}
        write_json(self.plan.state / "stack.json", self.plan.describe(pids))

    def _python(self, name: str, module: str, *arguments: str, port: str | None = None) -> Child:
        number = self.plan.ports[port or name]
        return Child(
            name=name,
            arguments=[sys.executable, "-m", module, "--port", str(number), *arguments],
            port=number,
            log_path=self.plan.state / "logs" / f"{name}.log",
            environment={**self.plan.environment, "PYTHONPATH": str(REPOSITORY)},
        )

    def _azurite(self) -> Child:
        ports, folder = self.plan.ports, self.plan.state / "azurite"
        return Child(
            name="azurite",
            arguments=azurite_command(folder, ports),
            port=ports["table"],
            log_path=self.plan.state / "logs" / "azurite.log",
            environment=self.plan.environment,
            says_ready=False,
        )

    def _eventhubs(self) -> Child:
        state = self.plan.state
        return self._python(
            "eventhubs",
            "local.eventhubs",
            "--data",
            str(state / "eventhubs"),
            "--config",
            str(state / "Config.json"),
            "--key",
            self.plan.hub_key,
            "--key-name",
            KEY_NAME,
            "--health-port",
            str(self.plan.ports["eventhubs_health"]),
        )

    def _issuer(self) -> Child:
        return self._python("issuer", "local.issuer", "--state", str(self.plan.state))

    def _backend(self, name: str) -> Child:
        record = self.plan.state / "calls" / f"{name}.jsonl"
        return self._python(
            name,
            "local.openai",
            "--name",
            name,
            "--record",
            str(record),
            "--key",
            self.plan.backend_key,
        )

    def _function_app(self, host: str, behind: Path | None) -> Child:
        if host == "func":
            return self._core_tools()
        dropped = self.plan.state / "logs" / "gateway.dropped.log"
        options = ["--app", str(REPOSITORY), "--dropped-log", str(dropped)]
        if behind is not None:
            options += ["--behind", str(behind)]
        child = self._python("gateway", "local.functions", *options)
        child.environment = {
            **child.environment,
            **self.plan.settings(),
            KEY_VARIABLE: self.plan.admin_key,
        }
        child.stop_seconds = GATEWAY_STOP_SECONDS
        return child

    def _core_tools(self) -> Child:
        func = shutil.which("func")
        if func is None:
            raise SystemExit("--host func needs Azure Functions Core Tools on the PATH")
        port = self.plan.ports["gateway"]
        return Child(
            name="gateway",
            arguments=[func, "start", "--port", str(port), "--script-root", str(REPOSITORY)],
            port=port,
            log_path=self.plan.state / "logs" / "gateway.log",
            environment={
                **self.plan.environment,
                **self.plan.settings(),
                "FUNCTIONS_WORKER_RUNTIME": "python",
            },
            says_ready=False,
        )


async def _readiness(session: aiohttp.ClientSession, url: str) -> Mapping[str, object]:
    """What `/readyz` says; nothing while it does not answer."""
    try:
        async with session.get(url) as response:
            document = await response.json()
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return {}
    return document if isinstance(document, dict) else {}
