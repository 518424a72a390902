"""`python -m meter report`: the counted usage per window and group, and what it costs."""

import argparse
import asyncio
import sys

from meter.commands.capacity import book_without_prices
from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on
from meter.commands.output import chosen_format
from meter.commands.reporting.arrangement import arrangement_of
from meter.commands.reporting.printing import print_report
from meter.reports.query import DEFAULT_GROUPS, Grouping, RangeError, make_query
from meter.reports.write.report import Format
from meter.window import Period
from meter.wiring.books import read_capacity_file, read_price_book


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
    wanted = arrangement_of(parser, options, query, book)
    aside = asyncio.run(print_report(query, book, capacity, wanted, options))
    screen_on(sys.stderr).show(*aside)
    return 0


def _groups(named: tuple[Grouping, ...] | None, form: Format) -> tuple[Grouping, ...]:
    if named is not None:
        return named
    return tuple(Grouping) if form is Format.FOCUS else DEFAULT_GROUPS
