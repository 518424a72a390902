"""`python -m meter prices check`: what of a month's usage has no price, and what no usage needs."""

import argparse
import asyncio
import sys
from typing import NamedTuple

from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on
from meter.commands.progress import ProgressLine
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.check import BookCheck, check_book
from meter.reports.write.book_check import write_book_check
from meter.reports.write.report import Format
from meter.window import Window
from meter.wiring.books import read_price_book
from meter.wiring.commands import open_views


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Check the book, and write what was found."""
    paths = [*options.files, *options.prices]
    if not paths:
        parser.error("a price book is required: FILE, or --prices FILE")
    book = read_price_book(paths, options.currency)
    check = asyncio.run(_check(book, options))
    write_book_check(check, Format(options.format), sys.stdout, screen_on(sys.stdout))
    return 0 if check.is_priced else 1


class _Read(NamedTuple):
    """How far the reading is."""

    rows: int
    day: Window


async def _check(book: PriceBook, options: argparse.Namespace) -> BookCheck:
    progress = ProgressLine[_Read](options.clock, sys.stderr, _progress_text)
    async with open_views() as store:
        try:
            return await check_book(
                store, options.month, book, lambda rows, day: progress.show(_Read(rows, day))
            )
        finally:
            progress.clear()


def _progress_text(read: _Read, seconds: float) -> str:
    return f"{read.rows:,} rows read, {read.rows / seconds:,.0f} rows/s, at {read.day.name}"
