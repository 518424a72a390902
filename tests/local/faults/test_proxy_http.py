"""The fault proxy on HTTP: requests are numbered, and fail before or after the server has them."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import aiohttp
import pytest
from aiohttp import web
from azure.data.tables.aio import TableServiceClient

from local.faults import Flow, HttpFaultProxy, RequestFault, Rules
from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import StorageUnavailable
from meter.ports import Conflict, Row, Written

BUSY = json.dumps({"odata.error": {"code": "ServerBusy", "message": {"value": "busy"}}})


@dataclass
class Server:
    """Records the requests it answered."""

    port: int = 0
    applied: list[str] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.applied.append(f"{request.method} {request.path_qs} {body.decode()[:20]}")
        return web.Response(body=body[::-1], headers={"x-served": str(len(self.applied))})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application(client_max_size=10_000_000)
    app.router.add_route("*", "/{path:.*}", server.answer)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    server.port = runner.addresses[0][1]
    yield server
    await runner.cleanup()


@dataclass
class Bench:
    """A proxy in front of the server, and a client of it."""

    proxy: HttpFaultProxy
    url: str
    http: aiohttp.ClientSession

    async def ask(
        self, method: str, path: str, body: str = "", identity: str | None = None
    ) -> tuple[int, str]:
        """Status and body; 0 when the connection broke, after which aiohttp itself retries all but POST."""
        headers = {} if identity is None else {"x-ms-client-request-id": identity}
        try:
            async with self.http.request(
                method, self.url + path, data=body.encode(), headers=headers
            ) as answer:
                return answer.status, await answer.text()
        except aiohttp.ClientConnectionError:
            return 0, "broken"


@pytest.fixture
async def bench(server: Server) -> AsyncIterator[Bench]:
    proxy = HttpFaultProxy("127.0.0.1", server.port)
    port = await proxy.start()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
        yield Bench(proxy, f"http://127.0.0.1:{port}", http)
    await proxy.stop()


async def test_without_rules_requests_and_answers_pass_unchanged(
    bench: Bench, server: Server
) -> None:
    """Short and long, chunked or not, with a body or none, HEAD too."""
    large = "0123456789" * 50_000
    answers = [
        await bench.ask("GET", "/a?b=c"),
        await bench.ask("POST", "/large", large),
        await bench.ask("HEAD", "/head"),
    ]

    async def chunks() -> AsyncIterator[bytes]:
        for piece in (b"one", b"two"):
            yield piece

    async with bench.http.put(bench.url + "/chunked", data=chunks()) as answer:
        chunked = await answer.text()

    assert answers == [(200, ""), (200, large[::-1]), (200, "")]
    assert chunked == "owteno"
    assert server.applied == [
        *("GET /a?b=c ", f"POST /large {large[:20]}", "HEAD /head ", "PUT /chunked onetwo"),
    ]
    assert bench.proxy.stats()["requests"] == 4


async def test_one_connection_carries_many_requests(server: Server) -> None:
    """It is kept alive on both sides, also after an answer by the proxy itself."""
    proxy = HttpFaultProxy("127.0.0.1", server.port)
    port = await proxy.start()
    await proxy.put(Rules(requests=(RequestFault(number=2, status=503),)))
    statuses = []
    async with aiohttp.ClientSession() as http:
        for number in range(4):
            async with http.get(f"http://127.0.0.1:{port}/{number}") as answer:
                statuses.append(answer.status)
    stats = proxy.stats()
    await proxy.stop()

    assert statuses == [200, 503, 200, 200]
    assert server.applied == ["GET /0 ", "GET /2 ", "GET /3 "]
    assert (stats["connections"], stats["requests"], stats["struck"]) == (1, 4, 1)


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RequestFault(number=2, status=503), (503, "")),
        (RequestFault(number=2, status=429, answer=BUSY), (429, BUSY)),
        (RequestFault(number=2), (0, "broken")),
    ],
    ids=["unavailable", "busy", "reset"],
)
async def test_a_request_fails_before_the_server_has_it(
    bench: Bench, server: Server, fault: RequestFault, told: tuple[int, str]
) -> None:
    """Only number k fails, and the server never sees it."""
    await bench.proxy.put(Rules(requests=(fault,)))
    answers = [await bench.ask("POST", f"/{number}", "x") for number in (1, 2, 3)]

    assert answers == [(200, "x"), told, (200, "x")]
    assert server.applied == ["POST /1 x", "POST /3 x"]


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RequestFault(number=2, applied=True, status=500), (500, "")),
        (RequestFault(number=2, applied=True), (0, "broken")),
    ],
    ids=["error", "reset"],
)
async def test_a_request_fails_after_the_server_has_answered_it(
    bench: Bench, server: Server, fault: RequestFault, told: tuple[int, str]
) -> None:
    """The request is applied, but the caller gets an error, or no answer."""
    await bench.proxy.put(Rules(requests=(fault,)))
    answers = [await bench.ask("POST", f"/{number}", "x") for number in (1, 2, 3)]

    assert answers == [(200, "x"), told, (200, "x")]
    assert server.applied == ["POST /1 x", "POST /2 x", "POST /3 x"]


async def test_a_fault_strikes_the_next_requests_that_fit(bench: Bench) -> None:
    """All of method, substring of the path and substring of the body must match; `count` times."""
    await bench.proxy.put(
        Rules(requests=(RequestFault(method="POST", path="batch", body="s|", count=2, status=503),))
    )
    asked = [
        *(("GET", "/batch", "s|"), ("POST", "/other", "s|"), ("POST", "/$batch", "c|")),
        *(("POST", "/$batch", "a s|b"), ("POST", "/$batch", "s|"), ("POST", "/$batch", "s|")),
    ]
    statuses = [(await bench.ask(*words))[0] for words in asked]

    assert statuses == [200, 200, 200, 503, 503, 200]


async def test_numbers_begin_anew_with_each_set_of_rules(bench: Bench) -> None:
    """Request 1 is the first after the rules were set."""
    await bench.ask("GET", "/before")
    await bench.proxy.put(Rules(requests=(RequestFault(number=1, status=503),)))
    statuses = [(await bench.ask("GET", "/after"))[0] for _ in range(2)]

    assert statuses == [503, 200]


async def test_a_fault_may_follow_the_repeats_of_a_request(bench: Bench) -> None:
    """The SDK's own retries have the identity of the first attempt; other requests pass meanwhile."""
    await bench.proxy.put(Rules(requests=(RequestFault(number=1, repeats=True, status=503),)))
    identities = ["a", "b", "a", "a", "c"]
    statuses = [(await bench.ask("GET", "/", identity=identity))[0] for identity in identities]

    assert statuses == [503, 200, 503, 503, 200]


