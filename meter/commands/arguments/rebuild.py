"""The arguments of `rebuild`."""

import re
from argparse import Namespace
from collections.abc import Sequence

from meter.bucket import BUCKETS
from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import reader, subject_of_token, window_of_periods
from meter.ledger.keys import LEDGER_PARTITIONS
from meter.window import Period

_BUCKETS = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?", re.ASCII)


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "rebuild",
        description="Checks that the sums of a month's ledger are what its markers add up to, and "
        "makes UsageByHour, UsageByDay and UsageByMonth equal to the sums. Safe while calls are "
        "counted.",
        examples=("rebuild --month 2026-11 --dry-run", "rebuild --month 2026-11 --subject alice"),
        exit_codes={
            0: "the ledger was sound, and the views are equal to it now",
            1: "anything else",
        },
    )
    parser.add_argument(
        "--month",
        required=True,
        type=window_of_periods([Period.MONTH]),
        metavar="YYYY-MM",
        help="the month to check (UTC)",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--buckets",
        type=reader(_partitions),
        default=LEDGER_PARTITIONS,
        metavar="FIRST-LAST",
        help=f"only these of the month's {BUCKETS} parts, 0-{BUCKETS - 1}: to resume, or to share it "
        "among processes",
    )
    part.add_argument("--subject", type=reader(subject_of_token), help="only this subject's rows")
    _add_repairs(parser)
    parser.set_defaults(writes=True, run=_run)


def _add_repairs(parser: CommandParser) -> None:
    """Add what may be written."""
    report_only = "report what would change, without writing"
    parser.add_argument("--dry-run", action="store_true", help=report_only)
    parser.add_argument(
        "--repair-ledger",
        action="store_true",
        help="also set wrong sums of the ledger to what their markers add up to",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="also remove view rows without a sum, and lower those with more calls than the ledger: "
        "they may be all that is left of these calls",
    )


def _partitions(text: str) -> Sequence[str]:
    """Ledger partitions as `FIRST-LAST`, or just one."""
    match = _BUCKETS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < BUCKETS:
        raise ValueError(f"takes FIRST-LAST from 0 to {BUCKETS - 1}, got {text!r}")
    return LEDGER_PARTITIONS[first : last + 1]


def _run(options: Namespace) -> int:
    from meter.commands.rebuild import run

    return run(options)
