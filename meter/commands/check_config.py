"""`python -m meter check-config`: list every problem of the settings."""

import argparse

from meter.wiring.metering import current_settings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words."""
    command = commands.add_parser(
        "check-config", help="list every problem of the settings; exit 1 if there are any"
    )
    command.set_defaults(run=_run)


def _run(_options: argparse.Namespace) -> int:
    settings = current_settings()
    gateway = settings.gateway
    print(f"settings are valid: {len(gateway.backends)} backends")
    for backend in sorted(gateway.backends, key=lambda b: (b.priority, b.name)):
        names = ", ".join(sorted(backend.deployments))
        print(
            f"  {backend.name}: priority {backend.priority}, weight {backend.weight}, "
            f"{backend.tier}; serves {names}"
        )
    return 0
