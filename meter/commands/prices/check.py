"""`python -m meter prices check`: what of a month's usage has no price, and what no usage needs."""

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path
from typing import NamedTuple

from meter.commands.options import add_format, add_prices, window_of_periods
from meter.commands.progress import ProgressLine
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.check import BookCheck, check_book
from meter.reports.write.book_check import FORMATS, write_book_check
from meter.reports.write.report import Format
from meter.window import Period, Window
from meter.wiring.books import read_price_book
from meter.wiring.commands import open_views


def add_parser(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the action's arguments."""
    action = actions.add_parser(
        "check",
        help="check a price book against a month's usage",
        description="Lists usage of a month without a price or with several, and rows of the price "
        "book that no usage is charged at. Exit code 0: all usage has one price; 1: some has none "
        "or several, or the book cannot be read; 2: invalid arguments.",
    )
    action.add_argument(
        "--month",
        type=window_of_periods((Period.MONTH,)),
        required=True,
        metavar="YYYY-MM",
        help="the month (UTC) whose usage is checked",
    )
    action.add_argument("files", type=Path, nargs="*", metavar="FILE", help="as --prices FILE")
    add_prices(action, purpose="the book to check")
    add_format(action, FORMATS)
    action.set_defaults(run=partial(_run, action))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    paths = [*options.files, *options.prices]
    if not paths:
        parser.error("a price book is required: FILE, or --prices FILE")
    book = read_price_book(paths, options.currency)
    check = asyncio.run(_check(book, options))
    write_book_check(check, Format(options.format), sys.stdout)
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
