"""Reading rows and ranges of rows: requests and results are those of azure-data-tables."""

import asyncio
import json
import math
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qs, urlsplit
from uuid import UUID

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.core.rest import HttpRequest
from azure.data.tables import EdmType, EntityProperty
from azure.data.tables import TableServiceClient as SyncServiceClient
from azure.data.tables.aio import TableServiceClient

from meter.adapters.tables import CLIENT_OPTIONS, TablesRowStore
from meter.errors import AccessDenied, StorageUnavailable
from meter.ports import Row
from tests.contract.test_entity_group import KEY, caught

ODD = ["a", "it's", "zoë=😀", "two words", "a+b&c=d,e;f(g)$h!i*", "'; drop", "100%25", "x" * 400]
TABLE = "OfAllTypes"
GUID = UUID("c9da6455-213d-42c9-9a79-3e9149a57833")
VALUES: Sequence[Mapping[str, object]] = [
    {},
    {"Text": 'zoë "😀"\n\\', "Empty": "", "LooksLike": "2026-11-23T07:30:15Z"},
    {"Small": (7, EdmType.INT64), "Large": (-(2**63), EdmType.INT64), "Int32": 2**31 - 1},
    {"At": datetime(2026, 11, 23, 7, 30, 15, 123456, tzinfo=UTC), "Id": GUID},
    {"Day": datetime(2026, 11, 23, tzinfo=UTC), "Old": datetime(1601, 1, 3, tzinfo=UTC)},
    {"Digits": ("2026-11-23T07:30:15.1234567Z", EdmType.DATETIME)},
    {
        "Half": 0.5,
        "Whole": 1.0,
        "Endless": math.inf,
        "Yes": True,
        "No": False,
        "Bytes": b"\x00\xff",
    },
]


@pytest.fixture(scope="module")
def stored(azurite: str) -> str:
    """Storage with a table of all types of values under odd keys."""
    with SyncServiceClient.from_connection_string(azurite) as service:
        table = service.create_table(TABLE)
        for partition in ODD:
            for number, values in enumerate(VALUES):
                place = {"PartitionKey": partition, "RowKey": f"{ODD[number]}-{number}"}
                table.create_entity({**place, **values})
    return azurite


@pytest.fixture
async def filled(stored: str) -> AsyncIterator[TableServiceClient]:
    async with TableServiceClient.from_connection_string(stored, **CLIENT_OPTIONS) as service:
        yield service


def of_the_sdk(entity: Any) -> tuple[str, Row]:
    columns = {
        name: value.value if isinstance(value, EntityProperty) else value
        for name, value in entity.items()
        if name not in {"PartitionKey", "RowKey"}
    }
    metadata = entity.metadata
    row = Row(key=entity["RowKey"], columns=columns, etag=metadata["etag"])
    return entity["PartitionKey"], row


def detailed(found: Sequence[tuple[str, Row]]) -> list[object]:
    """With the types of values, and the service's own text of a moment where it has more digits."""
    return [
        (
            partition,
            row,
            {name: isinstance(value, bool) for name, value in row.columns.items()},
            {
                name: getattr(value, "tables_service_value", "")[26:].strip("0Z")
                for name, value in row.columns.items()
                if isinstance(value, datetime)
            },
        )
        for partition, row in found
    ]


@pytest.mark.parametrize("partition", ODD)
@pytest.mark.parametrize("columns", [None, (), ("Text", "Small", "At", "Absent")])
async def test_a_scan_gives_what_the_sdk_gives(
    filled: TableServiceClient, partition: str, columns: Sequence[str] | None
) -> None:
    """The same partitions, keys, values, types and etags, of all columns or of some."""
    select = None if columns is None else ["PartitionKey", "RowKey", *columns]
    pages = filled.get_table_client(TABLE).query_entities(
        "PartitionKey eq @p", parameters={"p": partition}, select=select
    )
    theirs = [of_the_sdk(entity) async for entity in pages]
    scan = TablesRowStore(filled).scan(
        TABLE, first_partition=partition, last_partition=partition, columns=columns
    )
    ours = [each async for each in scan]

    assert detailed(ours) == detailed(theirs)
    assert len(ours) == len(VALUES)


