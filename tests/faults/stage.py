"""A stack whose hub and table storage run outside of it, behind fault proxies, so that each can break."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

from local.faults import FaultProxy, HttpFaultProxy
from local.issuer.keys import KeyRing
from local.issuer.tokens import mint
from tests.faults.azurite import AzuriteProcess, restartable_azurite
from tests.faults.books import Books, read_books
from tests.faults.hub import HubProcess, hub_connection_string, running_hub
from tests.support.running import RunningStack, run_stack

SETTINGS = {
    "METER_OUTBOX_INTERVAL_SECONDS": "1",
    "METER_FIRST_BYTE_TIMEOUT_SECONDS": "5",
    "METER_EXPOSE_BACKEND": "true",
}


@dataclass(frozen=True, slots=True)
class Stage:
    """A running stack and the parts around it that tests break."""

    stack: RunningStack
    storage: AzuriteProcess
    storage_proxy: HttpFaultProxy
    hub: HubProcess
    hub_proxy: FaultProxy

    async def clear(self) -> None:
        """Remove all faults."""
        await self.storage_proxy.clear()
        await self.hub_proxy.clear()

    def token(self, subject: str) -> str:
        """A token as minted by the stack's command, without a process per token."""
        description = self.stack.description
        return mint(
            KeyRing(self.stack.state),
            issuer=description["issuer"],
            audience=description["audience"],
            subject=subject,
            expires_in_seconds=7200,
        )

    async def kill_worker(self) -> None:
        """kill -9 of the process that runs the function app; the stack starts another."""
        pid = self.stack.kill("gateway")
        await asyncio.to_thread(self.stack.wait_for_restart, "gateway", pid)

    async def books(self) -> Books:
        """The stored data, read without the proxy."""
        return await asyncio.to_thread(read_books, self.storage.connection_string())

    async def recorded(self) -> Mapping[str, Any]:
        """The backends' record of each call, by request id."""
        found: dict[str, Any] = {}
        async with aiohttp.ClientSession() as http:
            for backend in self.stack.description["backends"]:
                async with http.get(f"{backend['url']}/_calls") as answer:
                    found |= {call["id"]: call for call in await answer.json()}
        return found


@asynccontextmanager
async def staged(folder: Path) -> AsyncIterator[Stage]:
    """Start all parts, and stop them at the end."""
    with ExitStack() as parts:
        storage = parts.enter_context(restartable_azurite(folder / "tables"))
        hub = parts.enter_context(running_hub(folder / "hub"))
        storage_proxy = HttpFaultProxy("127.0.0.1", storage.port)
        hub_proxy = FaultProxy("127.0.0.1", hub.port)
        storage_port, hub_port = await storage_proxy.start(), await hub_proxy.start()
        settings = {
            **SETTINGS,
            "MeterStorage": storage.connection_string(storage_port),
            "EventHubConnection": hub_connection_string(hub_port),
        }
        running = run_stack(folder / "stack", settings=settings)
        stack = await asyncio.to_thread(running.__enter__)
        try:
            yield Stage(stack, storage, storage_proxy, hub, hub_proxy)
        finally:
            await asyncio.to_thread(running.__exit__, None, None, None)
            await storage_proxy.stop()
            await hub_proxy.stop()
