"""The arguments of `doctor`."""

from argparse import Namespace
from pathlib import Path

from meter.commands.console.parser import Commands
from meter.doctor.finding import EXIT_CODES, Area

_ENDINGS = {
    Area.SETTINGS: "settings are invalid",
    Area.IDENTITY: "no identity signs in",
    Area.ISSUERS: "an issuer's keys cannot be used",
    Area.BACKENDS: "a backend or a deployment of it does not answer, or refuses us",
    Area.HUB: "the event hub cannot be sent to, or received from",
    Area.TABLES: "the tables cannot be read and written",
    Area.BLOBS: "the blobs cannot be read and written",
    Area.CLOCK: "this machine's clock is wrong",
    Area.VERSIONS: "this Python, or a package, is missing or too old",
}


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "doctor",
        description="Asks everything that the settings name whether it answers and lets us in: "
        "issuers, each deployment of each backend, the event hub, tables and blobs; compares the "
        "clock, and lists versions. Nothing stays, no event is sent, and no token is billed. Each "
        "failure has a class, and the first class that failed gives the exit code.",
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
