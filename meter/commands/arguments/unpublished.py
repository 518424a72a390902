"""The arguments of `unpublished`."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import Commands
from meter.publishing.loglines import UNPUBLISHED


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "unpublished",
        description=f"Reads the events of `{UNPUBLISHED}` lines from logs, joins lines written in "
        "parts, and writes each event once, one JSON line per event. Publishing is safe to "
        "repeat: an event is counted once.",
        examples=("unpublished log.txt", "unpublished log.txt --publish"),
        exit_codes={0: "all were read, and published if asked", 1: "some could not be"},
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        type=Path,
        nargs="*",
        help="logs as text, one log line per line (default: standard input)",
    )
    parser.add_argument(
        "--publish", action="store_true", help="send the events to the hub instead of writing them"
    )
    parser.set_defaults(run=_run)


def _run(options: Namespace) -> int:
    from meter.commands.unpublished import run

    return run(options)
