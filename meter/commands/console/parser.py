"""Parses arguments: help with examples and exit codes, errors in two lines, the message first."""

import argparse
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from meter.terminal import printable
from meter.terminal.words import listed, suggestion

if TYPE_CHECKING:
    from _typeshed import SupportsWrite

SCRIPT = "aoai-meter"
MODULE = "python -m meter"
SUCCESS, FAILURE, INVALID = 0, 1, 2
EXIT_CODES = {SUCCESS: "success", FAILURE: "failure", INVALID: "invalid arguments"}
_EXAMPLE_WIDTH = 78

type Commands = argparse._SubParsersAction[CommandParser]
"""What commands, or the actions of one, are added to."""


class CommandParser(argparse.ArgumentParser):
    """The parser of a program or of one of its commands.

    `examples` are command lines without the program's name, which is that of `program_name` unless
    `program` is given; `exit_codes` say what each code means.
    """

    def __init__(
        self,
        *args: Any,  # argparse's own
        program: str | None = None,
        examples: Sequence[str] = (),
        exit_codes: Mapping[int, str] | None = None,
        **options: Any,  # argparse's own
    ) -> None:
        super().__init__(*args, **options)
        self.program = program
        self.examples = tuple(examples)
        self.exit_codes = EXIT_CODES | dict(exit_codes or {})
        self._words: list[str] = []

    def format_help(self) -> str:
        """The help; its examples are as they are typed, continued with a backslash."""
        program = self.program or program_name()
        parts = [super().format_help()]
        if self.examples:
            parts.append("\nexamples:\n")
            parts += [f"{_continued(f'{program} {each}'.strip())}\n" for each in self.examples]
        parts.append("\nexit codes:\n")
        parts += [
            f"{_wrapped(f'  {code:<5}', text)}\n" for code, text in sorted(self.exit_codes.items())
        ]
        return "".join(parts)

    def print_help(self, file: "SupportsWrite[str] | None" = None) -> None:
        """Write the help. A failure is not swallowed, as argparse does."""
        print(self.format_help(), end="", file=file or sys.stdout)

    def error(self, message: str) -> NoReturn:
        """Exit with 2 after the message and where to read more."""
        unknown = self._unknown(self._words)
        if message.startswith("the following arguments are required") and unknown:
            message = f"{message}; {self._refusal(unknown)}"
        self.exit(INVALID, f"error: {printable(message)}\nsee {self.prog} --help\n")

    def parse_known_args(  # type: ignore[override]  # argparse's own has an overload per namespace
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Refuse here what is not known: the command's own parser can suggest what is meant."""
        self._words = list(sys.argv[1:] if args is None else args)
        options, rest = super().parse_known_args(args, namespace)
        if rest:
            self.error(self._refusal(self._unknown(rest) or rest))
        return options, rest

    def _unknown(self, words: Iterable[str]) -> list[str]:
        """The words that are written like options, and are none."""
        names = [word.partition("=")[0] for word in words if word.startswith("--") and word != "--"]
        known = self._option_string_actions
        return [name for name in names if not any(each.startswith(name) for each in known)]

    def _refusal(self, words: Sequence[str]) -> str:
        if not words[0].startswith("-"):
            return f"unexpected argument {words[0]!r}"
        return f"unknown option {words[0]}{suggestion(words[0], self._option_string_actions)}"

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is None or value in action.choices:
            return
        names = [str(each) for each in action.choices]
        meant = suggestion(str(value), names)
        if isinstance(action, argparse._SubParsersAction):
            text = f"unknown {action.dest} {value!r}{meant or '; there are'}"
            text = text if meant else f"{text} {', '.join(names)}"
            raise argparse.ArgumentError(None, text)
        raise argparse.ArgumentError(action, f"takes {listed(names)}; got {value!r}{meant}")


def program_name() -> str:
    """How the program was called."""
    return SCRIPT if Path(sys.argv[0]).stem == SCRIPT else MODULE


def _continued(command: str) -> str:
    lines = textwrap.wrap(
        command,
        _EXAMPLE_WIDTH - 2,
        initial_indent="  ",
        subsequent_indent="      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    return " \\\n".join(lines)


def _wrapped(head: str, text: str) -> str:
    return textwrap.fill(
        text, _EXAMPLE_WIDTH, initial_indent=head, subsequent_indent=" " * len(head)
    )
