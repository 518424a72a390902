"""`python -m meter`: one command of `meter.commands`."""

import argparse
import logging
import sys

from meter.adapters.clock import SystemClock
from meter.commands import adjust, check_config, deadletters, rebuild, reconcile, report
from meter.errors import InvalidSettings, MonitorUnavailable, StorageUnavailable
from meter.ports import Clock


def main(arguments: list[str] | None = None, *, clock: Clock | None = None) -> int:
    """Run one command; 0 when it did its work, 1 when it could not, 2 for words it does not know."""
    options = _parser().parse_args(arguments)
    options.clock = clock or SystemClock()
    # Its own errors are told below; the SDKs' retries are not for a terminal.
    logging.getLogger("azure").setLevel(logging.ERROR)
    try:
        return int(options.run(options))
    except InvalidSettings as exc:
        for problem in exc.problems:
            print(f"error: {problem}", file=sys.stderr)
    except StorageUnavailable as exc:
        print(f"error: table storage did not answer: {exc}", file=sys.stderr)
    except (MonitorUnavailable, OSError) as exc:
        print(f"error: {exc}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m meter", description="Report, check and repair what the meter counted."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for command in (report, reconcile, check_config, deadletters, adjust, rebuild):
        command.add_parser(commands)
    return parser


if __name__ == "__main__":
    sys.exit(main())
