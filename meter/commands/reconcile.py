"""`python -m meter reconcile`: compares the counted usage with Azure Monitor's metrics."""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from fractions import Fraction
from functools import partial

from meter.commands.options import add_format, add_range, reader
from meter.gateway.backend import Backend
from meter.reports.matching import BackendNames
from meter.reports.query import Query
from meter.reports.reconcile import read_counted, reconcile
from meter.reports.tally import CountedUnder, Hours, OwnDeployment, Recorded
from meter.reports.terms import make_terms, parse_names, parse_tolerance
from meter.reports.write.reconciliation import FORMATS, write_reconciliation
from meter.reports.write.report import Format
from meter.usage import Tier
from meter.wiring.commands import current_reconcile_settings, open_monitor, open_store


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    command = commands.add_parser(
        "reconcile",
        description="Compares the counted tokens of each deployment on each account with those "
        "that Azure Monitor recorded. Exit code 0: all are within the tolerance; 1: at least one "
        "is not, or nothing could be compared; 2: invalid arguments.",
    )
    add_range(
        command,
        first_default="the start of --to, or of yesterday",
        last_default="the last complete hour after --from, or the end of yesterday",
    )
    command.add_argument(
        "--tolerance",
        type=reader(parse_tolerance),
        default=Fraction(1, 200),
        metavar="PERCENT",
        help="largest accepted difference of a deployment, in percent of Azure's tokens "
        "(default: 0.5%%)",
    )
    command.add_argument(
        "--ignore",
        type=reader(parse_names),
        default=frozenset(),
        metavar="NAMES",
        help="deployments that may be called directly, by their names in Azure, comma-separated",
    )
    add_format(command, FORMATS)
    command.set_defaults(run=partial(_run, command))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        terms = make_terms(
            first=options.first,
            last=options.last,
            tolerance=options.tolerance,
            ignored=options.ignore,
            now=options.clock.now(),
        )
    except ValueError as exc:
        parser.error(f"argument --from: {exc}")
    settings = current_reconcile_settings()
    backends = [_names_of(each) for each in settings.backends]
    counted = asyncio.run(_read_counted(terms.query))
    recorded = _read_recorded(settings.monitor_url, backends, terms.query)
    found = reconcile(terms, backends, counted=counted, recorded=recorded)
    write_reconciliation(found, Format(options.format), sys.stdout)
    return 0 if found.agrees else 1


def _names_of(backend: Backend) -> BackendNames:
    return BackendNames(
        backend=backend.name,
        resource_id=backend.resource_id,
        deployments={name: backend.own_name(name) for name in backend.deployments},
        provisioned=frozenset(
            name for name in backend.deployments if backend.tier_of(name) is Tier.PROVISIONED
        ),
    )


async def _read_counted(query: Query) -> dict[CountedUnder, Hours]:
    async with open_store() as store:
        return await read_counted(store, query)


def _read_recorded(
    monitor_url: str, backends: Sequence[BackendNames], query: Query
) -> dict[OwnDeployment, Recorded]:
    # Backends may share an account, whose id ignores case: it is queried once.
    accounts = {each.resource_id.lower() for each in backends if each.resource_id}
    recorded: dict[OwnDeployment, Recorded] = {}
    with open_monitor(monitor_url) as monitor:
        for account in sorted(accounts):
            recorded |= monitor.recorded(account, query.first, query.last)
    return recorded
