"""`subjects set` for one subject, and `subjects import` for those of a file."""

import argparse
import asyncio
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on
from meter.commands.progress import ProgressLine
from meter.errors import InvalidInput, MeterError
from meter.ports import RowStore
from meter.reports.subjects.changes import Change, Plan, plan_changes
from meter.reports.subjects.entry import EDITABLE, Entry, read_entries
from meter.reports.subjects.file import FileRow, read_file
from meter.reports.subjects.storing import write_changes
from meter.terminal import printable
from meter.terminal.table import Column, Piece, table_of
from meter.wiring.commands import open_store

_NOTHING = "-"


def set_subject(parser: CommandParser, options: argparse.Namespace) -> int:
    """Set what is known of one subject."""
    cells = {name: value for name in EDITABLE if (value := getattr(options, name)) is not None}
    if not cells:
        parser.error("give at least one of --display-name, --team and --cost-centre")
    row = FileRow(line=1, subject=options.subject, cells=cells)

    async def change() -> Plan:
        async with open_store() as store:
            plan = plan_changes([row], await _entries(store), clears_empty=True)
            await write_changes(store, plan.changes)
            return plan

    plan = asyncio.run(change())
    screen_on(sys.stdout).show(*(_shown(plan.changes) or ["nothing to change"]))
    _warn(plan)
    return 0


def import_subjects(options: argparse.Namespace) -> int:
    """Take what a file has."""
    rows = _read(options.file)
    plan = asyncio.run(_apply(rows, options))
    if options.dry_run:
        screen_on(sys.stdout).show(*_shown(plan.changes))
    _warn(plan)
    for line in _conclusion(plan, is_dry_run=options.dry_run):
        print(line)
    return 0


def _read(path: Path) -> list[FileRow]:
    """The rows of a file. Raises InvalidInput with every problem."""
    try:
        # What is not UTF-8 is decoded to code points that the reader refuses with their line.
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            return read_file(str(path), lines)
    except OSError as exc:
        raise InvalidInput([f"{path}: cannot be read: {exc.strerror or exc}"]) from exc


async def _apply(rows: Sequence[FileRow], options: argparse.Namespace) -> Plan:
    """Plan the changes and, if this is no dry run, write them."""
    progress = ProgressLine[int](options.clock, sys.stderr, _progress_text)
    async with open_store() as store:
        plan = plan_changes(rows, await _entries(store), clears_empty=options.clear_empty)
        if options.dry_run:
            return plan
        try:
            await write_changes(store, plan.changes, wrote=progress.show)
        except MeterError:
            done = progress.latest or 0
            progress.clear()
            print(
                f"{done:,} of {len(plan.changes):,} subjects were changed: import the file again to "
                "change the others",
                file=sys.stderr,
            )
            raise
        finally:
            progress.clear()
        return plan


async def _entries(store: RowStore) -> list[Entry]:
    return [each async for each in read_entries(store) if isinstance(each, Entry)]


def _progress_text(written: int, seconds: float) -> str:
    return f"{written:,} subjects changed, {seconds:.0f} s"


def _shown(changes: Sequence[Change]) -> list[Piece]:
    """A line per cell that changes: before and after."""
    body = [
        (
            change.subject,
            column,
            before or _NOTHING,
            "->",
            after or _NOTHING,
            "new subject" if change.is_new else "",
        )
        for change in changes
        for column, (before, after) in change.texts.items()
    ]
    headings = ("SUBJECT", "COLUMN", "BEFORE", "", "AFTER", "")
    columns = [Column(heading=each, is_text=True, is_asked=True) for each in headings]
    return [table_of(columns, body, is_ruled=False)] if body else []


def _warn(plan: Plan) -> None:
    for subject in plan.odd:
        print(
            f"warning: the new subject {subject!r:.300} begins or ends with a blank",
            file=sys.stderr,
        )
    for column, subjects in plan.not_taken.items():
        others = f" and {len(subjects) - 1:,} others" if len(subjects) > 1 else ""
        print(
            f"warning: {column} of {printable(subjects[0])}{others} differs from what is stored and is "
            "not taken: the meter fills it in",
            file=sys.stderr,
        )


def _conclusion(plan: Plan, *, is_dry_run: bool) -> Iterator[str]:
    done = "would be changed" if is_dry_run else "changed"
    new = f", {plan.new:,} of them new" if plan.new else ""
    tail = " (a dry run)" if is_dry_run else ""
    yield f"{len(plan.changes):,} of {plan.rows:,} subjects {done}{new}{tail}"
    if plan.left:
        cells = "1 empty cell leaves" if plan.left == 1 else f"{plan.left:,} empty cells leave"
        yield f"{cells} what is stored: --clear-empty would clear it"
