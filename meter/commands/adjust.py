"""`python -m meter adjust`: adjust the counts of one call, beside the call and once."""

import argparse
import asyncio
import sys

from meter.adapters.clock import system_dice
from meter.adjustment import Adjustment
from meter.commands.arguments.adjust import ADJUSTED_COUNTS
from meter.commands.console.parser import CommandParser
from meter.errors import StorageUnavailable
from meter.terminal import printable
from meter.upkeep.adjust import Adjuster, AdjustmentRefused, Planned, Wanted
from meter.usage import TokenUsage, format_time, new_event_id
from meter.wiring.commands import open_repairs


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Count the adjustment."""
    return asyncio.run(_adjust(parser, options))


async def _adjust(parser: CommandParser, options: argparse.Namespace) -> int:
    async with open_repairs(options.clock) as (store, aggregator):
        adjuster = Adjuster(aggregator=aggregator, tables=store)
        try:
            planned = await adjuster.plan(_wanted(options))
            # Before the first write: whatever becomes of it, the operator knows what was tried.
            print(_summary(planned.adjustment), flush=True)
            print(await _outcome(adjuster, planned, options))
        except AdjustmentRefused as exc:
            print(f"error: {printable(str(exc))}", file=sys.stderr)
            return 1
        except ValueError as exc:
            parser.error(printable(str(exc)))
    return 0


def _wanted(options: argparse.Namespace) -> Wanted:
    adjustment_id = options.id
    if options.again and adjustment_id is None:
        adjustment_id = new_event_id(options.clock.now(), system_dice().randbytes(10))
    return Wanted(
        subject=options.subject,
        call_id=options.call,
        reason=options.reason,
        usage=_usage(options),
        time=options.time,
        id=adjustment_id,
        again=options.again,
    )


async def _outcome(adjuster: Adjuster, planned: Planned, options: argparse.Namespace) -> str:
    if options.dry_run:
        return "a dry run: nothing was written"
    try:
        adjustment, is_new = await adjuster.count(planned)
    except StorageUnavailable:
        how = f" with --id {planned.adjustment.id}" if options.again else ""
        print(f"it is unknown what was written: run the command again{how}", file=sys.stderr)
        raise
    if is_new:
        return "counted"
    return f"was counted before, at {format_time(adjustment.time)}: nothing changed"


def _usage(options: argparse.Namespace) -> TokenUsage:
    counts = {name: getattr(options, name) for name in ADJUSTED_COUNTS}
    return TokenUsage(**counts, total_tokens=options.prompt_tokens + options.completion_tokens)


def _summary(adjustment: Adjustment) -> str:
    usage = adjustment.usage
    names = (adjustment.subject, adjustment.deployment, adjustment.model or "unknown")
    return (
        f"adjustment {adjustment.id} of call {adjustment.refers_to}\n"
        f"  {printable('  '.join(names))}  {adjustment.tier}  {format_time(adjustment.time)}\n"
        f"  prompt {usage.prompt_tokens:+,}  completion {usage.completion_tokens:+,}  "
        f"total {usage.total_tokens:+,}"
    )
