"""`python -m meter rebuild`: checks a month's ledger and makes its views equal to it."""

import argparse
import asyncio
import sys
from collections.abc import Callable
from datetime import datetime

from meter.commands.progress import ProgressLine
from meter.errors import LedgerMissing, StorageUnavailable
from meter.terminal import printable
from meter.upkeep.differences import LEDGER_KINDS, Difference, Kind
from meter.upkeep.rebuild import Progress, Rebuild, Summary
from meter.usage import format_time
from meter.window import Window
from meter.wiring.commands import open_repairs

_DONE = {
    Kind.WRONG_SUM: "repaired",
    Kind.MISSING: "written",
    Kind.BEHIND: "brought up to date",
    Kind.DIFFERENT: "overwritten",
    Kind.SURPLUS: "removed",
}
_CAUSES = "the month had no calls, or its ledger was dropped after its retention"


def run(options: argparse.Namespace) -> int:
    """Check the ledger, and repair its views."""
    month: Window = options.month
    progress = ProgressLine(options.clock, sys.stderr, progress_text)
    try:
        summary = asyncio.run(_rebuild(month, options, progress.show))
    except LedgerMissing as exc:
        print(f"error: {exc}: {_CAUSES}. Its views stay as they are.", file=sys.stderr)
        return 1
    except StorageUnavailable:
        _say_interrupted(progress, is_resumable=options.subject is None)
        raise
    except KeyboardInterrupt:
        _say_interrupted(progress, is_resumable=options.subject is None)
        return 130
    progress.clear()
    if options.subject is not None and not summary.subjects and not summary.found:
        name = printable(options.subject, most=300)
        print(f"error: {month.name} has no calls of subject {name}", file=sys.stderr)
        return 1
    for line in _conclusion(month, summary, is_dry_run=options.dry_run):
        print(line)
    return 0 if summary.is_sound else 1


def _say_interrupted(line: ProgressLine[Progress], *, is_resumable: bool) -> None:
    """Say how to go on, if anything was begun."""
    line.clear()
    if line.latest is None:
        return
    left = line.latest.partitions[line.latest.finished :]
    if is_resumable and line.latest.finished and left:
        advice = f"resume with --buckets {int(left[0])}-{int(left[-1])}"
    else:
        advice = "run it again"
    print(f"interrupted: {advice}; what it repaired stays", file=sys.stderr)


def progress_text(progress: Progress, seconds: float) -> str:
    """How far a rebuild is, and how long it will take."""
    checked, count = progress.checked, len(progress.partitions)
    text = f"{checked} of {count} buckets, {progress.calls:,} calls, "
    text += f"{progress.calls / seconds:,.0f} calls/s"
    if checked == count:
        return f"{text}, comparing the last views"
    if checked:
        text += f", about {_duration(seconds / checked * (count - checked))} left"
    return text


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"


async def _rebuild(
    month: Window, options: argparse.Namespace, show: Callable[[Progress], None]
) -> Summary:
    async with open_repairs(options.clock) as (store, _):
        rebuild = Rebuild(
            store=store,
            tables=store,
            clock=options.clock,
            month=month,
            partitions=options.buckets,
            subject=options.subject,
            is_dry_run=options.dry_run,
            repairs_ledger=options.repair_ledger,
            prunes=options.prune,
        )
        return await rebuild.run(_report, show)


def _report(difference: Difference) -> None:
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
    if summary.kept:
        lines.append(
            f"{summary.kept} view rows were kept: they show more calls than the ledger has, and may "
            "be all that is left of them; --prune removes or lowers them"
        )
    if is_dry_run:
        lines.append("a dry run: nothing was written")
    elif any(summary.found[kind] > summary.repaired[kind] for kind in LEDGER_KINDS):
        lines.append("the ledger itself is damaged: see docs/operations.md before --repair-ledger")
    return lines
