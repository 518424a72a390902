"""`python -m meter reconcile`: compares the counted usage with Azure Monitor's metrics."""

import argparse
import asyncio
import sys
from collections.abc import Sequence

from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on
from meter.commands.console.watched import Scanned, WatchedStore, scanned_text
from meter.commands.progress import ProgressLine
from meter.gateway.backend import Backend
from meter.ports import Clock
from meter.reports.matching import BackendNames
from meter.reports.query import Query
from meter.reports.reconcile import read_counted, reconcile
from meter.reports.tally import CountedUnder, Hours, OwnDeployment, Recorded
from meter.reports.terms import make_terms
from meter.reports.write.reconciliation import write_reconciliation
from meter.reports.write.report import Format
from meter.usage import Tier
from meter.wiring.commands import current_reconcile_settings, open_monitor, open_store


def run(parser: CommandParser, options: argparse.Namespace) -> int:
    """Compare, and write what was found."""
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
    progress = ProgressLine[Scanned](options.clock, sys.stderr, scanned_text)
    try:
        counted = asyncio.run(_read_counted(terms.query, progress))
    finally:
        progress.clear()
    recorded = _read_recorded(settings.monitor_url, backends, terms.query, options.clock)
    found = reconcile(terms, backends, counted=counted, recorded=recorded)
    write_reconciliation(found, Format(options.format), sys.stdout, screen_on(sys.stdout))
    return 0 if found.agrees else 1


def _names_of(backend: Backend) -> BackendNames:
    return BackendNames(
        backend=backend.name,
        resource_id=backend.resource_id,
        deployments={name: backend.own_name(name) for name in backend.deployments},
        provisioned=frozenset(
            name for name in backend.deployments if backend.terms_of(name).tier is Tier.PROVISIONED
        ),
    )


async def _read_counted(query: Query, progress: ProgressLine[Scanned]) -> dict[CountedUnder, Hours]:
    async with open_store() as store:
        return await read_counted(WatchedStore(store, progress.show), query)


def _read_recorded(
    monitor_url: str, backends: Sequence[BackendNames], query: Query, clock: Clock
) -> dict[OwnDeployment, Recorded]:
    # Backends may share an account, whose id ignores case: it is queried once.
    accounts = {each.resource_id.lower() for each in backends if each.resource_id}
    recorded: dict[OwnDeployment, Recorded] = {}
    progress = ProgressLine[int](
        clock, sys.stderr, lambda n, _: f"Azure Monitor: {n} of {len(accounts)} accounts read"
    )
    with open_monitor(monitor_url) as monitor:
        try:
            for number, account in enumerate(sorted(accounts), 1):
                recorded |= monitor.recorded(account, query.first, query.last)
                progress.show(number)
        finally:
            progress.clear()
    return recorded
