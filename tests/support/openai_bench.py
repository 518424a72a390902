"""A running stand-in with the clients of its tests."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
from openai import AsyncAzureOpenAI, AsyncOpenAI

from local.openai.server import DEFAULT_DEPLOYMENTS, StandIn

KEY = "a-key-for-tests"
API_VERSION = "2024-10-21"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A running stand-in with both kinds of client and a plain HTTP session."""

    url: str
    azure: AsyncAzureOpenAI
    v1: AsyncOpenAI
    http: aiohttp.ClientSession

    def client(self, shape: str) -> AsyncOpenAI:
        """The client that uses the classic addresses, or the one that uses v1."""
        return {"classic": self.azure, "v1": self.v1}[shape]

    async def calls(self) -> list[dict[str, Any]]:
        """The stand-in's record of its calls."""
        async with self.http.get(f"{self.url}/_calls") as answer:
            calls: list[dict[str, Any]] = await answer.json()
            return calls

    async def fault(self, **fault: Any) -> None:
        """Queues a fault."""
        async with self.http.post(f"{self.url}/_faults", json=fault) as answer:
            assert answer.status == 204, await answer.text()

    async def recorded(self, count: int) -> list[dict[str, Any]]:
        """The record, once it has this many calls."""
        async with asyncio.timeout(5):
            calls = await self.calls()
            while len(calls) < count:
                calls = await self.calls()
        return calls

    async def post(
        self, path: str, body: object, headers: dict[str, str] | None = None
    ) -> tuple[int, Any]:
        """A call without the SDK: status and JSON body."""
        return await self.ask("POST", path, headers=headers, json=body)

    async def ask(
        self, method: str, path: str, *, headers: dict[str, str] | None = None, **sent: Any
    ) -> tuple[int, Any]:
        """Any request without the SDK: status and JSON body."""
        own = {"api-key": KEY} if headers is None else headers
        async with self.http.request(method, f"{self.url}{path}", headers=own, **sent) as answer:
            return answer.status, await answer.json()


@asynccontextmanager
async def open_bench(record: Path) -> AsyncIterator[Bench]:
    """A running stand-in that keeps its record in a file, with its clients."""
    server = StandIn("eu-test", DEFAULT_DEPLOYMENTS, key=KEY, record=record)
    url = f"http://127.0.0.1:{await server.start()}"
    try:
        async with (
            aiohttp.ClientSession() as http,
            AsyncAzureOpenAI(
                azure_endpoint=url, api_key=KEY, api_version=API_VERSION, max_retries=0
            ) as azure,
            AsyncOpenAI(base_url=f"{url}/openai/v1/", api_key=KEY, max_retries=0) as v1,
        ):
            yield Bench(url=url, azure=azure, v1=v1, http=http)
    finally:
        await server.stop()
