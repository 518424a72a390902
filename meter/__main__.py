"""`python -m meter`: runs one command of `meter.commands`."""

import argparse
import logging
import sys
from collections.abc import Sequence
from importlib import import_module

from meter.adapters.clock import SystemClock
from meter.errors import (
    AccessDenied,
    InvalidInput,
    InvalidSettings,
    MeterError,
    NotSignedIn,
    StorageUnavailable,
)
from meter.ports import Clock
from meter.terminal import printable

_COMMANDS = {
    "report": "report the counted calls and tokens",
    "export": "write the report's files to a folder or a container",
    "prices": "fill and check a price book",
    "invoice": "split Azure's bill of a month by counted usage",
    "subjects": "list and set names, teams and cost centres",
    "reconcile": "compare the counted tokens with Azure Monitor's",
    "check-config": "check the settings and list every problem",
    "deadletters": "list, show and replay events that could not be counted",
    "unpublished": "publish events that only the log has",
    "adjust": "adjust the counts of one call",
    "rebuild": "check a month's ledger and make its views equal to it",
    "close": "close a month, so that its numbers never change",
    "prove": "prove that a call is in the closed total of its month once",
    "verify-proof": "check such a proof, without any access",
}
_FOLDERS = {"close": "closing.", "prove": "closing.", "verify-proof": "closing."}


def main(arguments: list[str] | None = None, *, clock: Clock | None = None) -> int:
    """Run one command. Returns 0 for success, 1 for failure; exits with 2 for invalid arguments."""
    arguments = sys.argv[1:] if arguments is None else arguments
    options = _parser(arguments).parse_args(arguments)
    options.clock = clock or SystemClock()
    # Failures are reported below; the SDKs' retries are not for a terminal.
    logging.getLogger("azure").setLevel(logging.ERROR)
    try:
        return int(options.run(options))
    except (InvalidSettings, InvalidInput) as exc:
        for problem in exc.problems:
            print(f"error: {printable(problem)}", file=sys.stderr)
    except (MeterError, OSError) as exc:
        print(f"error: {printable(_reason(exc, options))}", file=sys.stderr)
    return 1


def _reason(exc: MeterError | OSError, options: argparse.Namespace) -> str:
    is_writing = getattr(options, "writes", False) and not getattr(options, "dry_run", False)
    role = f"Storage Table Data {'Contributor' if is_writing else 'Reader'} on the data account"
    match exc:
        case NotSignedIn():
            return (
                f"not signed in to Azure: run `az login`, or set MeterStorage; the role is {role}"
            )
        case AccessDenied(code="AuthorizationPermissionMismatch"):
            return (
                f"signed in to Azure, but without the role {role}; a new one takes minutes: {exc}"
            )
        case AccessDenied():
            return f"table storage refused the key, the sign-in or this network: {exc}"
        case StorageUnavailable():
            return f"table storage did not answer: {exc}"
        case OSError(filename=str(name), strerror=str(reason)):
            return f"{name}: {reason}"
        case _:
            return str(exc)


def _parser(arguments: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of the arguments; it imports no command but the chosen one."""
    parser = argparse.ArgumentParser(
        prog="python -m meter",
        description="Reports, checks and repairs what the meter counted. "
        "Exit code 0: success; 1: failure; 2: invalid arguments.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    chosen = next((each for each in arguments if each in _COMMANDS), None)
    for name, text in _COMMANDS.items():
        if name == chosen:
            module = f"{_FOLDERS.get(name, '')}{name.replace('-', '_')}"
            import_module(f"meter.commands.{module}").add_parser(commands)
        else:
            commands.add_parser(name, help=text)
    return parser


if __name__ == "__main__":
    sys.exit(main())
