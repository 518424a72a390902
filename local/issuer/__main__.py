"""Runs the issuer until SIGTERM: `python -m local.issuer --port P --state DIR`."""

import argparse
import asyncio
from pathlib import Path

from local.issuer.server import Issuer
from local.serving import serve


def main() -> None:
    """Parses the arguments, serves until SIGTERM or Ctrl-C, exits with 0."""
    parser = argparse.ArgumentParser(prog="python -m local.issuer", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 picks a free one")
    parser.add_argument("--state", type=Path, required=True, help="directory that keeps the keys")
    arguments = parser.parse_args()
    asyncio.run(serve(Issuer(arguments.state), arguments.port))


if __name__ == "__main__":
    main()
