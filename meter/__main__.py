"""`python -m meter`, installed as `aoai-meter`: runs one command of `meter.commands`."""

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import TYPE_CHECKING

from meter.commands.console.parser import CommandParser, program_name
from meter.commands.console.streams import ended

if TYPE_CHECKING:
    from meter.ports import Clock

COMMANDS = {
    "report": "report the counted calls and tokens",
    "export": "write the report's files to a folder or a container",
    "prices": "fill and check a price book",
    "invoice": "split Azure's bill of a month by counted usage",
    "subjects": "list and set names, teams and cost centres",
    "reconcile": "compare the counted tokens with Azure Monitor's",
    "check-config": "check the settings and list every problem",
    "doctor": "check that every dependency answers and grants access",
    "deadletters": "list, show and replay events that could not be counted",
    "unpublished": "publish events that only the log has",
    "adjust": "adjust the counts of one call",
    "rebuild": "check a month's ledger and make its views equal to it",
    "close": "close a month, so that its numbers never change",
    "prove": "prove that a call is in the closed total of its month once",
    "verify-proof": "check such a proof, without any access",
}
_FOLDERS = {"close": "closing.", "prove": "closing.", "verify-proof": "closing."}
_EXAMPLES = ("report --by day", "report --help", "--version")
_ENDINGS = {130: "interrupted", 141: "what reads the output was closed, as after `| head -1`"}


def main(arguments: list[str] | None = None, *, clock: "Clock | None" = None) -> int:
    """Run one command. Returns its exit code; exits with 2 for invalid arguments."""
    words = sys.argv[1:] if arguments is None else arguments
    return ended(lambda: _run(parser_of(words).parse_args(words), clock))


def _run(options: argparse.Namespace, clock: "Clock | None") -> int:
    from meter.commands.console.running import run  # imports what help does not need

    return run(options, clock)


def parser_of(arguments: Sequence[str]) -> CommandParser:
    """The parser of the arguments; it imports no command but the chosen one."""
    parser = CommandParser(
        prog=program_name(),
        description="Reports, checks and repairs what the meter counted.",
        examples=_EXAMPLES,
        exit_codes=_ENDINGS,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((each for each in arguments if each in COMMANDS), None)
    for name, text in COMMANDS.items():
        if name == chosen:
            module = f"{_FOLDERS.get(name, '')}{name.replace('-', '_')}"
            import_module(f"meter.commands.arguments.{module}").add_parser(commands)
        else:
            commands.add_parser(name, help=text)
    return parser


class _Version(argparse.Action):
    """Prints the version, which is looked up only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: object) -> None:
        from meter.commands.console.version import NAME, program_version

        print(NAME, program_version())
        parser.exit()


if __name__ == "__main__":
    sys.exit(main())
