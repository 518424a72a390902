"""`python -m local.functions --app DIR --port P`: one function app until SIGTERM."""

import argparse
import asyncio
import logging
import os
import sys
from pathlib import Path

from local.functions.host import run
from local.functions.worker import AppFailed


def main() -> int:
    """Run the host; exit 1 when the app cannot be loaded."""
    parser = argparse.ArgumentParser(prog="python -m local.functions")
    parser.add_argument("--app", type=Path, default=Path.cwd(), help="directory of function_app.py")
    parser.add_argument("--port", type=int, default=7071, help="loopback port; 0 picks a free one")
    arguments = parser.parse_args()
    logging.basicConfig(
        level=os.environ.get("METER_LOG_LEVEL", "WARNING"),
        format="%(asctime)s %(levelname)s %(name)s %(message)s",
        stream=sys.stderr,
    )
    # The runtime logs several lines per request below this level.
    logging.getLogger("azure.functions").setLevel(logging.WARNING)
    try:
        asyncio.run(run(arguments.app.resolve(), arguments.port))
    except AppFailed as exc:
        print(f"the function app cannot be loaded: {exc}", file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"port {arguments.port}: {exc.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
