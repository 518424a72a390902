"""The price book that the app's settings name: read once, when it is first asked for.

A book that cannot be used is said in the log and by `/readyz`, and is then as none: calls are served, and
shown without money.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from enum import StrEnum

from meter.errors import InvalidInput
from meter.reports.pricing.book import PriceBook

log = logging.getLogger(__name__)


class BookState(StrEnum):
    """What became of the settings' price book."""

    READ = "read"
    INVALID = "invalid"


@dataclass(slots=True, kw_only=True)
class ConfiguredBook:
    """Reads the book at most once. One event loop owns it.

    `read` takes a second for a large book, and must not hold up the loop. It raises InvalidInput.
    """

    read: Callable[[], Awaitable[PriceBook | None]]
    _book: PriceBook | None = None
    _state: BookState | None = None
    _is_asked: bool = False
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def book(self) -> PriceBook | None:
        """The book; None where there is none that can be used."""
        async with self._lock:
            if not self._is_asked:
                try:
                    self._book = await self.read()
                    self._state = None if self._book is None else BookState.READ
                except InvalidInput as exc:
                    self._state = BookState.INVALID
                    log.error("prices_invalid problems=%s", "; ".join(exc.problems))
                self._is_asked = True
            return self._book

    async def state(self) -> BookState | None:
        """What became of it; None where the settings name none."""
        await self.book()
        return self._state
