"""A `meter.ports.RowStore` whose SDK is imported, and which connects, when it is first used.

Calls need no table while the hub takes their events, and azure-data-tables with aiohttp takes a fifth of a
start's CPU time. It is imported in a thread: calls go on meanwhile.
"""

import asyncio
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

from meter.passthrough import PassThrough

if TYPE_CHECKING:
    from meter.adapters.tables import TablesRowStore

SDK = "meter.adapters.tables"


class LateRowStore(PassThrough):
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
        await (await self.below()).ping()

    async def below(self) -> "TablesRowStore":
        """The store, made now if it is not there yet."""
        if self._store is None:
            await asyncio.to_thread(import_module, SDK)
            # Another use may have made it meanwhile.
            self._store = self._store or self._build()
        return self._store
