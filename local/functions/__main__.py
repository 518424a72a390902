"""`python -m local.functions --app DIR --port P`: one function app until SIGTERM.

`LOCAL_ADMIN_KEY` in the environment is the key to the host's own addresses; without it they stay shut.
"""

import argparse
import asyncio
import os
import sys
from pathlib import Path

from local.functions.admin import KEY_VARIABLE
from local.functions.host import run
from local.functions.logs import log_of_the_host
from local.functions.real_proxy import ProxyFailed
from local.functions.worker import AppFailed


def main() -> int:
    """Run the host; exit 1 when the app cannot be loaded."""
    parser = argparse.ArgumentParser(prog="python -m local.functions")
    parser.add_argument("--app", type=Path, default=Path.cwd(), help="directory of function_app.py")
    parser.add_argument("--port", type=int, default=7071, help="loopback port; 0 picks a free one")
    parser.add_argument(
        "--dropped-log", type=Path, help="file for the log lines that the real host would drop"
    )
    parser.add_argument(
        "--behind",
        type=Path,
        help="Microsoft's proxy (yarp-front), to use instead of the imitation",
    )
    arguments = parser.parse_args()
    log_of_the_host()
    try:
        run_app = run(
            arguments.app.resolve(),
            arguments.port,
            admin_key=os.environ.pop(KEY_VARIABLE, ""),
            dropped_log=arguments.dropped_log,
            behind=arguments.behind and arguments.behind.resolve(),
        )
        asyncio.run(run_app)
    except AppFailed as exc:
        print(f"the function app cannot be loaded: {exc}", file=sys.stderr)
        return 1
    except ProxyFailed as exc:
        print(exc, file=sys.stderr)
        return 1
    except OSError as exc:
        print(f"port {arguments.port}: {exc.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
