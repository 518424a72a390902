"""`python -m local.faults --listen PORT --target HOST:PORT --control PORT [--http]`.

Runs a fault proxy until SIGTERM. Port 0 picks a free one; `ready LISTEN CONTROL` prints both.
"""

import argparse
import asyncio

from local.faults.control import Control
from local.faults.http import HttpFaultProxy
from local.faults.tcp import FaultProxy
from local.serving import stop_asked


def main() -> None:
    """Parse the arguments, serve until SIGTERM or Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.faults", description=__doc__)
    parser.add_argument(
        "--listen", type=int, required=True, help="loopback port of the proxy; 0 picks a free one"
    )
    parser.add_argument("--target", type=_address, required=True, metavar="HOST:PORT")
    parser.add_argument(
        "--control",
        type=int,
        required=True,
        help="loopback port that changes the rules; 0 picks a free one",
    )
    parser.add_argument("--http", action="store_true", help="proxy HTTP requests, not just bytes")
    asyncio.run(_serve(parser.parse_args()))


async def _serve(arguments: argparse.Namespace) -> None:
    stopping = stop_asked()
    kind = HttpFaultProxy if arguments.http else FaultProxy
    proxy = kind(*arguments.target)
    control = Control(proxy)
    try:
        listening = await proxy.start(arguments.listen)
        print(f"ready {listening} {await control.start(arguments.control)}", flush=True)
        await stopping.wait()
    finally:
        await control.stop()
        await proxy.stop()


def _address(text: str) -> tuple[str, int]:
    host, separator, port = text.rpartition(":")
    if not (separator and host and port.isdecimal()):
        raise argparse.ArgumentTypeError(f"must be HOST:PORT, got {text!r}")
    return host, int(port)


if __name__ == "__main__":
    main()
