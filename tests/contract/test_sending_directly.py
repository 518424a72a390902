"""Transactions that are sent directly, beside those that the SDK's pipeline sends, over a socket."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from azure.core.credentials import AzureNamedKeyCredential, AzureSasCredential
from azure.core.pipeline import PipelineRequest
from azure.core.pipeline.policies import AsyncHTTPPolicy
from azure.core.rest import HttpRequest
from azure.data.tables.aio import TableServiceClient

from meter.adapters.odata.sending import SIGNED_SECONDS, SignedHead
from meter.adapters.tables import TablesRowStore
from meter.errors import AccessDenied, StorageUnavailable
from meter.ports import Row, Written
from tests.support.entity_group import CONTENT_TYPE, ETAG, answer, done

KEY, SAS = AzureNamedKeyCredential("account", "a2V5"), AzureSasCredential("sv=1&sig=a%2Bb")
ROW = Row(key="a", columns={"N": 1})
GOOD = answer(done())
# aiohttp's own, and what differs by the moment or the transaction.
APART = {"accept-encoding", "connection", "authorization", "date", "x-ms-date", "content-type"}
APART |= {"x-ms-client-request-id"}


@dataclass
class Service:
    """Answers each request with the next bytes; keeps the requests' lines and headers."""

    answers: list[bytes]
    lines: list[str] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    connections: int = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
                line, *fields = head.rstrip().split("\r\n")
                found = {n.lower(): v for n, _, v in (each.partition(": ") for each in fields)}
                await reader.readexactly(int(found["content-length"]))
                self.lines.append(line)
                self.headers.append(found)
                writer.write(self.answers.pop(0))
        except (asyncio.IncompleteReadError, IndexError, ConnectionError):
            writer.close()


@asynccontextmanager
async def serving(
    *answers: bytes, credential: Any = KEY, directly: bool = True, **options: Any
) -> AsyncIterator[tuple[TablesRowStore, Service]]:
    """A store on a service with these answers, which closes its connections without one."""
    service = Service(list(answers))
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/account"
    client = TableServiceClient(url, credential=credential, retry_backoff_factor=0, **options)
    async with server:
        store = TablesRowStore(client, sends_directly=directly)
        try:
            yield store, service
        finally:
            await store.close()


def http(status: int, body: bytes = b"", headers: str = "") -> bytes:
    head = f"HTTP/1.1 {status} Reason\r\nContent-Type: {CONTENT_TYPE}\r\n{headers}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def write(store: TablesRowStore) -> object:
    return await store.write("T", "p", insert=[ROW])


@pytest.mark.parametrize("credential", [KEY, SAS])
async def test_the_request_is_that_of_the_pipeline(credential: Any) -> None:
    """Same address, same headers, and a signature where there is a key."""
    asked = []
    for directly in (True, False):
        async with serving(http(202, GOOD), credential=credential, directly=directly) as at:
            await write(at[0])
        asked.append((at[1].lines, at[1].headers[0]))

    (lines, ours), (others, sdk) = asked
    assert lines == others
    apart = APART | {"host"}
    assert {n: v for n, v in ours.items() if n not in apart} == {
        n: v for n, v in sdk.items() if n not in apart
    }
    assert ours.keys() - sdk.keys() == set()
    assert ours.get("authorization", "")[:18] == sdk.get("authorization", "")[:18]


async def test_an_accepted_transaction_is_sent_once_and_the_connection_kept() -> None:
    """What the client reads to its end leaves a connection for the next transaction."""
    async with serving(http(202, GOOD), http(202, GOOD)) as (store, service):
        assert [await write(store), await write(store)] == [Written({"a": ETAG})] * 2

    assert (len(service.lines), service.connections) == (2, 1)


@pytest.mark.parametrize("status", [408, 429, 500, 503, 307])
async def test_what_is_not_accepted_goes_through_the_pipeline(status: int) -> None:
    """It retries and redirects; the second time the transaction is applied."""
    async with serving(http(status), http(202, GOOD)) as (store, service):
        assert await write(store) == Written({"a": ETAG})

    assert len(service.lines) == 2


async def test_a_refusal_is_that_of_the_pipeline() -> None:
    """The error is what the SDK's way says of it."""
    denied = http(403, b"", "x-ms-error-code: AuthenticationFailed\r\n")
    async with serving(denied, denied) as (store, _):
        with pytest.raises(AccessDenied, match="T: write: refused AuthenticationFailed 403"):
            await write(store)


@pytest.mark.parametrize("first", [[], [http(202, GOOD)[:-9]]])
async def test_a_connection_that_fails_is_an_outage_and_nothing_is_sent_again(
    first: list[bytes],
) -> None:
    """Whether the transaction was applied is open: the markers decide, with the next delivery."""
    async with serving(*first) as (store, service):
        with pytest.raises(StorageUnavailable, match="T: write: UpstreamBroken"):
            await write(store)

    assert len(service.lines) == 1


async def test_a_service_that_does_not_listen_is_an_outage() -> None:
    """As with the SDK."""
    async with serving() as (store, _):
        pass
    with pytest.raises(StorageUnavailable, match="T: write: UpstreamUnreachable"):
        await write(store)


async def test_with_a_policy_that_is_not_known_the_pipeline_sends_alone() -> None:
    """It may do more than to complete a request."""

    class Unknown(AsyncHTTPPolicy[Any, Any]):
        async def send(self, request: Any) -> Any:
            request.http_request.headers["x-unknown"] = "1"
            return await self.next.send(request)

    service = Service([http(202, GOOD)])
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/account"
    client = TableServiceClient(url, credential=KEY)
    client._policies.insert(0, Unknown())
    async with server:
        store = TablesRowStore(client, sends_directly=True)
        await write(store)
        await store.close()

    assert service.headers[0]["x-unknown"] == "1"


@pytest.mark.parametrize(
    ("seconds", "content_type", "signed"),
    [(0.9, "a", 1), (SIGNED_SECONDS, "a", 2), (0.0, "b", 2)],
    ids=["soon", "later", "other-type"],
)
async def test_a_head_is_signed_once_per_second_and_content_type(
    seconds: float, content_type: str, signed: int
) -> None:
    """Transactions of a second share their head; the next second's are signed again."""
    count = 0

    def sign(request: PipelineRequest[HttpRequest]) -> None:
        nonlocal count
        count += 1
        request.http_request.headers["Authorization"] = f"{count}"

    signing = SignedHead([sign], "http://127.0.0.1/$batch", {"Accept": "application/json"})
    await signing.at(10.0, "a")
    head = await signing.at(10.0 + seconds, content_type)

    assert dict(head.headers) == {
        "accept": "application/json",
        "content-type": content_type,
        "authorization": f"{signed}",
    }


async def test_transactions_of_a_second_have_ids_of_their_own() -> None:
    """The service's logs tell them apart by it."""
    async with serving(http(202, GOOD), http(202, GOOD)) as (store, service):
        await write(store)
        await write(store)

    first, second = [each["x-ms-client-request-id"] for each in service.headers]
    assert first != second
