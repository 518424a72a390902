"""The clients of Azure's SDKs over sockets: proxies of the environment, and nothing else of it."""

import asyncio
from datetime import timedelta
from pathlib import Path

import pytest

from meter.adapters.clients import build_store
from meter.config.values import AzureEndpoint, StorageSettings

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n"
ANSWER += b'{"value":[]}'


async def first_line(port_of: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The first line of the request that arrives at a server, the service or the proxy."""
    lines: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        lines.append((await reader.readuntil(b"\r\n\r\n")).decode().splitlines()[0])
        writer.write(ANSWER)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    if port_of == "proxy":
        monkeypatch.setenv("http_proxy", f"http://{address}")
        address = "tables.invalid:80"
    text = f"AccountName=a;AccountKey=a2V5;TableEndpoint=http://{address}/a;"
    endpoint = AzureEndpoint(connection_string=f"DefaultEndpointsProtocol=http;{text}")
    async with server:
        store = build_store(StorageSettings(endpoint=endpoint, retention=timedelta(days=1)))
        assert await store.names("") == []
        await store.close()
    return lines[0]


async def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """The request goes there, with the whole address."""
    assert (await first_line("proxy", monkeypatch)).startswith("GET http://tables.invalid/a/Tables")


async def test_without_a_proxy_the_environment_is_not_read_for_each_request(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """aiohttp would read ~/.netrc, here one that it complains about, in another thread."""
    for name in (
        "http_proxy",
        "HTTP_PROXY",
        "https_proxy",
        "HTTPS_PROXY",
        "all_proxy",
        "ALL_PROXY",
    ):
        monkeypatch.delenv(name, raising=False)
    netrc = tmp_path / "netrc"
    netrc.write_text("no netrc")
    monkeypatch.setenv("NETRC", str(netrc))

    assert (await first_line("service", monkeypatch)).startswith("GET /a/Tables")
    assert "netrc" not in caplog.text
