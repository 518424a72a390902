"""`meter.ports.RowStore` and `Tables` on Azure Table Storage (azure-data-tables).

Whole numbers are stored as Edm.Int64, so that sums pass 2^31. Tables are made when first written.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from http.client import HTTPException
from typing import Any

import aiohttp
from azure.core import MatchConditions
from azure.core.exceptions import AzureError, HttpResponseError, ResourceNotFoundError
from azure.data.tables import EdmType, EntityProperty, TableTransactionError, UpdateMode
from azure.data.tables.aio import TableClient, TableServiceClient

from meter.errors import StorageUnavailable
from meter.ports import Conflict, Row, Written

MAX_CONCURRENT_READS = 16
CLIENT_OPTIONS: Mapping[str, Any] = {
    # The caller of a batch retries it whole; these only smooth over short hiccups.
    "retry_total": 3,
    "retry_backoff_factor": 0.2,
    "retry_backoff_max": 2,
    "connection_timeout": 5,
    "read_timeout": 15,
}

type _Operation = tuple[str, Mapping[str, object], Mapping[str, object]]

_CONFLICTS = frozenset(
    {
        "EntityAlreadyExists",
        "UpdateConditionNotSatisfied",
        "ResourceNotFound",
        "InvalidDuplicateRow",
    }
)
# The last three are what the SDK lets through when an answer is not what it can read.
_FAULTS = (
    *(AzureError, aiohttp.ClientError, TimeoutError, OSError),
    *(HTTPException, ValueError, AttributeError),
)


class TablesRowStore:
    """Rows in Table Storage. Close it to give its connections back."""

    def __init__(self, service: TableServiceClient) -> None:
        self._service = service
        self._clients: dict[str, TableClient] = {}
        self._reads = asyncio.Semaphore(MAX_CONCURRENT_READS)

    async def close(self) -> None:
        """Close the connections."""
        await self._service.close()

    async def ping(self) -> None:
        """Ask the service for anything at all. Raises StorageUnavailable."""
        try:
            async for _ in self._service.list_tables(results_per_page=1):
                return
        except _FAULTS as exc:
            raise _unavailable("list tables", exc) from exc

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """Those of the rows that exist: point reads, since other filters scan the partition."""
        rows = await asyncio.gather(*(self._get(table, partition, key) for key in keys))
        return {row.key: row for row in rows if row is not None}

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """The row keys from `first` to `last`, both included."""
        pages = self._client(table).query_entities(
            "PartitionKey eq @partition and RowKey ge @first and RowKey le @last",
            parameters={"partition": partition, "first": first, "last": last},
            select=["RowKey"],
        )
        async with self._reads:
            try:
                return {entity["RowKey"] async for entity in pages}
            except ResourceNotFoundError:
                return set()  # the table is not made yet
            except _FAULTS as exc:
                raise _unavailable(f"{table}: query", exc) from exc

    async def write(
        self,
        table: str,
        partition: str,
        *,
        insert: Sequence[Row],
        update: Sequence[Row],
        delete: Sequence[Row] = (),
    ) -> Written | Conflict:
        """One entity-group transaction."""
        operations: list[_Operation] = [("create", _entity(partition, row), {}) for row in insert]
        operations += [
            ("update", _entity(partition, row), {"mode": UpdateMode.MERGE, **_if_unchanged(row)})
            for row in update
        ]
        operations += [
            ("delete", {"PartitionKey": partition, "RowKey": row.key}, _if_unchanged(row))
            for row in delete
        ]
        client = self._client(table)
        results = await self._in_table(table, lambda: client.submit_transaction(operations))
        if isinstance(results, Conflict):
            return results
        if len(results) != len(operations):
            asked = len(operations)
            raise StorageUnavailable(f"{table}: an answer of {len(results)} to {asked} rows")
        keys = [row.key for row in (*insert, *update)]
        return Written(
            {key: str(result["etag"]) for key, result in zip(keys, results, strict=False)}
        )

    async def delete(self, table: str, partition: str, key: str) -> None:
        """Delete a row; it may be gone already. Raises StorageUnavailable."""
        try:
            await self._client(table).delete_entity(partition, key)
        except _FAULTS as exc:
            raise _unavailable(f"{table}: delete", exc) from exc

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
        bounds = {"p": first_partition, "last": last_partition, "key": first_key, "end": last_key}
        parts = ["PartitionKey ge @p", "PartitionKey le @last", "RowKey ge @key", "RowKey le @end"]
        if first_partition == last_partition:
            # The service finds the rows of one partition by their keys only where it is named.
            parts[:2] = ["PartitionKey eq @p"]
        parts = [part for part in parts if bounds[part.split("@")[1]] is not None]
        pages = self._client(table).query_entities(
            " and ".join(parts),
            parameters={name: value for name, value in bounds.items() if value is not None},
            select=None if columns is None else ["PartitionKey", "RowKey", *columns],
        )
        try:
            async for entity in pages:
                yield entity["PartitionKey"], _row(entity)
        except ResourceNotFoundError:
            return  # the table is not made yet
        except _FAULTS as exc:
            raise _unavailable(f"{table}: query", exc) from exc

    async def names(self, prefix: str) -> list[str]:
        """The tables whose names begin so, in order."""
        try:
            tables = [table.name async for table in self._service.list_tables()]
        except _FAULTS as exc:
            raise _unavailable("list tables", exc) from exc
        return sorted(name for name in tables if name.startswith(prefix))

    async def drop(self, table: str) -> None:
        """Delete a table with all its rows; it may be gone already."""
        try:
            await self._service.delete_table(table)
        except _FAULTS as exc:
            raise _unavailable(f"{table}: drop", exc) from exc

    async def _get(self, table: str, partition: str, key: str) -> Row | None:
        async with self._reads:
            try:
                return _row(await self._client(table).get_entity(partition, key))
            except ResourceNotFoundError:
                return None
            except _FAULTS as exc:
                raise _unavailable(f"{table}: read", exc) from exc

    async def _in_table(
        self, table: str, submit: Callable[[], Awaitable[list[Mapping[str, object]]]]
    ) -> list[Mapping[str, object]] | Conflict:
        """Submit, making the table first if it is missing."""
        for is_last in (False, True):
            try:
                return await submit()
            except TableTransactionError as exc:
                code = _error_code(exc)
                if code == "TableNotFound" and not is_last:
                    await self._create(table)
                elif code in _CONFLICTS:
                    return Conflict()
                else:
                    raise _unavailable(f"{table}: write", exc) from exc
            except _FAULTS as exc:
                raise _unavailable(f"{table}: write", exc) from exc
        raise StorageUnavailable(f"table {table} could not be made")

    async def _create(self, table: str) -> None:
        try:
            await self._service.create_table_if_not_exists(table)
        except _FAULTS as exc:
            raise _unavailable(f"{table}: create", exc) from exc

    def _client(self, table: str) -> TableClient:
        if table not in self._clients:
            self._clients[table] = self._service.get_table_client(table)
        return self._clients[table]


def _entity(partition: str, row: Row) -> dict[str, object]:
    columns = {name: _to_edm(value) for name, value in row.columns.items()}
    return {"PartitionKey": partition, "RowKey": row.key, **columns}


def _if_unchanged(row: Row) -> dict[str, object]:
    return {"etag": row.etag, "match_condition": MatchConditions.IfNotModified}


def _to_edm(value: object) -> object:
    is_whole_number = isinstance(value, int) and not isinstance(value, bool)
    return (value, EdmType.INT64) if is_whole_number else value


def _row(entity: Mapping[str, object]) -> Row:
    columns = {
        name: value.value if isinstance(value, EntityProperty) else value
        for name, value in entity.items()
        if name not in {"PartitionKey", "RowKey"}
    }
    metadata: Mapping[str, str] = getattr(entity, "metadata", {})
    return Row(key=str(entity["RowKey"]), columns=columns, etag=metadata.get("etag"))


def _unavailable(what: str, exc: Exception) -> StorageUnavailable:
    status = exc.status_code if isinstance(exc, HttpResponseError) else None
    parts = [f"{what}: {type(exc).__name__}", _error_code(exc), str(status or "")]
    return StorageUnavailable(" ".join(part for part in parts if part))


def _error_code(exc: Exception) -> str:
    code = getattr(exc, "error_code", None) or ""
    return str(getattr(code, "value", code))
