"""Runs the issuer until SIGTERM: `python -m local.issuer --port P --state DIR`."""

import argparse
import asyncio
import signal
from pathlib import Path

from local.issuer.server import Issuer


def main() -> None:
    """Parses the arguments, serves until SIGTERM or Ctrl-C, ends with exit code 0."""
    parser = argparse.ArgumentParser(prog="python -m local.issuer", description=__doc__)
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--state", type=Path, required=True, help="directory that keeps the keys")
    arguments = parser.parse_args()
    asyncio.run(_serve(arguments.port, arguments.state))


async def _serve(port: int, state_dir: Path) -> None:
    stop_asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop_asked.set)
    issuer = Issuer(state_dir)
    print(f"ready {await issuer.start(port)}", flush=True)
    try:
        await stop_asked.wait()
    finally:
        await issuer.stop()


if __name__ == "__main__":
    main()
