"""The arguments of `close`."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import window_of_periods
from meter.window import Period


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "close",
        description="Writes a snapshot of a month's sums that is never changed, and prints its root: "
        "publish that. Calls that arrive later are corrections in the month in which they arrive.",
        examples=(
            "close --month 2026-10 --prices contract.csv list.csv --by finance",
            "close --month 2026-10 --check",
        ),
        exit_codes={0: "closed", 1: "refused, with every reason, or closed before"},
    )
    parser.add_argument(
        "--month",
        required=True,
        type=window_of_periods([Period.MONTH]),
        metavar="YYYY-MM",
        help="the month to close (UTC)",
    )
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument(
        "--check",
        action="store_true",
        help="write nothing; exit code 0: the month is closed, and its rows are what its root says",
    )
    choice.add_argument(
        "--force",
        action="store_true",
        help="close it although calls may be missing; the reasons are stored with it",
    )
    _add_stored(parser)
    parser.set_defaults(writes=True, run=_run)


def _add_stored(parser: CommandParser) -> None:
    """Add what is stored with the snapshot."""
    parser.add_argument(
        "--prices",
        type=Path,
        nargs="+",
        action="extend",
        default=[],
        metavar="FILE",
        help="the files of the price book; their SHA-256 is stored",
    )
    parser.add_argument(
        "--by", metavar="NAME", help="who closes it (default: the user of this machine)"
    )


def _run(options: Namespace) -> int:
    from meter.commands.closing.close import run

    return run(options)
