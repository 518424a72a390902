"""The arguments of `prove`."""

from argparse import Namespace
from pathlib import Path
from uuid import UUID

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import reader, subject_of_token, window_of_periods
from meter.window import Period


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "prove",
        description="Writes a proof that a subject's call, or an adjustment, is in the closed total "
        "of its month once; `verify-proof` checks it without any access.",
        examples=("prove 01a20983-494f-7586-86d9-4f0a7a0150bc --subject alice --out proof.json",),
        exit_codes={0: "written", 1: "the call cannot be proven, with the reason"},
    )
    parser.add_argument(
        "call", metavar="CALL_ID", type=reader(UUID), help="the call's x-meter-event-id"
    )
    parser.add_argument(
        "--subject",
        required=True,
        type=reader(subject_of_token),
        help="the subject that made the call",
    )
    parser.add_argument(
        "--month",
        type=window_of_periods([Period.MONTH]),
        metavar="YYYY-MM",
        help="the month in which the call ended (default: that of its id, or the next)",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE", help="write to this file (default: standard output)"
    )
    parser.set_defaults(run=lambda options: _run(parser, options))


def _run(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.closing.prove import run

    return run(parser, options)
