"""The arguments of `doctor`."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import Commands
from meter.doctor.finding import EXIT_CODES, Area

_ENDINGS = {
    Area.SETTINGS: "settings are invalid",
    Area.IDENTITY: "no identity can sign in",
    Area.ISSUERS: "an issuer's keys cannot be used",
    Area.BACKENDS: "a backend or one of its deployments does not answer or denies access",
    Area.HUB: "the app cannot send to or receive from the event hub",
    Area.TABLES: "the tables cannot be read and written",
    Area.BLOBS: "the blobs cannot be read and written",
    Area.CLOCK: "this machine's clock is wrong",
    Area.VERSIONS: "this Python, or a package, is missing or too old",
}


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "doctor",
        description="Checks that everything named in the settings answers and grants access: issuers, "
        "each deployment of each backend, the event hub, tables and blobs. Compares the clock and "
        "lists versions. Leaves nothing behind, sends no event and uses no tokens. The exit code is "
        "that of the first class that failed.",
        examples=(
            "doctor",
            "doctor --settings local.settings.json",
            "doctor --settings - --format json",
        ),
        exit_codes={
            0: "nothing failed; there may be warnings",
            **{EXIT_CODES[area]: f"{area}: {text}" for area, text in _ENDINGS.items()},
        },
    )
    command.add_argument(
        "--settings",
        type=Path,
        metavar="FILE",
        help="the app's settings, instead of the environment: what `az functionapp config appsettings "
        "list` prints, a local.settings.json, or lines NAME=value; - is standard input",
    )
    command.add_argument(
        "--format",
        choices=["table", "json"],
        default="table",
        help="how the findings are written (default: table)",
    )
    command.set_defaults(run=_run)


def _run(options: Namespace) -> int:
    from meter.commands.checks.doctor import run

    return run(options.settings, is_document=options.format == "json")
