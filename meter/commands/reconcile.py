"""`python -m meter reconcile`: compares the tables with Azure Monitor; ends with 1 where they differ."""

import argparse
import asyncio
import sys
from contextlib import closing
from functools import partial
from urllib.parse import urlsplit

from azure.identity import DefaultAzureCredential

from meter.adapters.monitor import AzureMonitor
from meter.config.values import ReconcileSettings
from meter.gateway.address import is_loopback
from meter.reports.reconcile import (
    Hours,
    OwnDeployment,
    Question,
    Served,
    make_question,
    read_counted,
    reconcile,
)
from meter.reports.reconcile_report import Form, write_reconciliation
from meter.wiring.metering import current_reconcile_settings, open_store


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words."""
    command = commands.add_parser("reconcile", help="compare with what Azure Monitor recorded")
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
    command.set_defaults(run=partial(_run, command))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    try:
        question = make_question(
            first=options.first,
            last=options.last,
            tolerance=options.tolerance,
            ignored=options.ignore,
            now=options.clock.now(),
        )
    except ValueError as exc:
        parser.error(str(exc))
    settings = current_reconcile_settings()
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
    async with open_store() as store:
        return await read_counted(store, question)


def _read_recorded(settings: ReconcileSettings, question: Question) -> dict[OwnDeployment, Hours]:
    # Backends may share an account, whose id has no case: it is asked once.
    accounts = {each.resource_id.lower() for each in settings.backends if each.resource_id}
    recorded: dict[OwnDeployment, Hours] = {}
    with closing(_monitor(settings.monitor_url)) as monitor:
        for account in sorted(accounts):
            recorded |= monitor.recorded(account, question.first, question.last)
    return recorded


def _monitor(url: str) -> AzureMonitor:
    """As whoever is signed in to Azure; on loopback as nobody."""
    is_local = is_loopback(urlsplit(url).hostname or "")
    return AzureMonitor(url, None if is_local else DefaultAzureCredential())
