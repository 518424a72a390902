"""A `meter.ports.RowStore` whose SDK is imported, and which connects, when it is first used.

Calls need no table while the hub takes their events, and azure-data-tables with aiohttp takes a fifth of a
start's CPU time. It is imported in a thread: calls go on meanwhile.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from meter.ports import Conflict, Row, Written

if TYPE_CHECKING:
    from meter.adapters.tables import TablesRowStore

SDK = "meter.adapters.tables"


class LateRowStore:
    """The store that `build` makes, from its first use on. Must be closed. One event loop owns it."""

    def __init__(self, build: "Callable[[], TablesRowStore]") -> None:
        self._build = build
        self._store: TablesRowStore | None = None

    async def close(self) -> None:
        """Close the connections, if there are any."""
        if self._store is not None:
            await self._store.close()

    async def ping(self) -> None:
        """Send the cheapest request there is. Raises StorageUnavailable."""
        await (await self._made()).ping()

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """As the store's."""
        return await (await self._made()).read(table, partition, keys)

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """As the store's."""
        return await (await self._made()).keys_between(table, partition, first, last)

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
        """As the store's."""
        return await (await self._made()).write(
            table,
            partition,
            insert=insert,
            update=update,
            delete=delete,
            creates_table=creates_table,
        )

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
        """As the store's."""
        rows = (await self._made()).scan(
            table,
            first_partition=first_partition,
            last_partition=last_partition,
            first_key=first_key,
            last_key=last_key,
            columns=columns,
        )
        async for row in rows:
            yield row

    async def _made(self) -> "TablesRowStore":
        if self._store is None:
            await asyncio.to_thread(import_module, SDK)
            # Another use may have made it meanwhile.
            self._store = self._store or self._build()
        return self._store
