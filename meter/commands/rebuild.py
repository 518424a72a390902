"""`python -m meter rebuild`: check a month's ledger and make its views equal to it."""

import argparse
import asyncio
import sys
from datetime import datetime
from functools import partial

from meter.errors import LedgerMissing
from meter.terminal import printable
from meter.upkeep.differences import LEDGER_KINDS, Difference, Kind
from meter.upkeep.rebuild import Rebuild, Summary
from meter.usage import format_time
from meter.window import Period, Window, parse_window
from meter.wiring.metering import open_store

_DONE = {
    Kind.WRONG_SUM: "mended",
    Kind.MISSING: "written",
    Kind.BEHIND: "brought up to date",
    Kind.DIFFERENT: "overwritten",
    Kind.SURPLUS: "removed",
}
_CAUSES = "the month had no calls, or its ledger was dropped after its retention"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's words."""
    parser = commands.add_parser(
        "rebuild",
        help="make a month's views equal to its ledger, and check the ledger",
        description="Checks that the sums of a month's ledger are what its markers add up to, and "
        "makes UsageByHour, UsageByDay and UsageByMonth equal to the sums. Safe while calls are "
        "counted. Exits with 0 when all is equal now and the ledger was sound.",
    )
    parser.add_argument("--month", required=True, metavar="YYYY-MM", help="the month, UTC")
    parser.add_argument("--dry-run", action="store_true", help="tell, and write nothing")
    parser.add_argument(
        "--repair-ledger",
        action="store_true",
        help="also make wrong sums of the ledger what their markers add up to",
    )
    parser.set_defaults(run=partial(_run, parser))


def _run(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    month = _month(parser, options.month)
    try:
        summary = asyncio.run(_rebuild(month, options))
    except LedgerMissing as exc:
        print(f"error: {exc}: {_CAUSES}. Its views stay as they are.", file=sys.stderr)
        return 1
    for line in _conclusion(month, summary, is_dry_run=options.dry_run):
        print(line)
    return 0 if summary.is_sound else 1


def _month(parser: argparse.ArgumentParser, text: str) -> Window:
    try:
        month = parse_window(text)
    except ValueError as exc:
        parser.error(f"--month: {exc}")
    if month.period is not Period.MONTH:
        parser.error(f"--month takes YYYY-MM, got {text!r}")
    return month


async def _rebuild(month: Window, options: argparse.Namespace) -> Summary:
    async with open_store() as store:
        rebuild = Rebuild(
            store=store,
            tables=store,
            month=month,
            is_dry_run=options.dry_run,
            repairs_ledger=options.repair_ledger,
        )
        return await rebuild.run(_tell)


def _tell(difference: Difference) -> None:
    what = [difference.kind, difference.subject, difference.window, *difference.names]
    done = _DONE.get(difference.kind, "") if difference.is_repaired else "left as it is"
    print(f"{printable('  '.join(part for part in what if part))}: {done}")
    if difference.detail:
        print(f"    {printable(difference.detail)}")
    if difference.kind not in {Kind.MISSING, Kind.SURPLUS}:
        says = "its markers say" if difference.kind in LEDGER_KINDS else "the ledger says"
        for column in difference.columns:
            found, right = _shown(column.found), _shown(column.right)
            verb = "was" if difference.is_repaired else "is"
            print(f"    {column.name} {verb} {found}, {says} {right}")


def _shown(value: object) -> str:
    match value:
        case None:
            return "absent"
        case bool() | int() | float():
            return f"{value}"
        case datetime():
            return format_time(value)
        case _:
            return printable(repr(value))


def _conclusion(month: Window, summary: Summary, *, is_dry_run: bool) -> list[str]:
    lines = [
        f"{month.name}: {summary.subjects} subjects, {summary.calls} calls, "
        f"{summary.sums} sums checked"
    ]
    if not summary.found.total():
        return [*lines, "the ledger is sound and the views are equal to it"]
    lines += [
        f"{kind}: {count} found, {summary.repaired[kind]} repaired"
        for kind in Kind
        if (count := summary.found[kind])
    ]
    if is_dry_run:
        lines.append("a dry run: nothing was written")
    elif any(summary.found[kind] > summary.repaired[kind] for kind in LEDGER_KINDS):
        lines.append("the ledger itself is damaged: see docs/operations.md before --repair-ledger")
    return lines