async def test_the_rules_for_bytes_hold_for_requests_too(bench: Bench, server: Server) -> None:
    """Requests are cut, dropped or swallowed, as without HTTP."""
    await bench.proxy.put(Rules(down=Flow(end_after_bytes=20)))
    cut = await bench.ask("POST", "/", "x")
    await bench.proxy.put(Rules(drop_answers=True))
    dropped = await bench.ask("POST", "/", "y")
    await bench.proxy.put(Rules(blackhole=True))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await bench.ask("POST", "/lost", "x")
    await bench.proxy.clear()

    assert (cut, dropped) == ((0, "broken"), (0, "broken"))
    assert await bench.ask("GET", "/") == (200, "")
    assert server.applied == ["POST / x", "POST / y", "GET / "]


async def test_what_is_not_http_is_reset(bench: Bench, server: Server) -> None:
    """It does not reach the server."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(bench.url).port)
    writer.write(b"\x00AMQP\r\n\r\n")
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()

    assert server.applied == []


async def test_signed_storage_requests_pass_on_another_port(azurite: str) -> None:
    """SharedKey covers the path, not the port. A fault before leaves nothing stored, one after does."""
    [endpoint] = [part for part in azurite.split(";") if part.startswith("TableEndpoint=")]
    target = urlsplit(endpoint.partition("=")[2]).port or 0
    proxy = HttpFaultProxy("127.0.0.1", target)
    port = await proxy.start()
    options = {**CLIENT_OPTIONS, "retry_total": 0}
    store = TablesRowStore(
        TableServiceClient.from_connection_string(
            azurite.replace(f":{target}", f":{port}"), **options
        ),
        sends_directly=True,
    )
    written = await store.write(
        "Signed", "p", insert=[Row(key="plain", columns={"N": 1})], update=[]
    )
    for key, is_applied in (("before", False), ("after", True)):
        fault = RequestFault(method="POST", body=key, applied=is_applied)
        await proxy.put(Rules(requests=(fault,)))
        with pytest.raises(StorageUnavailable):
            await store.write("Signed", "p", insert=[Row(key=key, columns={"N": 1})], update=[])
    await proxy.clear()
    again = await store.write("Signed", "p", insert=[Row(key="after", columns={"N": 2})], update=[])
    found = await store.read("Signed", "p", ["plain", "before", "after"])
    await store.close()
    await proxy.stop()

    assert isinstance(written, Written)
    assert isinstance(again, Conflict)
    assert {key: row.columns["N"] for key, row in found.items()} == {"plain": 1, "after": 1}
