"""The adapter's reading of transaction answers over a socket: complete, broken and malformed."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from azure.core.credentials import AzureNamedKeyCredential
from azure.data.tables import TableTransactionError
from azure.data.tables.aio import TableServiceClient
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.adapters.odata.transaction import decode
from meter.adapters.tables import TablesRowStore
from meter.errors import RowsRefused, StorageUnavailable, TableMissing
from meter.ports import MAX_TRANSACTION_ROWS, Conflict, Row, Written
from tests.support.entity_group import CONTENT_TYPE, ETAG, answer, done, failed, odata_error

KEY = AzureNamedKeyCredential("account", "a2V5")


@dataclass
class ScriptedService:
    """Answers each request with the next bytes, then disconnects; keeps the requests' first lines."""

    answers: list[bytes]
    asked: list[str] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = head.partition("content-length:")[2].partition("\r\n")[0]
            await reader.readexactly(int(length))
            self.asked.append(head.split()[1])
            writer.write(self.answers.pop(0))
            await writer.drain()
        finally:
            writer.close()


@asynccontextmanager
async def scripted(*answers: bytes) -> AsyncIterator[tuple[TableServiceClient, ScriptedService]]:
    """A client of a service with these answers. The SDK does not retry."""
    service = ScriptedService(list(answers))
    server = await asyncio.start_server(service.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/account"
    async with server, TableServiceClient(url, credential=KEY, retry_total=0) as client:
        yield client, service


def http(
    status: int, body: bytes, *, content_type: str | None = CONTENT_TYPE, headers: str = ""
) -> bytes:
    if content_type is not None:
        headers += f"Content-Type: {content_type}\r\n"
    head = f"HTTP/1.1 {status} Reason\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    return head.encode() + body


def batch(*responses: str) -> bytes:
    return http(202, answer(*responses))


A, B = Row(key="a", columns={"N": 1}), Row(key="b", columns={"N": 2}, etag='W/"0"')
TABLE_NOT_FOUND = batch(failed(404, "TableNotFound"))
TABLE_EXISTS = http(409, odata_error("TableAlreadyExists").encode(), content_type=None)


async def write(client: TableServiceClient) -> Written | Conflict:
    return await TablesRowStore(client).write("T", "p", insert=[A], update=[B], delete=[])


async def test_a_success_is_the_rows_with_their_etags() -> None:
    """Etags come in the order of the rows, inserted ones first."""
    async with scripted(batch(done('W/"1"'), done('W/"2"'))) as (client, _):
        assert await write(client) == Written({"a": 'W/"1"', "b": 'W/"2"'})


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (409, "EntityAlreadyExists"),
        (412, "UpdateConditionNotSatisfied"),
        (404, "ResourceNotFound"),
        (400, "InvalidDuplicateRow"),
    ],
)
async def test_an_error_of_contention_is_a_conflict(status: int, code: str) -> None:
    """For any row, even if others report success; the error is in the body or in a header."""
    answers = [failed(status, code)], [done(), failed(status, code)]
    for responses in (*answers, [failed(status, None, header=code)]):
        async with scripted(batch(*responses)) as (client, _):
            result = await write(client)
        assert isinstance(result, Conflict)
        assert result.exists is (code == "EntityAlreadyExists")


async def test_a_missing_table_is_created_only_where_the_writer_may() -> None:
    """One request then: the ledger of a month that was dropped must not begin again."""
    async with scripted(TABLE_NOT_FOUND) as (client, _):
        with pytest.raises(TableMissing, match="T"):
            await TablesRowStore(client).write("T", "p", insert=[A], creates_table=False)


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidInput"),
        (400, "PropertyValueTooLarge"),
        (400, "EntityTooLarge"),
        (400, "OutOfRangeInput"),
        (413, "RequestBodyTooLarge"),
    ],
)
async def test_rows_that_cannot_be_stored_are_refused(status: int, code: str) -> None:
    """No repeat will help, so the writer must know it from an outage."""
    for answered in (batch(failed(status, code)), http(status, odata_error(code).encode())):
        async with scripted(answered) as (client, _):
            with pytest.raises(RowsRefused, match=code):
                await write(client)


