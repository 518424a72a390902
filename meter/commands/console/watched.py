"""Tables whose long readings say how far they are."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from meter.commands.progress import ProgressLine
from meter.ports import Conflict, Row, RowStore, Written
from meter.terminal.table import Piece, Screen

ROWS_BETWEEN = 1_000


class Scanned(NamedTuple):
    """How many rows were read, and the partition of the latest."""

    rows: int
    partition: str


def scanned_text(scanned: Scanned, seconds: float) -> str:
    """How far a reading is, for a line that is overwritten."""
    return (
        f"{scanned.rows:,} rows read, {scanned.rows / seconds:,.0f} rows/s, at {scanned.partition}"
    )


@dataclass(frozen=True, slots=True)
class ClearedScreen:
    """A screen on which nothing follows the progress on its line."""

    progress: ProgressLine[Scanned]
    screen: Screen

    def show(self, *pieces: Piece) -> None:
        """Write the pieces, one below the other."""
        self.progress.clear()
        self.screen.show(*pieces)


@dataclass(slots=True)
class WatchedStore:
    """The same tables; now and then `watch` is called with what was scanned."""

    store: RowStore
    watch: Callable[[Scanned], None]
    _rows: int = 0

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
        """As the store's own."""
        rows = self.store.scan(
            table,
            first_partition=first_partition,
            last_partition=last_partition,
            first_key=first_key,
            last_key=last_key,
            columns=columns,
        )
        async for partition, row in rows:
            self._rows += 1
            if self._rows % ROWS_BETWEEN == 0:
                self.watch(Scanned(self._rows, partition))
            yield partition, row

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
