"""Connections to Table Storage: kept while they are in use, left before the service closes them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from azure.core.pipeline import PipelineResponse

from meter.adapters import tables
from meter.adapters.clients import build_store
from meter.config.values import AzureEndpoint, StorageSettings

ANSWER = b'{"value":[]}'
HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(
    ANSWER
)


@asynccontextmanager
async def service() -> AsyncIterator[tuple[str, list[str]]]:
    """A table service without tables: its connection string, and the connections to it."""
    connections: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(str(writer.get_extra_info("peername")))
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(HEAD + ANSWER)
        except asyncio.IncompleteReadError:
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    account = "AccountName=a;AccountKey=a2V5"
    async with server:
        yield f"{account};TableEndpoint=http://127.0.0.1:{port}/a", connections


@pytest.mark.parametrize(("idle_seconds", "made"), [(30.0, 1), (0.05, 2)])
async def test_a_connection_that_was_idle_for_long_is_not_used_again(
    monkeypatch: pytest.MonkeyPatch, idle_seconds: float, made: int
) -> None:
    """The service may close it just as a transaction is sent, and nobody knows what became of that."""
    monkeypatch.setattr(tables, "IDLE_SECONDS", idle_seconds)
    async with service() as (connection, connections):
        endpoint = AzureEndpoint(connection_string=connection)
        store = build_store(StorageSettings(endpoint=endpoint, retention=timedelta(days=1)))
        try:
            await store.ping()
            await asyncio.sleep(0.2)
            await store.ping()
        finally:
            await store.close()

    assert len(connections) == made


async def test_a_read_leaves_no_answer_for_the_garbage_collection() -> None:
    """The SDK's answer refers to what the caller gave with the request, which must not refer to it."""
    async with service() as (connection, _):
        endpoint = AzureEndpoint(connection_string=connection)
        store = build_store(StorageSettings(endpoint=endpoint, retention=timedelta(days=1)))
        gc.collect()
        gc.disable()
        try:
            rows = store.scan("Usage", first_partition="a", last_partition="b")
            assert [each async for each in rows] == []
            left = [each for each in gc.get_objects() if isinstance(each, PipelineResponse)]
        finally:
            gc.enable()
            await store.close()

    assert left == []
