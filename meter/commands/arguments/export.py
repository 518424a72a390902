"""The arguments of `export`."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import (
    add_capacity,
    add_focus,
    add_prices,
    reader,
    window_of_periods,
)
from meter.reports.export.layout import Encoding
from meter.window import Period


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "export",
        description="Writes usage by day and by month, charges as FOCUS and pages to a folder or a "
        "container, for Power BI, Fabric, DuckDB, pandas and others, and brings them up to date when "
        "it is repeated: what has not changed stays, closed months are written once. The nightly "
        "export of the app does the same.",
        examples=("export --to exports --prices prices.csv", "export --month 2026-10"),
        exit_codes={0: "all is written", 1: "a failure; months that failed are named"},
    )
    _add_place(command)
    _add_range(command)
    add_prices(command, purpose="adds what the usage costs (default: METER_PRICES)")
    add_capacity(command)
    command.add_argument(
        "--format",
        choices=[each.value for each in Encoding],
        help="how tables are written (default: as in the folder; in a new one Parquet where pyarrow "
        "is installed, else csv.gz)",
    )
    add_focus(command)
    command.set_defaults(run=lambda options: _run(command, options))


def _add_place(command: CommandParser) -> None:
    place = command.add_mutually_exclusive_group()
    place.add_argument("--to", type=Path, metavar="FOLDER", help="a folder of this machine")
    place.add_argument(
        "--container",
        type=reader(_container),
        metavar="URL",
        help="a container of Blob Storage, or the name of one in the account of the tables "
        "(default: METER_EXPORT_CONTAINER)",
    )


def _add_range(command: CommandParser) -> None:
    when = command.add_mutually_exclusive_group()
    when.add_argument(
        "--date",
        dest="wanted",
        type=window_of_periods([Period.DAY]),
        metavar="YYYY-MM-DD",
        help="only the file of this day (UTC), which must be over",
    )
    when.add_argument(
        "--month",
        dest="wanted",
        type=window_of_periods([Period.MONTH]),
        metavar="YYYY-MM",
        help="only the files of this month, whatever its age (default: all that may have changed)",
    )


def _container(text: str) -> str:
    from meter.config.exports import container_problem

    if problem := container_problem(text):
        raise ValueError(problem)
    return text


def _run(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.export import run

    return run(parser, options)
