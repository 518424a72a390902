"""`python -m meter check-config`: lists every problem of the settings."""

import argparse

from meter.terminal import printable
from meter.wiring.commands import current_settings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "check-config",
        description="Checks the settings in the environment. Exit code 0: they are valid, and the "
        "backends are listed; 1: they are not, and every problem is listed.",
    )
    command.set_defaults(run=_run)


def _run(_options: argparse.Namespace) -> int:
    gateway = current_settings().gateway
    print(f"settings are valid: {len(gateway.backends)} backends")
    for backend in sorted(gateway.backends, key=lambda b: (b.priority, b.name)):
        names = ", ".join(sorted(backend.deployments))
        print(
            f"  {printable(backend.name)}: priority {backend.priority}, weight {backend.weight}, "
            f"{backend.tier}; serves {printable(names)}"
        )
    return 0
