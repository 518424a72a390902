"""`python -m meter`: the report, a check of the settings, and repair (see `meter.commands`)."""

import argparse
import asyncio
import logging
import sys
from pathlib import Path

from meter import bootstrap
from meter.adapters.clock import SystemClock
from meter.commands import deadletters, rebuild
from meter.errors import ConfigError, StorageUnavailable
from meter.ledger.report import Format, Query, Report, make_query, read_report, write_report
from meter.window import Period


def main(arguments: list[str] | None = None) -> int:
    """Run one command; 0 when it did its work, 1 when it could not, 2 for words it does not know."""
    parser = _parser()
    options = parser.parse_args(arguments)
    # Its own errors are told below; the SDKs' retries are not for a terminal.
    logging.getLogger("azure").setLevel(logging.ERROR)
    try:
        if options.command == "check-config":
            return _check_config()
        if options.command in {"rebuild", "deadletters"}:
            return int(options.run(options))
        return _report(parser, options)
    except ConfigError as exc:
        for problem in exc.problems:
            print(f"error: {problem}", file=sys.stderr)
    except StorageUnavailable as exc:
        print(f"error: table storage did not answer: {exc}", file=sys.stderr)
    except OSError as exc:
        print(f"error: {exc}", file=sys.stderr)
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m meter", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser(
        "check-config", help="list every problem of the settings; exit 1 if there are any"
    )
    report = commands.add_parser("report", help="who spent which tokens")
    report.add_argument(
        "--by", choices=[period.value for period in Period], default=Period.MONTH.value
    )
    time = "YYYY-MM, YYYY-MM-DD or YYYY-MM-DDTHH, UTC, all of it included"
    report.add_argument("--from", dest="first", metavar="TIME", help=f"{time}; default: this month")
    report.add_argument("--to", dest="last", metavar="TIME", help=f"{time}; default: now")
    report.add_argument(
        "--group",
        default="subject,deployment,model,tier",
        metavar="NAMES",
        help="any of subject,deployment,model,tier (default: all)",
    )
    report.add_argument(
        "--format", choices=[form.value for form in Format], default=Format.TABLE.value
    )
    report.add_argument("--out", type=Path, metavar="FILE", help="write there, not to the terminal")
    rebuild.add_parser(commands)
    deadletters.add_parser(commands)
    return parser


def _check_config() -> int:
    settings = bootstrap.current_settings()
    gateway = settings.gateway
    print(f"settings are valid: {len(gateway.backends)} backends")
    for backend in sorted(gateway.backends, key=lambda b: (b.priority, b.name)):
        names = ", ".join(sorted(backend.deployments))
        print(
            f"  {backend.name}: priority {backend.priority}, weight {backend.weight}, "
            f"{backend.tier}; serves {names}"
        )
    return 0


def _report(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        query = make_query(
            by=options.by,
            first=options.first,
            last=options.last,
            groups=options.group,
            now=SystemClock().now(),
        )
    except ValueError as exc:
        parser.error(str(exc))
    text = write_report(asyncio.run(_read(query)), Format(options.format))
    if options.out is None:
        sys.stdout.write(text)
    else:
        options.out.write_text(text, encoding="utf-8")
    return 0


async def _read(query: Query) -> Report:
    async with bootstrap.open_store() as store:
        return await read_report(store, query)


if __name__ == "__main__":
    sys.exit(main())
