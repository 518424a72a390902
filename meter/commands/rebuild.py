"""`python -m meter rebuild`: checks a month's ledger and makes its views equal to it."""

import argparse
import asyncio
import re
import sys
from collections.abc import Callable, Sequence
from datetime import datetime

from meter.bucket import BUCKETS
from meter.commands.options import reader, window_of_periods
from meter.commands.progress import ProgressLine
from meter.errors import LedgerMissing, StorageUnavailable
from meter.ledger.keys import LEDGER_PARTITIONS
from meter.terminal import printable
from meter.upkeep.differences import LEDGER_KINDS, Difference, Kind
from meter.upkeep.rebuild import Progress, Rebuild, Summary
from meter.usage import format_time, is_writable
from meter.window import Period, Window
from meter.wiring.commands import open_repairs

_DONE = {
    Kind.WRONG_SUM: "repaired",
    Kind.MISSING: "written",
    Kind.BEHIND: "brought up to date",
    Kind.DIFFERENT: "overwritten",
    Kind.SURPLUS: "removed",
}
_BUCKETS = re.compile(r"(\d{1,2})(?:-(\d{1,2}))?", re.ASCII)
_CAUSES = "the month had no calls, or its ledger was dropped after its retention"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the command's arguments."""
    parser = commands.add_parser(
        "rebuild",
        description="Checks that the sums of a month's ledger are what its markers add up to, and "
        "makes UsageByHour, UsageByDay and UsageByMonth equal to the sums. Safe while calls are "
        "counted. Exit code 0: the ledger was sound and the views are equal to it now; 1: "
        "anything else; 2: invalid arguments.",
    )
    parser.add_argument(
        "--month",
        required=True,
        type=window_of_periods([Period.MONTH]),
        metavar="YYYY-MM",
        help="the month to check (UTC)",
    )
    part = parser.add_mutually_exclusive_group()
    part.add_argument(
        "--buckets",
        type=reader(_partitions),
        default=LEDGER_PARTITIONS,
        metavar="FIRST-LAST",
        help=f"only these of the month's {BUCKETS} parts, 0-{BUCKETS - 1}: to resume, or to share it "
        "among processes",
    )
    part.add_argument("--subject", type=reader(_subject), help="only this subject's rows")
    report_only = "report what would change, without writing"
    parser.add_argument("--dry-run", action="store_true", help=report_only)
    parser.add_argument(
        "--repair-ledger",
        action="store_true",
        help="also set wrong sums of the ledger to what their markers add up to",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="also remove view rows without a sum, and lower those with more calls than the ledger: "
        "they may be all that is left of these calls",
    )
    parser.set_defaults(writes=True, run=_run)


def _run(options: argparse.Namespace) -> int:
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


def _partitions(text: str) -> Sequence[str]:
    """Ledger partitions as `FIRST-LAST`, or just one."""
    match = _BUCKETS.fullmatch(text)
    first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
    if not first <= last < BUCKETS:
        raise ValueError(f"takes FIRST-LAST from 0 to {BUCKETS - 1}, got {text!r}")
    return LEDGER_PARTITIONS[first : last + 1]


def _subject(text: str) -> str:
    if not text or not is_writable(text):
        raise ValueError(f"takes the subject of a token, got {text!r}")
    return text


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
