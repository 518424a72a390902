"""The price book that the app's settings name: read when it is first asked for, and replaced by newer ones.

A book that cannot be used is said in the log and by `/readyz`, and is then as none: calls are served, and
shown without money.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

from meter.errors import InvalidInput

if TYPE_CHECKING:
    from meter.reports.pricing.book import PriceBook

log = logging.getLogger(__name__)


class BookState(StrEnum):
    """What became of the settings' price book."""

    READ = "read"
    INVALID = "invalid"


class ConfiguredBook(Struct, kw_only=True):
    """Reads the book at most once by itself. One event loop owns it.

    `read` takes a second for a large book, and must not hold up the loop. It raises InvalidInput.
    """

    read: "Callable[[], Awaitable[PriceBook | None]]"
    _reading: "asyncio.Future[tuple[PriceBook | None, BookState | None]] | None" = None

    async def book(self) -> "PriceBook | None":
        """The book; None where there is none that can be used."""
        book, _ = await self._found()
        return book

    async def state(self) -> BookState | None:
        """What became of it; None where the settings name none."""
        _, state = await self._found()
        return state

    def use(self, book: "PriceBook | None") -> None:
        """Use this one from now on."""
        self._reading = asyncio.get_running_loop().create_future()
        self._reading.set_result(_made(book))

    async def _found(self) -> "tuple[PriceBook | None, BookState | None]":
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        return await asyncio.shield(
            self._reading
        )  # a caller that leaves must not make it read again

    async def _read(self) -> "tuple[PriceBook | None, BookState | None]":
        try:
            book = await self.read()
        except InvalidInput as exc:
            log.error("prices_invalid problems=%s", "; ".join(exc.problems))
            return None, BookState.INVALID
        return _made(book)


def _made(book: "PriceBook | None") -> "tuple[PriceBook | None, BookState | None]":
    return book, None if book is None else BookState.READ
