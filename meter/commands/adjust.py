"""`python -m meter adjust`: adjust the counts of one call, beside the call and once."""

import argparse
import asyncio
import sys
from datetime import datetime
from uuid import UUID

from meter.adapters.clock import system_dice
from meter.adjustment import Adjustment
from meter.errors import StorageUnavailable
from meter.ledger.adjusting.notes import moment_of
from meter.terminal import printable
from meter.upkeep.adjust import Adjuster, AdjustmentRefused, Planned, Wanted
from meter.usage import COUNT_NAMES, TokenUsage, format_time, new_event_id
from meter.wiring.commands import open_repairs

# The total changes by its two parts.
_COUNTS = tuple(name for name in COUNT_NAMES if name != "total_tokens")


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "adjust",
        description="Counts a signed adjustment of one call, in columns of its own: the call itself "
        "stays as it was counted. total_tokens changes by prompt_tokens and completion_tokens.",
    )
    command.add_argument("--subject", required=True, help="the subject that made the call")
    command.add_argument(
        "--call", required=True, type=_event_id, metavar="ID", help="the call's x-meter-event-id"
    )
    command.add_argument("--reason", required=True, help="stored with the adjustment")
    for name in _COUNTS:
        flag, text = f"--{name.replace('_', '-')}", "signed change, for example -120"
        command.add_argument(flag, type=int, default=0, metavar="N", help=text)
    command.add_argument(
        "--time",
        type=_moment,
        metavar="TIME",
        help="time of the window it counts in, RFC 3339; default: now, so closed months stay closed",
    )
    command.add_argument(
        "--again",
        action="store_true",
        help="count it even if the same counts and reason adjusted the call before",
    )
    command.add_argument(
        "--id", type=_event_id, help="id of an earlier attempt, to retry one made with --again"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="report what would be counted, without counting"
    )
    command.set_defaults(writes=True, run=lambda options: asyncio.run(_adjust(command, options)))


async def _adjust(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
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
    counts = {name: getattr(options, name) for name in _COUNTS}
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


def _event_id(text: str) -> UUID:
    try:
        event_id = UUID(text)
        moment_of(event_id)
    except ValueError:
        raise argparse.ArgumentTypeError(f"takes an event id, a UUIDv7; got {text!r}") from None
    return event_id


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise argparse.ArgumentTypeError(
            f"takes a time with its offset, like 2026-11-23T07:00Z; got {text!r}"
        )
    return moment
