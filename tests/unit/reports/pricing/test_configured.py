"""The app's own price book: read once, and never in the way of calls."""

import asyncio
import logging

import pytest

from meter.errors import InvalidInput
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.configured import BookState, ConfiguredBook
from tests.support.prices import book, price


def configured(found: PriceBook | InvalidInput | None) -> tuple[ConfiguredBook, list[int]]:
    reads: list[int] = []

    async def read() -> PriceBook | None:
        reads.append(1)
        await asyncio.sleep(0)
        if isinstance(found, InvalidInput):
            raise found
        return found

    return ConfiguredBook(read=read), reads


async def test_a_book_is_read_once_by_whoever_asks_first() -> None:
    """The file does not change while the app runs."""
    found = book(price())
    made, reads = configured(found)
    books = list(await asyncio.gather(made.book(), made.book()))

    assert books == [found, found]
    assert await made.state() is BookState.READ
    assert len(reads) == 1


async def test_without_files_there_is_no_book_and_nothing_to_tell() -> None:
    """Most have none."""
    made, reads = configured(None)

    assert (await made.state(), await made.book()) == (None, None)
    assert len(reads) == 1


async def test_a_book_that_cannot_be_used_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    """In the log with every problem; it is as none from then on."""
    made, reads = configured(InvalidInput(["METER_PRICES: a.csv: x", "METER_PRICES: b.csv: y"]))
    with caplog.at_level(logging.ERROR):
        found = [await made.book(), await made.book()]

    assert found == [None, None]
    assert await made.state() is BookState.INVALID
    assert len(reads) == 1
    assert caplog.messages == [
        "prices_invalid problems=METER_PRICES: a.csv: x; METER_PRICES: b.csv: y"
    ]


async def test_a_caller_that_leaves_does_not_have_it_read_again() -> None:
    """The thread that reads it cannot be stopped."""
    found = book(price())
    made, reads = configured(found)
    leaving = asyncio.create_task(made.book())
    await asyncio.sleep(0)
    leaving.cancel()

    assert await made.book() is found
    assert len(reads) == 1