@pytest.mark.parametrize("value", [2**63, object()])
async def test_a_value_that_has_no_type_in_storage_is_refused_unsent(value: object) -> None:
    """The message names the column."""
    async with scripted() as (client, _):
        with pytest.raises(RowsRefused, match=r"T: write: \w+Error: N: "):
            await TablesRowStore(client).write(
                "T", "p", insert=[Row(key="a", columns={"N": value})]
            )


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "InvalidInput"),
        (413, "RequestBodyTooLarge"),
        (403, "AuthorizationFailure"),
        (500, "OperationTimedOut"),
        (503, "ServerBusy"),
        (102, None),
        (304, None),
        (409, None),
    ],
)
async def test_any_other_error_is_an_outage_by_its_name(status: int, code: str | None) -> None:
    """The error has status and code, so that an operator can look it up."""
    async with scripted(batch(failed(status, code))) as (client, _):
        with pytest.raises(StorageUnavailable) as caught:
            await write(client)

    assert str(caught.value) == " ".join(filter(None, ["T: write: refused", code, str(status)]))


async def test_a_table_that_is_missing_is_made() -> None:
    """The same request is then retried once."""
    async with scripted(TABLE_NOT_FOUND, TABLE_EXISTS, batch(done(), done())) as (client, service):
        assert await write(client) == Written({"a": ETAG, "b": ETAG})
        assert service.asked == ["/account/$batch", "/account/tables", "/account/$batch"]


async def test_a_table_that_stays_missing_is_an_outage() -> None:
    """The table may be in deletion."""
    async with scripted(TABLE_NOT_FOUND, TABLE_EXISTS, TABLE_NOT_FOUND) as (client, service):
        with pytest.raises(StorageUnavailable, match="T: write: refused TableNotFound 404"):
            await write(client)
        assert len(service.asked) == 3


XML_ERROR = b'<?xml version="1.0"?><error><code>InvalidInput</code><message>m</message></error>'


@pytest.mark.parametrize("status", [200, 400, 403, 404, 409, 413, 429, 500, 503])
@pytest.mark.parametrize(
    ("body", "headers", "code"),
    [
        (odata_error("EntityAlreadyExists").encode(), "", "EntityAlreadyExists"),
        (XML_ERROR, "x-ms-error-code: Other\r\n", "InvalidInput"),
        (b"", "x-ms-error-code: ServerBusy\r\n", "ServerBusy"),
        (b"\xff<html>busy</html>", "", None),
        (answer(done(), done()), "", None),
    ],
    ids=["json", "xml", "header", "neither", "a success"],
)
async def test_an_answer_that_is_no_batch_is_an_outage(
    status: int, body: bytes, headers: str, code: str | None
) -> None:
    """Regardless of its code: a conflict is only reported inside a batch."""
    async with scripted(http(status, body, headers=headers)) as (client, _):
        with pytest.raises(StorageUnavailable) as caught:
            await write(client)

    assert str(caught.value) == " ".join(filter(None, ["T: write: refused", code, str(status)]))


@pytest.mark.parametrize(
    ("given_answer", "why"),
    [
        (batch(), "0 answers to 2 rows"),
        (batch(done()), "1 answers to 2 rows"),
        (batch(done(), done(), done()), "3 answers to 2 rows"),
        (batch(done(), done(None)), "an answer without an etag"),
        (http(202, answer(done(), done()), content_type=None), "ValueError"),
        (http(202, answer(done(), done()), content_type="text/plain"), "ValueError"),
        (http(202, b""), "ValueError"),
        (http(202, answer(done(), done()), headers="Content-Encoding: gzip\r\n"), "error"),
        (batch(done(), done())[:-9], "IncompleteReadError"),
        (b"", "Service.*Error"),
    ],
)
async def test_a_success_that_is_not_whole_is_an_outage(given_answer: bytes, why: str) -> None:
    """Only rows confirmed by the service count as written."""
    async with scripted(given_answer) as (client, _):
        with pytest.raises(StorageUnavailable, match=f"^T: write: .*{why}"):
            await write(client)


