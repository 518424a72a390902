"""The arguments of `deadletters` and its actions."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import CommandParser, Commands
from meter.commands.options import add_format, add_range, reader
from meter.ledger.keys import parse_letter_key
from meter.ledger.reading.reason import Reason
from meter.reports.write.formats import TABLE_AND_JSON
from meter.window import Period


def add_parser(commands: Commands) -> None:
    """Add the actions and their arguments."""
    parser = commands.add_parser(
        "deadletters",
        description="Lists, shows and replays events that could not be counted.",
        examples=("deadletters list", "deadletters replay --dry-run"),
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_list(actions)
    _add_show(actions)
    _add_replay(actions)


def _add_list(actions: Commands) -> None:
    text = "list dead letters, one line per letter"
    parser = actions.add_parser(
        "list",
        help=text,
        description=f"{text.capitalize()}.",
        examples=("deadletters list", "deadletters list --from 2026-11 --reason invalid-field"),
    )
    _add_selection(parser)
    add_format(parser, TABLE_AND_JSON)
    parser.set_defaults(run=_list)


def _add_show(actions: Commands) -> None:
    text = "write the whole body of one dead letter"
    parser = actions.add_parser(
        "show",
        help=text,
        description=f"{text.capitalize()}.",
        examples=("deadletters show 2026-11-23/0/26/1 --out fixed.json",),
        exit_codes={0: "written", 1: "there is no such letter, or its body is not complete yet"},
    )
    parser.add_argument("key", metavar="KEY", type=reader(_key), help="as printed by `list`")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="FILE",
        help="write the body to this file, byte for byte (default: standard output)",
    )
    parser.set_defaults(run=_show)


def _add_replay(actions: Commands) -> None:
    parser = actions.add_parser(
        "replay",
        help="count dead letters that are valid now",
        description="Counts dead letters that are valid now, once per event and in the window of "
        "the event's own time, and deletes their rows.",
        examples=(
            "deadletters replay --dry-run",
            "deadletters replay --file fixed.json 2026-11-23/0/26/1",
        ),
        exit_codes={0: "all were counted", 1: "some were refused or not found"},
    )
    parser.add_argument(
        "keys",
        metavar="KEY",
        type=reader(_key),
        nargs="*",
        help="as printed by `list` (default: all)",
    )
    _add_selection(parser)
    parser.add_argument(
        "--file", type=Path, metavar="FILE", help="count this file in place of the body of one KEY"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="report what would be counted, without writing"
    )
    parser.set_defaults(writes=True, run=lambda options: _replay(parser, options))


def _add_selection(parser: CommandParser) -> None:
    selection = parser.add_argument_group(
        "selection",
        "By the day of enqueuing. Letters without that day are included only if neither --from "
        "nor --to is given.",
    )
    add_range(
        selection,
        first_default="the oldest",
        last_default="the newest",
        periods=(Period.MONTH, Period.DAY),
    )
    selection.add_argument(
        "--reason",
        choices=[reason.value for reason in Reason],
        metavar="REASON",
        help=f"one of {', '.join(Reason)} (default: any)",
    )


def _key(text: str) -> str:
    parse_letter_key(text)
    return text


def _list(options: Namespace) -> int:
    from meter.commands.deadletters import list_letters

    return list_letters(options)


def _show(options: Namespace) -> int:
    from meter.commands.deadletters import show

    return show(options)


def _replay(parser: CommandParser, options: Namespace) -> int:
    from meter.commands.deadletters import replay

    return replay(parser, options)
