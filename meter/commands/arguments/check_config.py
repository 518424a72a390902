"""The arguments of `check-config`: none."""

from argparse import Namespace

from meter.commands.console.parser import Commands


def add_parser(commands: Commands) -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "check-config",
        description="Checks the settings in the environment. Prints the backends and who is let in, "
        "or every problem.",
        examples=("check-config",),
        exit_codes={0: "the settings are valid", 1: "they are not"},
    )
    command.set_defaults(run=_run)


def _run(_options: Namespace) -> int:
    from meter.commands.checks.check_config import run

    return run()
