"""`python -m meter reconcile`: compares the tables with Azure Monitor; ends with 1 where they differ."""

import argparse
import asyncio
import sys
from contextlib import closing

from meter import bootstrap
from meter.ledger.reconcile import (
    Hours,
    OwnDeployment,
    Question,
    Served,
    make_question,
    read_counted,
    reconcile,
)
from meter.ledger.reconcile_report import Form, write_reconciliation
from meter.ports import Clock
from meter.settings import ReconcileSettings


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Describe the command's words."""
    time = "YYYY-MM, YYYY-MM-DD or YYYY-MM-DDTHH, UTC, all of it included"
    command.add_argument("--from", dest="first", metavar="TIME", help=f"{time}; default: yesterday")
    command.add_argument(
        "--to", dest="last", metavar="TIME", help=f"{time}; default: the last complete hour"
    )
    command.add_argument(
        "--tolerance",
        default="0.5%",
        metavar="PERCENT",
        help="by how much of Azure's tokens a deployment may differ (default: 0.5%%)",
    )
    command.add_argument(
        "--ignore",
        default="",
        metavar="NAMES",
        help="deployments that others may call directly, by their names in Azure, comma-separated",
    )
    command.add_argument(
        "--format", choices=[form.value for form in Form], default=Form.TABLE.value
    )


def run(parser: argparse.ArgumentParser, options: argparse.Namespace, clock: Clock) -> int:
    """Compare and print; 0 when all agrees, 1 when not. Raises what `__main__` tells of."""
    try:
        question = make_question(
            first=options.first,
            last=options.last,
            tolerance=options.tolerance,
            ignored=options.ignore,
            now=clock.now(),
        )
    except ValueError as exc:
        parser.error(str(exc))
    settings = bootstrap.current_reconcile_settings()
    counted = asyncio.run(_read_counted(question))
    recorded = _read_recorded(settings, question)
    served = [
        Served(backend=each.name, resource_id=each.resource_id, deployments=each.deployments)
        for each in settings.backends
    ]
    found = reconcile(question, served, counted=counted, recorded=recorded)
    sys.stdout.write(write_reconciliation(found, Form(options.format)))
    return 0 if found.agrees else 1


async def _read_counted(question: Question) -> dict[str, Hours]:
    async with bootstrap.open_store() as store:
        return await read_counted(store, question)


def _read_recorded(settings: ReconcileSettings, question: Question) -> dict[OwnDeployment, Hours]:
    # Backends may share an account, whose id has no case: it is asked once.
    accounts = {each.resource_id.lower() for each in settings.backends if each.resource_id}
    recorded: dict[OwnDeployment, Hours] = {}
    with closing(bootstrap.build_monitor(settings.monitor_url)) as monitor:
        for account in sorted(accounts):
            recorded |= monitor.recorded(account, question.first, question.last)
    return recorded