async def test_a_compressed_answer_is_read() -> None:
    """The transport accepts compression."""
    body = gzip.compress(answer(done('W/"1"'), done('W/"2"')))
    async with scripted(http(202, body, headers="Content-Encoding: gzip\r\n")) as (client, _):
        assert await write(client) == Written({"a": 'W/"1"', "b": 'W/"2"'})


@pytest.mark.parametrize("count", [0, MAX_TRANSACTION_ROWS + 1])
async def test_what_the_service_would_refuse_is_not_sent(count: int) -> None:
    """It is reported as an outage, as if the service had refused it."""
    rows = [Row(key=str(number), columns={}) for number in range(count)]
    async with scripted() as (client, service):
        with pytest.raises(StorageUnavailable, match="T: write: ValueError"):
            await TablesRowStore(client).write("T", "p", insert=rows, update=[])
        assert service.asked == []


@pytest.mark.filterwarnings("ignore:Testing an element's truth value")  # by the SDK, of XML
@pytest.mark.parametrize(
    "responses",
    [
        [done('W/"1"'), done('W/"2"')],
        [done('W/"1"'), done(None)],
        [failed(409, "EntityAlreadyExists")],
        [done(), failed(412, "UpdateConditionNotSatisfied")],
        [failed(404, None, header="TableNotFound")],
        [failed(503, "ServerBusy", header="Other")],
        [failed(400, None).replace("json", "xml") + XML_ERROR.decode()],
    ],
)
async def test_an_answer_is_read_as_the_sdk_reads_it(responses: list[str]) -> None:
    """Both readers give the same etags, or the same error code."""
    parts = decode(CONTENT_TYPE, answer(*responses))
    ours = [part for part in parts if not 200 <= part.status < 300] or parts
    theirs: list[tuple[str | None, str | None]]
    async with scripted(batch(*responses)) as (client, _):
        rows = [("create", {"PartitionKey": "p", "RowKey": key}) for key in "ab"]
        try:
            found = await client.get_table_client("T").submit_transaction(rows)
            theirs = [(metadata.get("etag"), None) for metadata in found]
        except TableTransactionError as exc:
            theirs = [(None, exc.error_code)]  # type: ignore[attr-defined]  # not declared

    assert [(part.etag, part.error_code) for part in ours] == theirs


WHOLE_ANSWERS = [
    answer(done('W/"1"'), done('W/"2"')),
    answer(failed(409, "EntityAlreadyExists")),
    answer(failed(500, "OperationTimedOut")),
]


@st.composite
def damaged(draw: st.DrawFn) -> tuple[bytes, bytes]:
    """An answer, and a copy with some bytes removed, replaced or inserted."""
    whole = draw(st.sampled_from(WHOLE_ANSWERS))
    start = draw(st.integers(0, len(whole)))
    end = draw(st.integers(start, min(len(whole), start + draw(st.sampled_from([1, 9, 9999])))))
    return whole, whole[:start] + draw(st.binary(max_size=9)) + whole[end:]


@settings(deadline=None)
@given(damaged())
async def test_a_damaged_answer_is_never_a_success_of_something_else(
    answers: tuple[bytes, bytes],
) -> None:
    """Rows count as written only if the service confirmed each; only the port's exceptions are raised."""
    whole, body = answers
    async with scripted(http(202, body)) as (client, _):
        try:
            result = await write(client)
        except StorageUnavailable:
            return

    if isinstance(result, Written):
        assert whole == WHOLE_ANSWERS[0]
        assert list(result.etags) == ["a", "b"]
    else:
        assert whole == WHOLE_ANSWERS[1]
