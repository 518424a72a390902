"""`python -m meter invoice`: splits Azure's own bill of a month by counted usage."""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on, table_screen
from meter.commands.console.watched import ClearedScreen, Scanned, WatchedStore, scanned_text
from meter.commands.output import chosen_format, focus_terms, open_output
from meter.commands.progress import ProgressLine
from meter.gateway.backend import Backend
from meter.reports.capacity.entries import Capacity
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.columns import Metric
from meter.reports.invoice.write.invoice import warnings_of, write_invoice
from meter.reports.query import INVOICE_GROUPS, Grouping
from meter.reports.write.report import Format
from meter.wiring.books import read_capacity_file
from meter.wiring.commands import current_reconcile_settings, open_views
from meter.wiring.invoices import read_bill, split_bill


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Split the bill, and write its lines."""
    options.format = chosen_format(parser, options, _inputs(options))
    if options.format is Format.FOCUS and options.cost != Metric.BILLED:
        parser.error("argument --cost: a FOCUS file has what was billed: give --cost billed")
    backends = current_reconcile_settings().backends
    progress = ProgressLine[_Read](options.clock, sys.stderr, _progress_text)
    try:
        bill = read_bill(
            options.export,
            options.mapping,
            month=options.month,
            metric=Metric(options.cost),
            backends=backends,
            watch=lambda file, rows: progress.show(_Read(file, rows)),
        )
    finally:
        progress.clear()
    _warn(_doubts(bill))
    capacity = read_capacity_file(options.capacity) if options.capacity else None
    _warn(asyncio.run(_write(options, bill, capacity, backends)))
    return 0


def _inputs(options: argparse.Namespace) -> list[Path]:
    return [*options.export, *filter(None, (options.mapping, options.capacity))]


class _Read(NamedTuple):
    """How far the reading is."""

    file: Path
    rows: int


def _progress_text(read: _Read, seconds: float) -> str:
    return f"{read.rows:,} rows of {read.file.name} read, {seconds:,.0f} s"


def _doubts(bill: Bill) -> Iterator[str]:
    """What may be wrong with the choice of files."""
    for file, earlier in bill.repeats():
        yield f"warning: {file} repeats charges of {earlier}: of a daily export, give one run's files"
    if days := bill.other_days:
        yield f"warning: rows from {min(days)} to {max(days)} are of other months, and are left out"


def _warn(lines: Iterable[str]) -> None:
    screen_on(sys.stderr).show(*lines)


async def _write(
    options: argparse.Namespace,
    bill: Bill,
    capacity: Capacity | None,
    backends: Sequence[Backend],
) -> list[str]:
    """Write the lines; gives what is to be told about them."""
    form = Format(options.format)
    groups = options.group or (INVOICE_GROUPS if form is Format.TABLE else tuple(Grouping))
    progress = ProgressLine[Scanned](options.clock, sys.stderr, scanned_text)
    async with open_views() as views:
        store = WatchedStore(views, progress.show)
        with open_output(options.out, form) as out:
            if form is not Format.TABLE and out.isatty():
                store.watch = lambda _: None  # lines are written between readings
            try:
                split = await split_bill(bill, store, capacity, backends=backends, groups=groups)
                screen = ClearedScreen(progress, table_screen(form, out) or screen_on(sys.stdout))
                focus = focus_terms(options, backends)
                await write_invoice(split, groups, form, out, focus=focus, screen=screen)
            finally:
                progress.clear()
    return list(warnings_of(split.totals))
