"""`python -m meter prove`: proves that a call is in the closed total of its month once."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from uuid import UUID

from meter.commands.options import reader, window_of_periods
from meter.commands.output import open_output
from meter.commands.progress import ProgressLine
from meter.ledger.adjusting.notes import moment_of
from meter.upkeep.closing.proof import Proof
from meter.upkeep.closing.prove import Prover
from meter.usage import is_writable
from meter.window import Period, Window, window_of
from meter.wiring.commands import open_store


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "prove",
        description="Writes a proof that a subject's call, or an adjustment, is in the closed total "
        "of its month once; `verify-proof` checks it without any access. Exit code 0: written; 1: "
        "the call cannot be proven, with the reason; 2: invalid arguments.",
    )
    parser.add_argument(
        "call", metavar="CALL_ID", type=reader(UUID), help="the call's x-meter-event-id"
    )
    parser.add_argument(
        "--subject", required=True, type=reader(_subject), help="the subject that made the call"
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


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    months = [options.month]
    if options.month is None:
        try:
            first = window_of(moment_of(options.call), Period.MONTH)
        except ValueError:
            parser.error("argument --month: must be given, since the id does not have a time")
        # An id is made when a call begins; the month is that of its end.
        months = [first, window_of(first.end, Period.MONTH)]
    progress = ProgressLine[int](options.clock, sys.stderr, _progress_text)
    try:
        proof = asyncio.run(_prove(options.call, options.subject, months, progress.show))
    except KeyboardInterrupt:
        return 130
    finally:
        progress.clear()
    with open_output(options.out) as out:
        out.write(proof.encode().decode())
    print(f"root {proof.header.root} of {proof.header.month.name}", file=sys.stderr)
    return 0


async def _prove(
    event_id: UUID, subject: str, months: list[Window], show: Callable[[int], None]
) -> Proof:
    async with open_store() as store:
        return await Prover(store=store, show=show).prove(event_id, subject, months)


def _progress_text(markers: int, seconds: float) -> str:
    return f"{markers:,} calls of the bucket read, {markers / seconds:,.0f} calls/s"


def _subject(text: str) -> str:
    if not text or not is_writable(text):
        raise ValueError(f"takes the subject of a token, got {text!r}")
    return text
