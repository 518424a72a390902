"""`python -m meter report`: who spent which tokens."""

import argparse
import asyncio
import sys
from functools import partial
from pathlib import Path

from meter.reports.usage import Format, Query, Report, make_query, read_report, write_report
from meter.window import Period
from meter.wiring.metering import open_store


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words."""
    command = commands.add_parser("report", help="who spent which tokens")
    command.add_argument(
        "--by", choices=[period.value for period in Period], default=Period.MONTH.value
    )
    time = "YYYY-MM, YYYY-MM-DD or YYYY-MM-DDTHH, UTC, all of it included"
    command.add_argument(
        "--from", dest="first", metavar="TIME", help=f"{time}; default: this month"
    )
    command.add_argument("--to", dest="last", metavar="TIME", help=f"{time}; default: now")
    command.add_argument(
        "--group",
        default="subject,deployment,model,tier",
        metavar="NAMES",
        help="any of subject,deployment,model,tier (default: all)",
    )
    command.add_argument(
        "--format", choices=[form.value for form in Format], default=Format.TABLE.value
    )
    command.add_argument(
        "--out", type=Path, metavar="FILE", help="write there, not to the terminal"
    )
    command.set_defaults(run=partial(_run, command))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        query = make_query(
            by=options.by,
            first=options.first,
            last=options.last,
            groups=options.group,
            now=options.clock.now(),
        )
    except ValueError as exc:
        parser.error(str(exc))
    text = write_report(asyncio.run(_read(query)), Format(options.format))
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


async def _read(query: Query) -> Report:
    async with open_store() as store:
        return await read_report(store, query)
