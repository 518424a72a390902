"""A store that passes everything on to another one; a subclass overrides what it does otherwise."""

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from meter.ports import Conflict, Row, RowStore, Written


@dataclass(slots=True)
class PassThrough:
    """`meter.ports.RowStore`, as `store` is."""

    store: RowStore

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """As the store's own."""
        return await self.store.read(table, partition, keys)

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """As the store's own."""
        return await self.store.keys_between(table, partition, first, last)

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
        """As the store's own."""
        return await self.store.write(
            table,
            partition,
            insert=insert,
            update=update,
            delete=delete,
            creates_table=creates_table,
        )

    def scan(
        self,
        table: str,
        *,
        first_partition: str,
        last_partition: str,
        first_key: str | None = None,
        last_key: str | None = None,
        columns: Sequence[str] | None = None,
    ) -> AsyncIterator[tuple[str, Row]]:
        """As the store's own."""
        return self.store.scan(
            table,
            first_partition=first_partition,
            last_partition=last_partition,
            first_key=first_key,
            last_key=last_key,
            columns=columns,
        )
