"""`python -m meter prove`: proves that a call is in the closed total of its month once."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from uuid import UUID

from meter.commands.console.parser import CommandParser
from meter.commands.output import open_output
from meter.commands.progress import ProgressLine
from meter.ledger.adjusting.notes import moment_of
from meter.upkeep.closing.proof import Proof
from meter.upkeep.closing.prove import Prover
from meter.window import Period, Window, window_of
from meter.wiring.commands import open_store


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Write the proof."""
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
