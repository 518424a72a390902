"""The arguments of `reconcile`."""

from argparse import Namespace
from fractions import Fraction

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import add_format, add_range, reader
from meter.reports.terms import parse_names, parse_tolerance
from meter.reports.write.formats import TABLE_AND_JSON


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "reconcile",
        description="Compares the counted tokens of each deployment on each account with those "
        "that Azure Monitor recorded.",
        examples=(
            "reconcile",
            "reconcile --from 2026-11 --to 2026-11 --tolerance 0.1% --format json",
        ),
        exit_codes={
            0: "all deployments are within the tolerance",
            1: "at least one is not, or nothing could be compared",
        },
    )
    add_range(
        command,
        first_default="the start of --to, or of yesterday",
        last_default="the last complete hour after --from, or the end of yesterday",
    )
    command.add_argument(
        "--tolerance",
        type=reader(parse_tolerance),
        default=Fraction(1, 200),
        metavar="PERCENT",
        help="largest accepted difference of a deployment, in percent of Azure's tokens "
        "(default: 0.5%%)",
    )
    command.add_argument(
        "--ignore",
        type=reader(parse_names),
        default=frozenset(),
        metavar="NAMES",
        help="deployments that may be called directly, by their names in Azure, comma-separated",
    )
    add_format(command, TABLE_AND_JSON)
    command.set_defaults(run=lambda options: _run(command, options))


def _run(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.reconcile import run

    return run(parser, options)
