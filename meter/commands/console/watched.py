"""Tables whose long readings say how far they are."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

from meter.commands.progress import ProgressLine
from meter.passthrough import StoreOver
from meter.ports import Row
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
class WatchedStore(StoreOver):
    """The same tables; now and then `watch` is called with what was scanned."""

    watch: Callable[[Scanned], None]
    _rows: int = 0

    async def scan(self, table: str, **where: Any) -> AsyncIterator[tuple[str, Row]]:
        """As the store's own."""
        async for partition, row in self.store.scan(table, **where):
            self._rows += 1
            if self._rows % ROWS_BETWEEN == 0:
                self.watch(Scanned(self._rows, partition))
            yield partition, row