@pytest.mark.parametrize("partition", ODD)
async def test_a_read_gives_what_the_sdk_gives(filled: TableServiceClient, partition: str) -> None:
    """Of rows by key, whatever characters the keys have."""
    table = filled.get_table_client(TABLE)
    keys = [f"{ODD[number]}-{number}" for number in range(len(VALUES))]
    theirs = [of_the_sdk(await table.get_entity(partition, key)) for key in keys]
    found = await TablesRowStore(filled).read(TABLE, partition, keys)

    assert detailed([(partition, found[key]) for key in keys]) == detailed(theirs)


RANGES: Sequence[Mapping[str, Any]] = [
    {"first_partition": "p", "last_partition": "p"},
    {"first_partition": "p", "last_partition": "q", "first_key": "it's"},
    {"first_partition": "it's", "last_partition": "it's", "first_key": "", "last_key": "zoë😀"},
    {"first_partition": "a%27 b&c", "last_partition": "a%27 b&c", "columns": ("N", "M")},
]


@pytest.mark.parametrize("where", RANGES)
async def test_a_query_asks_as_the_sdk_asks(where: Mapping[str, Any]) -> None:
    """The same address, options and headers."""
    bounds = {
        "PartitionKey ge": where["first_partition"],
        "PartitionKey le": where["last_partition"],
        "RowKey ge": where.get("first_key"),
        "RowKey le": where.get("last_key"),
    }
    if where["first_partition"] == where["last_partition"]:
        bounds = {"PartitionKey eq": bounds.pop("PartitionKey ge"), **bounds}
        del bounds["PartitionKey le"]
    given = {term: value for term, value in bounds.items() if value is not None}
    query = " and ".join(f"{term} @{number}" for number, term in enumerate(given))
    parameters = {str(number): value for number, value in enumerate(given.values())}
    columns = where.get("columns")
    select = None if columns is None else ["PartitionKey", "RowKey", *columns]

    async def theirs(service: TableServiceClient) -> object:
        table = service.get_table_client("T")
        return [e async for e in table.query_entities(query, parameters=parameters, select=select)]

    async def ours(service: TableServiceClient) -> object:
        return [each async for each in TablesRowStore(service).scan("T", **where)]

    url = "https://account.table.core.windows.net"
    assert described(await caught(ours, url, KEY)) == described(await caught(theirs, url, KEY))


@pytest.mark.parametrize("key", ODD)
async def test_a_read_asks_as_the_sdk_asks(key: str) -> None:
    """The same address and headers."""

    async def theirs(service: TableServiceClient) -> object:
        return await service.get_table_client("T").get_entity(key, key)

    async def ours(service: TableServiceClient) -> object:
        return await TablesRowStore(service).read("T", key, [key])

    url = "https://account.table.core.windows.net"
    assert described(await caught(ours, url, KEY)) == described(await caught(theirs, url, KEY))


def described(request: HttpRequest) -> object:
    url = urlsplit(request.url)
    varying = {"x-ms-client-request-id", "x-ms-date", "date", "authorization"}
    headers = {name.lower(): value for name, value in request.headers.items()}
    kept = {name: value for name, value in headers.items() if name not in varying}
    return request.method, url.netloc, url.path, parse_qs(url.query), kept


