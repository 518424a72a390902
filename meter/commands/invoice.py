"""`python -m meter invoice`: splits Azure's own bill of a month by counted usage."""

import argparse
import asyncio
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

from meter.commands.options import (
    add_capacity,
    add_focus,
    focus_terms,
    reader,
    window_of_periods,
)
from meter.commands.output import add_output, chosen_format, open_output
from meter.commands.progress import ProgressLine
from meter.gateway.backend import Backend
from meter.reports.capacity.entries import Capacity
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.columns import Metric
from meter.reports.invoice.grouping import ALL, IN_A_TABLE
from meter.reports.invoice.write.invoice import FORMATS, warnings_of, write_invoice
from meter.reports.query import parse_groups
from meter.reports.write.report import Format
from meter.window import Period
from meter.wiring.books import read_capacity_file
from meter.wiring.commands import current_reconcile_settings, open_views
from meter.wiring.invoices import read_bill, split_bill


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "invoice",
        description="Splits the cost of the backends' accounts, as Azure's cost exports have it, by "
        "counted usage. The lines sum to the export, to the last digit.",
    )
    _add_inputs(command)
    command.add_argument(
        "--group",
        type=reader(parse_groups),
        metavar="NAMES",
        help=f"any of {', '.join(ALL)}; comma-separated (default: all; in a table: "
        f"{','.join(IN_A_TABLE)})",
    )
    add_output(command, FORMATS)
    add_focus(command)
    command.set_defaults(run=partial(_run, command))


def _add_inputs(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--export",
        type=Path,
        nargs="+",
        action="extend",
        required=True,
        metavar="FILE",
        help="cost exports: usage details or FOCUS, as CSV, gzipped CSV or Parquet",
    )
    command.add_argument(
        "--month",
        type=window_of_periods((Period.MONTH,)),
        required=True,
        metavar="MONTH",
        help="the month to split: YYYY-MM (UTC)",
    )
    command.add_argument(
        "--mapping",
        type=Path,
        metavar="FILE",
        help="CSV that says what meters charge for: meter_id or meter_name, kind, model, unit, and "
        "optional deployment_type, tier, context",
    )
    add_capacity(command)
    command.add_argument(
        "--cost",
        choices=[metric.value for metric in Metric],
        default=Metric.BILLED.value,
        help="which cost of a FOCUS export (default: billed)",
    )


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
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
    for line in lines:
        print(line, file=sys.stderr)


async def _write(
    options: argparse.Namespace,
    bill: Bill,
    capacity: Capacity | None,
    backends: Sequence[Backend],
) -> list[str]:
    """Write the lines; gives what is to be told about them."""
    form = Format(options.format)
    groups = options.group or (IN_A_TABLE if form is Format.TABLE else ALL)
    async with open_views() as store:
        split = await split_bill(bill, store, capacity, backends=backends, groups=groups)
        with open_output(options.out, form) as out:
            focus = focus_terms(options, backends)
            await write_invoice(split, groups, form, out, focus=focus)
    return list(warnings_of(split.totals))
