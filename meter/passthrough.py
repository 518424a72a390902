"""A store that passes everything on to another one; a subclass overrides what it does otherwise."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass

from meter.ports import Conflict, Row, RowStore, Written


class PassThrough(ABC):
    """`meter.ports.RowStore` on the one that `below` gives."""

    __slots__ = ()

    @abstractmethod
    async def below(self) -> RowStore:
        """The other store."""

    async def read(self, table: str, partition: str, keys: Sequence[str]) -> Mapping[str, Row]:
        """As the other's."""
        return await (await self.below()).read(table, partition, keys)

    async def keys_between(self, table: str, partition: str, first: str, last: str) -> set[str]:
        """As the other's."""
        return await (await self.below()).keys_between(table, partition, first, last)

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
        """As the other's."""
        return await (await self.below()).write(
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
        """As the other's."""
        rows = (await self.below()).scan(
            table,
            first_partition=first_partition,
            last_partition=last_partition,
            first_key=first_key,
            last_key=last_key,
            columns=columns,
        )
        async for each in rows:
            yield each


@dataclass(slots=True)
class StoreOver(PassThrough):
    """On a store that is there already."""

    store: RowStore

    async def below(self) -> RowStore:
        """The store."""
        return self.store
