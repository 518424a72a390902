"""`meter.ports.RowStore` and `Tables` on Azure Table Storage (azure-data-tables).

Whole numbers are stored as Edm.Int64, so that sums may exceed 2^31. Tables are created by the first
write. Transactions and reads use the SDK's pipeline (authentication, retries, transport) with our own
requests and decoding, see decision 0018.
"""

import asyncio
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any
from uuid import uuid4

import aiohttp
from azure.core.credentials_async import AsyncTokenCredential
from azure.core.exceptions import (
    AzureError,
)
from azure.core.pipeline import PipelineResponse
from azure.core.pipeline.policies import ContentDecodePolicy
from azure.core.pipeline.transport import AioHttpTransport
from azure.core.rest import AsyncHttpResponse, HttpRequest
from azure.data.tables.aio import TableServiceClient

from meter.adapters.failures import failure_of
from meter.adapters.odata.query import (
    ACCEPT,
    Range,
    address_of,
    address_of_page,
    continuation,
    row_of,
    rows_of,
)
from meter.adapters.odata.sending import ACCEPTED, ERROR, SendTransaction, transaction_sender
from meter.adapters.odata.transaction import Part, decode, encode, error_code, read_etags
from meter.adapters.upstream.client import HttpUpstream
from meter.errors import (
    AccessDenied,
    NotSignedIn,
    RowsRefused,
    StorageUnavailable,
    TableMissing,
    UpstreamError,
)
from meter.ports import Conflict, Row, Written

MAX_CONCURRENT_READS = 16
OK, NOT_FOUND = 200, 404
CLIENT_OPTIONS: Mapping[str, Any] = {
    # The caller retries a whole batch; these retries only cover short interruptions.
    "retry_total": 3,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 2,
    "connection_timeout": 5,
    "read_timeout": 15,
}

# Azurite closes connections that are idle for 5 s. One that is closed just as a transaction is sent leaves
# open whether it was applied.
IDLE_SECONDS = 4.0

type _Send = Callable[..., Awaitable[AsyncHttpResponse]]

_EXISTS = "EntityAlreadyExists"
_CONFLICTS = frozenset(
    {
        _EXISTS,
        "UpdateConditionNotSatisfied",
        "ResourceNotFound",
        "InvalidDuplicateRow",
    }
)
# What Microsoft's "Table service error codes" says of the entity, not of the moment.
_REFUSALS = frozenset(
    {
        "EntityTooLarge",
        "InvalidInput",
        "InvalidValueType",
        "OutOfRangeInput",
        "PropertyValueTooLarge",
        "RequestBodyTooLarge",
        "TooManyProperties",
    }
)
_DENIED = frozenset({401, 403})
# The last three are what the SDK lets through when it cannot read an answer.
_FAULTS = (
    AzureError,
    UpstreamError,
    aiohttp.ClientError,
    OSError,
    ValueError,
    AttributeError,
    zlib.error,
)


class TablesTransport(AioHttpTransport):  # type: ignore[misc]  # a lazy export, untyped
    """The SDK's transport, but it keeps idle connections for less time than the service does."""

    def __init__(self, *, reads_environment: bool = False) -> None:
        # Read from there, aiohttp asks for proxies and ~/.netrc in two threads, for every request.
        super().__init__(**CLIENT_OPTIONS, use_env_settings=reads_environment)
        self._reads_environment = reads_environment

    async def open(self) -> None:
        """Open a session, as the SDK's does."""
        if not self._has_been_opened:
            self.session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(keepalive_timeout=IDLE_SECONDS),
                trust_env=self._reads_environment,
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        await super().open()


