"""Runs the metrics API until SIGTERM: `python -m local.monitor --account RESOURCE_ID=SOURCE`."""

import argparse
import asyncio

from local.monitor.server import StandInMonitor
from local.serving import serve


def main() -> None:
    """Parses the arguments, serves until SIGTERM or Ctrl-C, exits with 0."""
    parser = argparse.ArgumentParser(prog="python -m local.monitor", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 picks a free one")
    parser.add_argument("--token", help="bearer token required of callers (default: none required)")
    parser.add_argument(
        "--account",
        action="append",
        required=True,
        type=_account,
        metavar="RESOURCE_ID=SOURCE",
        help="an account, and the URL of its stand-in or a JSON file of numbers; may be repeated",
    )
    arguments = parser.parse_args()
    stand_in = StandInMonitor(dict(arguments.account), token=arguments.token)
    asyncio.run(serve(stand_in, arguments.port))


def _account(text: str) -> tuple[str, str]:
    resource_id, separator, source = text.partition("=")
    if not (resource_id.startswith("/") and separator and source):
        raise argparse.ArgumentTypeError(f"an account must be RESOURCE_ID=SOURCE, got {text!r}")
    return resource_id, source


if __name__ == "__main__":
    main()
