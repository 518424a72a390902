"""`python -m local.eventhubs`: run the endpoint until SIGTERM or SIGINT."""

import argparse
import asyncio
import sys
from contextlib import suppress
from pathlib import Path

from local.eventhubs.broker import DataInUseError
from local.eventhubs.busy import BusySends
from local.eventhubs.config import Config, ConfigError
from local.eventhubs.endpoint import DEFAULT_KEY_NAME, LOOPBACK, Endpoint
from local.eventhubs.health import start_health
from local.eventhubs.log import CorruptLogError
from local.serving import stop_asked


def main() -> int:
    """Run the command; return 0 after a clean stop, 1 when the endpoint cannot start."""
    arguments = _parse_arguments()
    try:
        asyncio.run(_serve(arguments))
    except (ConfigError, CorruptLogError, DataInUseError, OSError) as exc:
        print(f"eventhubs: {exc}", file=sys.stderr)
        return 1
    return 0


async def _serve(arguments: argparse.Namespace) -> None:
    stopping = stop_asked()
    config = Config.load(arguments.config)
    busy = BusySends()
    endpoint = Endpoint(
        config, arguments.data, arguments.key_name, arguments.key, refuse=busy.refuse
    )
    port = await endpoint.start(LOOPBACK, arguments.port)
    health = None
    try:
        if arguments.health_port is not None:
            health = await start_health(LOOPBACK, arguments.health_port, busy)
        with suppress(BrokenPipeError):  # the reader of this line may have exited
            print(f"ready {port}", flush=True)
        await stopping.wait()
    finally:
        if health is not None:
            health.close()
        await endpoint.stop()


def _parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m local.eventhubs", description=__doc__)
    parser.add_argument("--port", type=int, required=True, help="AMQP port; 0 picks a free one")
    parser.add_argument("--data", type=Path, required=True, help="directory of the partition logs")
    parser.add_argument(
        "--config", type=Path, required=True, help="a Config.json of Microsoft's emulator"
    )
    parser.add_argument("--key", required=True, help="shared access key")
    parser.add_argument(
        "--key-name", default=DEFAULT_KEY_NAME, help="name of the shared access policy"
    )
    parser.add_argument("--health-port", type=int, help="port of GET /health and POST /busy/N")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
