"""What the front door asks of reports: the price book, and a subject's own usage.

They are imported with the first question. No start needs them, and they are a third of what it would import.
"""

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING

from msgspec import Struct

from meter.config.prices import PriceSettings
from meter.config.stored.address import Documents
from meter.gateway.own_usage import UsageReader
from meter.ports import Clock, RowStore
from meter.reports.pricing.configured import ConfiguredBook

if TYPE_CHECKING:
    from meter.reports.pricing.book import PriceBook


def build_book(settings: PriceSettings, documents: Documents) -> ConfiguredBook:
    """The app's price book, read in a thread when it is first needed."""

    def read() -> "PriceBook | None":
        from meter.wiring.books import configured_book

        return configured_book(settings, documents)

    async def read_apart() -> "PriceBook | None":
        return await asyncio.to_thread(read)

    return ConfiguredBook(read=read_apart)


class LateReader(Struct):
    """Reads what a subject used, as `OwnUsageReader` does."""

    store: RowStore
    book: ConfiguredBook
    clock: Clock
    _reader: UsageReader | None = None

    async def read(self, subject: str) -> Mapping[str, object]:
        """Its usage. Raises StorageUnavailable."""
        if self._reader is None:
            from meter.reports.own_usage.reader import OwnUsageReader

            self._reader = OwnUsageReader(store=self.store, clock=self.clock, book=self.book.book)
        return await self._reader.read(subject)
