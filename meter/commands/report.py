"""`python -m meter report`: the counted usage per window and group, and what it costs."""

import argparse
import asyncio
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import NamedTuple

from meter.commands.capacity import (
    book_without_prices,
    costs_of,
    summary_of,
)
from meter.commands.console.parser import CommandParser
from meter.commands.output import chosen_format, focus_terms, open_output, page_terms
from meter.commands.progress import ProgressLine
from meter.reports.capacity.entries import Capacity
from meter.reports.pricing.book import PriceBook
from meter.reports.pricing.unpriced import unpriced_lines
from meter.reports.query import (
    DEFAULT_GROUPS,
    Grouping,
    Query,
    RangeError,
    make_query,
)
from meter.reports.rows import UsageRow
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.window import Period, Window
from meter.wiring.books import read_capacity_file, read_price_book
from meter.wiring.commands import known_backends, open_views


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Write the report."""
    inputs = [*options.prices, *([options.capacity] if options.capacity else [])]
    form = options.format = chosen_format(parser, options, inputs)
    try:
        query = make_query(
            period=Period(options.by),
            first=options.first,
            last=options.last,
            groups=_groups(options.group, form),
            now=options.clock.now(),
        )
    except RangeError as exc:
        parser.error(f"argument --{exc.end}: {exc}")
    if options.currency and not options.prices:
        parser.error("argument --currency: takes effect with --prices only")
    if form is Format.FOCUS and not (options.prices or options.capacity):
        parser.error("argument --format: FOCUS is about costs: give --prices or --capacity as well")
    if options.budget is not None and not (form is Format.HTML and options.prices):
        parser.error("argument --budget: takes effect with --format html and --prices only")
    book = read_price_book(options.prices, options.currency) if options.prices else None
    capacity = read_capacity_file(options.capacity) if options.capacity else None
    if capacity is not None and book is None:
        book = book_without_prices(capacity, query)
    for line in asyncio.run(_report(query, book, capacity, options)):
        print(line, file=sys.stderr)
    return 0


def _groups(named: tuple[Grouping, ...] | None, form: Format) -> tuple[Grouping, ...]:
    if named is not None:
        return named
    return tuple(Grouping) if form is Format.FOCUS else DEFAULT_GROUPS


async def _report(
    query: Query, book: PriceBook | None, capacity: Capacity | None, options: argparse.Namespace
) -> list[str]:
    """Write the report; gives what is to be told beside it."""
    progress = ProgressLine[Reading](options.clock, sys.stderr, progress_text)
    now, form = options.clock.now(), Format(options.format)
    focus = focus_terms(options, known_backends()) if form is Format.FOCUS else None
    page = page_terms(query, options)
    read = query if page is None else page.read

    def watch(rows: int, window: Window) -> None:
        progress.show(Reading(rows, window))

    async with open_views() as store:
        with open_output(options.out, form) as out:
            try:
                costs = await costs_of(capacity, store, read, book, now=now, watch=watch)
                is_by_month = query.period is Period.MONTH
                corrections = await store.corrections(query.windows() if is_by_month else ())
                report = usage_report(
                    store,
                    read,
                    book=book,
                    capacity=costs,
                    corrections=corrections if page is None else page.placed(corrections),
                    as_of=now,
                    watch=watch,
                )
                report = replace(report, rows=_clearing(progress, report.rows))
                total = await write_report(report, form, out, focus=focus, page=page)
            finally:
                progress.clear()
    return [*unpriced_lines(total), *summary_of(capacity, costs, form)]


class Reading(NamedTuple):
    """How far the reading is: the rows that were read, and the window of the latest."""

    rows: int
    window: Window


def progress_text(read: Reading, seconds: float) -> str:
    """How far it is, for a line that is overwritten."""
    return f"{read.rows:,} rows read, {read.rows / seconds:,.0f} rows/s, at {read.window.name}"


async def _clearing(
    progress: ProgressLine[Reading], rows: AsyncIterator[UsageRow]
) -> AsyncIterator[UsageRow]:
    """The rows; what is written of them does not follow the progress on its line."""
    async for row in rows:
        progress.clear()
        yield row
