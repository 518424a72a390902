"""`python -m meter adjust`: adjust the counts of one call, beside the call and once."""

import argparse
import asyncio
import sys
from datetime import datetime
from uuid import UUID

from meter.adapters.clock import system_dice
from meter.adjustment import Adjustment, encode_adjustment
from meter.ledger.aggregator import BatchReport
from meter.ledger.decode import Message
from meter.terminal import printable
from meter.upkeep.adjust import find_call, make_adjustment, moment_of
from meter.usage import COUNT_NAMES, TokenUsage, format_time, new_event_id
from meter.wiring.commands import open_aggregator

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
        "--id", type=_event_id, help="id of an earlier attempt, to retry it safely"
    )
    command.add_argument(
        "--dry-run", action="store_true", help="report what would be counted, without counting"
    )
    command.set_defaults(run=lambda options: asyncio.run(_adjust(command, options)))


async def _adjust(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    now = options.clock.now()
    async with open_aggregator() as aggregator:
        call = await find_call(aggregator.store, options.subject, options.call)
        if call is None:
            text = f"no call {options.call} of subject {options.subject!r} is counted"
            print(f"error: {text}", file=sys.stderr)
            return 1
        adjustment_id = options.id or new_event_id(now, system_dice().randbytes(10))
        try:
            adjustment = make_adjustment(
                call,
                adjustment_id=adjustment_id,
                subject=options.subject,
                refers_to=options.call,
                reason=options.reason,
                usage=_usage(options),
                # With the same id it must land in the same month, or it would count again.
                time=options.time or moment_of(adjustment_id),
            )
        except ValueError as exc:
            parser.error(str(exc))
        message = Message(
            body=encode_adjustment(adjustment), hub_partition="adjust", sequence_number=0
        )
        decoded = aggregator.decode([message])
        if decoded.dead_letters:
            print(f"error: {decoded.dead_letters[0].detail}", file=sys.stderr)
            return 1
        report = None if options.dry_run else await aggregator.count(decoded.events)
    print(_summary(adjustment, report))
    return 0


def _usage(options: argparse.Namespace) -> TokenUsage:
    counts = {name: getattr(options, name) for name in _COUNTS}
    return TokenUsage(**counts, total_tokens=options.prompt_tokens + options.completion_tokens)


def _summary(adjustment: Adjustment, report: BatchReport | None) -> str:
    usage = adjustment.usage
    outcome = "a dry run: nothing was written"
    if report is not None:
        outcome = "counted" if report.new_calls else "was counted before: nothing changed"
    return (
        f"adjustment {adjustment.id} of call {adjustment.refers_to}\n"
        f"  {printable(adjustment.subject)}  {adjustment.deployment}  "
        f"{adjustment.model or 'unknown'}  {adjustment.tier}  {format_time(adjustment.time)}\n"
        f"  prompt {usage.prompt_tokens:+,}  completion {usage.completion_tokens:+,}  "
        f"total {usage.total_tokens:+,}\n"
        f"{outcome}"
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
