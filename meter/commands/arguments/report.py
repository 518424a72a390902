"""The arguments of `report`."""

from argparse import Namespace

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import (
    add_capacity,
    add_focus,
    add_output,
    add_prices,
    add_range,
    reader,
)
from meter.reports.arrange.asked import parse_columns, parse_sort
from meter.reports.page.budget import parse_budget
from meter.reports.query import DEFAULT_GROUPS, Grouping, parse_groups
from meter.reports.write.formats import REPORT_FORMATS
from meter.window import Period

MOST_TOP = 1_000_000


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "report",
        description="Reports the counted calls and tokens per window and group, and what they cost.",
        examples=(
            "report --by day --from 2026-11-01 --to 2026-11-23",
            "report --prices contract.csv list.csv --group team,cost_centre",
            "report --group subject --prices list.csv --top 10 --columns subject,cost",
            "report --prices list.csv --budget 5000 --out report.html",
        ),
        exit_codes={0: "written", 1: "settings, storage, prices or the output failed"},
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
        metavar="NAMES",
        help=f"any of {', '.join(Grouping)}; comma-separated (default: {','.join(DEFAULT_GROUPS)}; "
        "in a FOCUS file: all)",
    )
    add_prices(command)
    add_capacity(command)
    command.add_argument(
        "--budget",
        type=reader(parse_budget),
        metavar="AMOUNT",
        help="of --format html: what a calendar month may cost, in the currency of the prices",
    )
    _add_arrangement(command)
    add_output(command, REPORT_FORMATS)
    add_focus(command)
    command.set_defaults(run=lambda options: _run(command, options))


def _add_arrangement(command: CommandParser) -> None:
    command.add_argument(
        "--columns",
        type=reader(parse_columns),
        metavar="NAMES",
        help="these columns in this order, comma-separated, named as in CSV (default in a table: "
        "those that are not all 0)",
    )
    command.add_argument(
        "--sort",
        type=reader(parse_sort),
        metavar="COLUMN",
        help="sort each window: numbers from the largest, texts from A; COLUMN:asc and COLUMN:desc "
        "say otherwise (default: by names)",
    )
    command.add_argument(
        "--top",
        type=reader(_number),
        metavar="N",
        help="the first N rows of each window, by cost or tokens unless --sort; the others are one row",
    )


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 0 < int(text) <= MOST_TOP):
        raise ValueError(f"takes a whole number from 1 to {MOST_TOP:,}, got {text!r}")
    return int(text)


def _run(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.report import run

    return run(parser, options)
