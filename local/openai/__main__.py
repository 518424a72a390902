"""Runs one account until SIGTERM: `python -m local.openai --port P --name NAME --record FILE`."""

import argparse
import asyncio
from pathlib import Path

from local.openai.server import DEFAULT_DEPLOYMENTS, StandIn
from local.serving import serve


def main() -> None:
    """Parses the arguments, serves until SIGTERM or Ctrl-C, ends with exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m local.openai", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--name", required=True, help="the account's name, sent as x-ms-region")
    parser.add_argument("--record", type=Path, required=True, help="file of the calls (JSON lines)")
    parser.add_argument("--key", help="the api-key that callers need; without it nobody is asked")
    parser.add_argument(
        "--deployment",
        action="append",
        type=_deployment,
        metavar="NAME=MODEL",
        help="replaces the default deployments; may be given again",
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