@dataclass
class Pages:
    """Answers each request with the next of these; keeps the queries."""

    answers: list[bytes]
    asked: list[Mapping[str, Sequence[str]]] = field(default_factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.asked.append(parse_qs(urlsplit(head.split()[1]).query))
        writer.write(self.answers.pop(0))
        await writer.drain()
        writer.close()


@asynccontextmanager
async def answering(*answers: bytes) -> AsyncIterator[tuple[TableServiceClient, Pages]]:
    pages = Pages(list(answers))
    server = await asyncio.start_server(pages.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/account"
    options = {**CLIENT_OPTIONS, "retry_backoff_factor": 0}
    credential = AzureNamedKeyCredential("account", "a2V5")
    async with server, TableServiceClient(url, credential=credential, **options) as client:
        yield client, pages


def page(*keys: str, after: Sequence[str | None] = (None, None), status: int = 200) -> bytes:
    rows = [{"odata.etag": "e", "PartitionKey": "p", "RowKey": key} for key in keys]
    body = json.dumps({"odata.metadata": "m", "value": rows}).encode()
    names = ("NextPartitionKey", "NextRowKey")
    more = [
        f"x-ms-continuation-{name}: {value}\r\n"
        for name, value in zip(names, after, strict=True)
        if value is not None
    ]
    head = f"HTTP/1.1 {status} R\r\nContent-Type: application/json\r\n{''.join(more)}"
    return f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def scanned(client: TableServiceClient) -> list[str]:
    scan = TablesRowStore(client).scan("T", first_partition="p", last_partition="p")
    return [row.key async for _, row in scan]


async def test_pages_follow_each_other_to_the_last() -> None:
    """An empty page may have a next one; what it says is given back as it is."""
    answers = [
        page("a", after=("1!4!cA--", "1!8!Yg&=")),
        page(after=("1!4!cA--", "1!8!Yw--")),
        page("c", after=("1!4!cQ--", None)),
        page("d"),
    ]
    async with answering(*answers) as (client, pages):
        assert await scanned(client) == ["a", "c", "d"]

    given = [
        (query.get("NextPartitionKey"), query.get("NextRowKey"), query["$filter"])
        for query in pages.asked
    ]
    same = ["PartitionKey eq 'p'"]
    assert given == [
        (None, None, same),
        (["1!4!cA--"], ["1!8!Yg&="], same),
        (["1!4!cA--"], ["1!8!Yw--"], same),
        (["1!4!cQ--"], None, same),
    ]


async def test_a_page_that_breaks_off_is_asked_for_again() -> None:
    """By the SDK, as if it had not been answered: no row is left out or given twice."""
    answers = [page("a", after=("p", "b")), page("b", "c")[:-20], page("b", status=503), page("b")]
    async with answering(*answers) as (client, _):
        assert await scanned(client) == ["a", "b"]


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"{}",
        b"[]",
        b'{"value": {}}',
        b'{"value": [1]}',
        b'{"value": [{"RowKey": "a"}]}',
        b'{"value": [{"PartitionKey": "p", "RowKey": "a", "N@odata.type": "Edm.Int64", "N": "x"}]}',
    ],
)
@pytest.mark.parametrize("kind", ["application/json", "text/html"])
async def test_a_page_that_cannot_be_read_is_an_outage(body: bytes, kind: str) -> None:
    """It is not taken for one without rows."""
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    async with answering(*[head.encode() + body] * 4) as (client, _):
        with pytest.raises(StorageUnavailable, match="T: query"):
            await scanned(client)


@pytest.mark.parametrize("status", [400, 403, 500])
async def test_an_error_of_a_query_or_a_read_is_reported(status: int) -> None:
    """With its code and status; 403 is a lack of rights."""
    body = b'{"odata.error": {"code": "SomeCode", "message": {"value": "m"}}}'
    head = f"HTTP/1.1 {status} R\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
    kind = AccessDenied if status == 403 else StorageUnavailable
    async with answering(*[head.encode() + body] * 8) as (client, _):
        with pytest.raises(kind, match=f"^T: query: refused SomeCode {status}$"):
            await scanned(client)
        with pytest.raises(kind, match=f"^T: read: refused SomeCode {status}$"):
            await TablesRowStore(client).read("T", "p", ["a"])