class TablesRowStore:
    """Rows in Table Storage. Must be closed, and closes its identity, if it has one.

    With `sends_directly` transactions do not use the service's transport: not for one behind a proxy.
    """

    def __init__(
        self,
        service: TableServiceClient,
        identity: AsyncTokenCredential | None = None,
        *,
        sends_directly: bool = False,
    ) -> None:
        self._service = service
        self._identity = identity
        self._client = HttpUpstream(
            connect_timeout_seconds=CLIENT_OPTIONS["connection_timeout"],
            idle_timeout_seconds=CLIENT_OPTIONS["read_timeout"],
            keep_alive_seconds=IDLE_SECONDS,
        )
        self._send, self._send_transaction = _senders(
            service, self._client if sends_directly else None
        )
        self._boundary = str(uuid4())
        self._reads = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()
        await self._service.close()
        if self._identity is not None:
            await self._identity.close()

    async def ping(self) -> None:
        """Send the cheapest request there is. Raises StorageUnavailable."""
        with _translated("list tables"):
            async for _ in self._service.list_tables(results_per_page=1):
                return

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """The rows that exist, by point reads, since other filters scan the partition."""
        rows = await asyncio.gather(*(self._get(table, partition, key) for key in keys))
        return {row.key: row for row in rows if row is not None}

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """The row keys from `first` to `last`, both included."""
        rows = self.scan(
            table,
            first_partition=partition,
            last_partition=partition,
            first_key=first,
            last_key=last,
            columns=(),
        )
        async with self._reads:
            return {row.key async for _, row in rows}

    async def write(
        self,
        table: str,
        partition: str,
        *,
        insert: Sequence[Row] = (),
        update: Sequence[Row] = (),
        delete: Sequence[Row] = (),
        creates_table: bool = True,
    ) -> Written | Conflict:
        """One entity-group transaction."""
        what, transaction = f"{table}: write", str(uuid4())
        rows = {"insert": insert, "update": update, "delete": delete}
        try:
            content_type, body = encode(
                self._service.url, table, partition, **rows, boundary=self._boundary
            )
        except (ValueError, TypeError) as exc:
            raise RowsRefused(f"{what}: {type(exc).__name__}: {exc}") from exc
        etags, failed = await self._submit(what, transaction, content_type, body)
        if failed and failed.error_code == "TableNotFound":
            if not creates_table:
                raise TableMissing(table)
            await self._create(table)
            etags, failed = await self._submit(what, transaction, content_type, body)
        if failed is None:
            return _written(what, etags, written=[*insert, *update], deleted=len(delete))
        if failed.error_code in _CONFLICTS:
            return Conflict(exists=failed.error_code == _EXISTS)
        raise _refusal(what, failed.status, failed.error_code)

    async def scan(
        self,
        table: str,
        *,
        first_partition: str,
        last_partition: str,
        first_key: str | None = None,
        last_key: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> AsyncIterator[tuple[str, Row]]:
        """Rows of a range of partitions, and of keys in each, in key order; all columns, or some."""
        where = Range(
            first_partition=first_partition,
            last_partition=last_partition,
            first_key=first_key,
            last_key=last_key,
        )
        after: Mapping[str, str] | None = {}
        while after is not None:
            rows, after = await self._page(table, where, columns, after)
            for each in rows:
                yield each

    async def names(self, prefix: str) -> list[str]:
        """The tables whose names have the prefix, in order."""
        with _translated("list tables"):
            tables = [table.name async for table in self._service.list_tables()]
        return sorted(name for name in tables if name.startswith(prefix))

    async def drop(self, table: str) -> None:
        """Delete a table with all its rows; it may be gone already."""
        with _translated(f"{table}: drop"):
            await self._service.delete_table(table)

    async def service_time(self) -> datetime:
        """The `Date` of an answer (RFC 9110 section 6.6.1)."""
        dates: list[str] = []

        def keep_date(response: PipelineResponse[Any, AsyncHttpResponse]) -> None:
            dates.append(response.http_response.headers.get("Date", ""))

        with _translated("list tables"):
            tables = self._service.list_tables(results_per_page=1, raw_response_hook=keep_date)
            async for _ in tables:
                break
            return parsedate_to_datetime(dates[0]).astimezone(UTC)

    async def _get(self, table: str, partition: str, key: str) -> Row | None:
        async with self._reads:
            found = await self._ask(f"{table}: read", address_of(table, partition, key))
            if found is None:
                return None
            with _translated(f"{table}: read"):
                return row_of(found[0])

    async def _page(
        self,
        table: str,
        where: Range,
        columns: Sequence[str] | None,
        after: Mapping[str, str],
    ) -> tuple[Sequence[tuple[str, Row]], Mapping[str, str] | None]:
        """Rows, and where the next page begins, if there is one."""
        what = f"{table}: query"
        found = await self._ask(what, address_of_page(table, where, columns, after))
        if found is None:  # a table that does not exist yet has no rows
            return (), None
        document, headers = found
        with _translated(what):
            return rows_of(document), continuation(headers) or None

    async def _ask(self, what: str, address: str) -> tuple[object, Mapping[str, str]] | None:
        """The JSON found there, as the SDK's pipeline decodes it, and its headers; retried by it."""
        answers: list[PipelineResponse[Any, AsyncHttpResponse]] = []
        headers = {"DataServiceVersion": "3.0", "Accept": ACCEPT}
        headers["x-ms-version"] = self._service.api_version
        with _translated(what):
            try:
                answer = await self._send(
                    HttpRequest("GET", address, headers=headers), raw_response_hook=answers.append
                )
                if answer.status_code == OK:
                    document = answers[-1].context.get(ContentDecodePolicy.CONTEXT_NAME)
                    return document, answer.headers
            finally:
                answers.clear()  # they refer to their hook, and so to the list: a cycle for each read
            if answer.status_code == NOT_FOUND:
                return None
            text = answer.text()
        raise _refusal(what, answer.status_code, error_code(answer.headers.get(ERROR), text))

    async def _submit(
        self, what: str, transaction: str, content_type: str, body: bytes
    ) -> tuple[Sequence[str | None], Part | None]:
        """The new etags, operation by operation, and the first that failed."""
        with _translated(what):
            answer = await self._send_transaction(transaction, content_type, body)
            if answer.status == ACCEPTED:
                if etags := read_etags(answer.content_type, answer.content):
                    return etags, None
                parts = decode(answer.content_type, answer.content)
                failed = (part for part in parts if not 200 <= part.status < 300)
                return [part.etag for part in parts], next(failed, None)
        code = error_code(answer.error_code, answer.content.decode(errors="replace"))
        raise _refusal(what, answer.status, code)

    async def _create(self, table: str) -> None:
        with _translated(f"{table}: create"):
            await self._service.create_table_if_not_exists(table)


def _senders(
    service: TableServiceClient, client: HttpUpstream | None
) -> tuple[_Send, SendTransaction]:
    try:
        return service._client.send_request, transaction_sender(service, client)
    except AttributeError as exc:
        raise RuntimeError(
            f"this azure-data-tables has no pipeline that sends transactions: {exc}; 12.7.0 has it "
            "(docs/decisions/0018)"
        ) from exc


def _written(
    what: str, etags: Sequence[str | None], *, written: Sequence[Row], deleted: int
) -> Written:
    if len(etags) != (sent := len(written) + deleted):
        raise StorageUnavailable(f"{what}: {len(etags)} answers to {sent} rows")
    found = {row.key: etag for row, etag in zip(written, etags, strict=False) if etag}
    if len(found) != len(written):
        raise StorageUnavailable(f"{what}: an answer without an etag")
    return Written(found)


@contextmanager
def _translated(what: str) -> Iterator[None]:
    """Raise StorageUnavailable for the faults of the SDK and its transport."""
    try:
        yield
    except _FAULTS as exc:
        failure = failure_of(exc)
        if failure.is_without_token:
            raise NotSignedIn(f"{what}: no identity gave a token") from exc
        kind = f"{what}: {type(exc).__name__}"
        raise _failure(kind, failure.status, failure.code) from exc


def _refusal(what: str, status: int, code: str | None) -> StorageUnavailable:
    failure = _failure(f"{what}: refused", status, code)
    return RowsRefused(str(failure)) if code in _REFUSALS else failure


def _failure(what: str, status: int | None, code: str | None) -> StorageUnavailable:
    text = " ".join(part for part in (what, code, str(status or "")) if part)
    kind = AccessDenied if status in _DENIED else StorageUnavailable
    return kind(text, status=status, code=code or "")
