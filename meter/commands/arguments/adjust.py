"""The arguments of `adjust`."""

from argparse import ArgumentTypeError, Namespace
from datetime import datetime
from uuid import UUID

from meter.commands.console.parser import CommandParser, Commands
from meter.usage import COUNT_NAMES

# The total changes by its two parts.
ADJUSTED_COUNTS = tuple(name for name in COUNT_NAMES if name != "total_tokens")


def add_parser(commands: Commands) -> None:
    """Add the command and its options."""
    command = commands.add_parser(
        "adjust",
        description="Counts a signed adjustment of one call, in columns of its own: the call itself "
        "stays as it was counted. total_tokens changes by prompt_tokens and completion_tokens.",
        examples=(
            "adjust --subject alice --call 01a20983-494f-7586-86d9-4f0a7a0150bc "
            "--completion-tokens -120 --reason 'answer was cut off' --dry-run",
        ),
        exit_codes={
            0: "counted, now or before; in a dry run: it can be",
            1: "refused, with the reason",
        },
    )
    command.add_argument("--subject", required=True, help="the subject that made the call")
    command.add_argument(
        "--call", required=True, type=_event_id, metavar="ID", help="the call's x-meter-event-id"
    )
    command.add_argument("--reason", required=True, help="stored with the adjustment")
    for name in ADJUSTED_COUNTS:
        flag, text = f"--{name.replace('_', '-')}", "signed change, for example -120"
        command.add_argument(flag, type=int, default=0, metavar="N", help=text)
    _add_repeats(command)
    command.set_defaults(writes=True, run=lambda options: _run(command, options))


def _add_repeats(command: CommandParser) -> None:
    """Add when it counts, and what makes it one adjustment or two."""
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


def _event_id(text: str) -> UUID:
    try:
        event_id = UUID(text)
    except ValueError:
        event_id = None
    if event_id is None or event_id.version != 7:
        raise ArgumentTypeError(f"takes an event id, a UUIDv7; got {text!r}")
    return event_id


def _moment(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise ArgumentTypeError(
            f"takes a time with its offset, like 2026-11-23T07:00Z; got {text!r}"
        )
    return moment


def _run(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.adjust import run

    return run(parser, options)
