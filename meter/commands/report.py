"""`python -m meter report`: the counted usage per window and group."""

import argparse
import asyncio
from datetime import datetime
from functools import partial
from pathlib import Path

from meter.commands.options import add_format, add_range, reader
from meter.commands.output import open_output
from meter.reports.query import Grouping, Query, RangeError, make_query, parse_groups
from meter.reports.usage import usage_report
from meter.reports.write.report import Format, write_report
from meter.window import Period
from meter.wiring.commands import open_store


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "report",
        description="Reports the counted calls and tokens per window and group.",
    )
    command.add_argument(
        "--by",
        choices=[period.value for period in Period],
        default=Period.MONTH.value,
        help="length of the windows (default: month)",
    )
    add_range(command, first_default="the start of this month", last_default="now")
    command.add_argument(
        "--group",
        type=reader(parse_groups),
        default=tuple(Grouping),
        metavar="NAMES",
        help=f"any of {','.join(Grouping)}, comma-separated (default: all)",
    )
    add_format(command, tuple(Format))
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="write to this file (default: standard output)"
    )
    command.set_defaults(run=partial(_run, command))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        query = make_query(
            period=Period(options.by),
            first=options.first,
            last=options.last,
            groups=options.group,
            now=options.clock.now(),
        )
    except RangeError as exc:
        parser.error(f"argument --{exc.end}: {exc}")
    asyncio.run(_report(query, options.clock.now(), Format(options.format), options.out))
    return 0


async def _report(query: Query, as_of: datetime, form: Format, path: Path | None) -> None:
    async with open_store() as store:
        with open_output(path) as out:
            await write_report(usage_report(store, query, as_of=as_of), form, out)
