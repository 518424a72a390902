"""Runs one account until SIGTERM: `python -m local.openai --port P --name NAME --record FILE`."""

import argparse
import asyncio
from pathlib import Path

from local.openai.server import DEFAULT_DEPLOYMENTS, StandIn
from local.serving import serve


def main() -> None:
    """Parses the arguments, serves until SIGTERM or Ctrl-C, exits with 0."""
    parser = argparse.ArgumentParser(prog="python -m local.openai", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 picks a free one")
    parser.add_argument("--name", required=True, help="name of the account, sent as x-ms-region")
    parser.add_argument(
        "--record", type=Path, required=True, help="file that records the calls, as JSON lines"
    )
    parser.add_argument("--key", help="api-key required of callers (default: none required)")
    parser.add_argument(
        "--deployment",
        action="append",
        type=_deployment,
        metavar="NAME=MODEL",
        help="replaces the default deployments; may be repeated",
    )
    arguments = parser.parse_args()
    deployments = dict(arguments.deployment or DEFAULT_DEPLOYMENTS)
    stand_in = StandIn(arguments.name, deployments, key=arguments.key, record=arguments.record)
    asyncio.run(serve(stand_in, arguments.port))


def _deployment(text: str) -> tuple[str, str]:
    name, separator, model = text.partition("=")
    if not (name and separator and model):
        raise argparse.ArgumentTypeError(f"a deployment must be NAME=MODEL, got {text!r}")
    return name, model


if __name__ == "__main__":
    main()
