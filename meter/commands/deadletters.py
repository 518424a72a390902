"""`python -m meter deadletters`: lists, shows and replays events that could not be counted."""

import argparse
import asyncio
import sys
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial

from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on
from meter.commands.console.watched import Scanned, WatchedStore, scanned_text
from meter.commands.progress import ProgressLine
from meter.ledger.keys import FIRST_KEY, LAST_KEY
from meter.ports import RowStore
from meter.reports.write.json import document_text
from meter.reports.write.report import Format
from meter.terminal import cut, printable, shown_document
from meter.terminal.table import Column, table_of
from meter.upkeep.replay import (
    Judgement,
    Replay,
    ReplaySummary,
    StoredLetter,
    find_letter,
    read_letters,
)
from meter.usage import format_time
from meter.wiring.commands import open_repairs, open_store

MAX_DETAIL_CHARS = 100
_RANKS = {"KEY": 0, "ENQUEUED": 2, "BYTES": 3, "REASON": 0, "DETAIL": 1}
_COLUMNS = [Column(heading=name, is_text=True, rank=rank) for name, rank in _RANKS.items()]


def list_letters(options: argparse.Namespace) -> int:
    """List them."""

    progress = ProgressLine[Scanned](options.clock, sys.stderr, scanned_text)

    async def read() -> list[_Described]:
        async with open_store() as store:
            letters = _selected(WatchedStore(store, progress.show), options)
            # The letters are not kept: their bodies can be long.
            return [_described(letter) async for letter in letters]

    try:
        found = asyncio.run(read())
    finally:
        progress.clear()
    if options.format == Format.JSON:
        print(shown_document(document_text(found), sys.stdout))
        return 0
    if not found:
        print("no dead letters")
        return 0
    screen = screen_on(sys.stdout)
    body = [_line(each) for each in found]
    screen.show(table_of(_COLUMNS, body, is_ruled=False, advice="--format json"))
    reasons = Counter(str(each["reason"]) for each in found)
    counts = ", ".join(f"{count} {printable(reason)}" for reason, count in sorted(reasons.items()))
    screen.show(f"{len(found)} dead letters: {counts}")
    return 0


def show(options: argparse.Namespace) -> int:
    """Write the body of one."""

    async def read() -> StoredLetter | None:
        async with open_store() as store:
            return await find_letter(store, options.key)

    letter = asyncio.run(read())
    if letter is None or letter.body is None:
        print(f"error: {_absence(options.key, letter)}", file=sys.stderr)
        return 1
    print(f"{printable(letter.reason)}: {printable(letter.detail)}", file=sys.stderr)
    if options.out is not None:
        options.out.write_bytes(letter.body)
    elif sys.stdout.isatty():
        print(printable(letter.body.decode(errors="backslashreplace")))
    else:
        sys.stdout.buffer.write(letter.body)
    return 0


def replay(parser: CommandParser, options: argparse.Namespace) -> int:
    """Count those that are valid now."""
    if options.keys and (options.first or options.last or options.reason):
        parser.error("give either KEYs or --reason, --from and --to, not both")
    if options.file is not None and len(options.keys) != 1:
        parser.error("--file replaces the body of exactly one KEY")
    body = None if options.file is None else options.file.read_bytes()
    absent: list[str] = []

    async def named(store: RowStore) -> AsyncIterator[StoredLetter]:
        for key in dict.fromkeys(options.keys):
            letter = await find_letter(store, key)
            if letter is None:
                absent.append(key)
            else:
                yield letter if body is None else replace(letter, body=body)

    async def run() -> ReplaySummary:
        async with open_repairs(options.clock) as (store, aggregator):
            letters = named(store) if options.keys else _selected(store, options)
            replaying = Replay(aggregator=aggregator, tables=store, is_dry_run=options.dry_run)
            return await replaying.run(letters, partial(_report, is_dry_run=options.dry_run))

    summary = asyncio.run(run())
    for key in absent:
        print(f"error: {_absence(key, None)}", file=sys.stderr)
    print(_conclusion(summary, is_dry_run=options.dry_run))
    return 1 if summary.refused or absent else 0


async def _selected(store: RowStore, options: argparse.Namespace) -> AsyncIterator[StoredLetter]:
    first, last = options.first.name if options.first else FIRST_KEY, LAST_KEY
    if options.first or options.last:
        # Partitions are days: a month's name sorts before its days, and `~` after them. A range
        # excludes the letters without a date, whose partition sorts after all days.
        last = f"{options.last.name if options.last else '9999'}{LAST_KEY}"
    async for letter in read_letters(store, first_day=first, last_day=last):
        if options.reason in {None, letter.reason}:
            yield letter


type _Described = dict[str, str | int | None]


def _described(letter: StoredLetter) -> _Described:
    return {
        "key": letter.key,
        "reason": letter.reason,
        "detail": letter.detail,
        "hub": letter.hub,
        "hub_partition": letter.hub_partition,
        "sequence_number": letter.sequence_number,
        "enqueued_at": format_time(letter.enqueued_at) if letter.enqueued_at else None,
        "body_bytes": None if letter.body is None else len(letter.body),
    }


def _line(each: _Described) -> tuple[str, ...]:
    key, reason, detail = str(each["key"]), str(each["reason"]), str(each["detail"])
    moment = f"{str(each['enqueued_at'])[:19]}Z" if each["enqueued_at"] else "-"
    size = "incomplete" if each["body_bytes"] is None else str(each["body_bytes"])
    return key, moment, size, reason, cut(detail, MAX_DETAIL_CHARS)


def _absence(key: str, letter: StoredLetter | None) -> str:
    if letter is None:
        return f"there is no dead letter {printable(key)}"
    return f"the body of {printable(key)} is not complete yet: its batch will be delivered again"


def _report(judgement: Judgement, *, is_dry_run: bool) -> None:
    key, calls = printable(judgement.letter.key), _calls(len(judgement.events))
    done = "would be counted" if is_dry_run else "counted"
    if not judgement.refusals:
        print(f"{key}: {done}: {calls}")
        return
    partly = f"{calls} of it {done}; " if judgement.events else ""
    for refusal in judgement.refusals:
        print(f"{key}: refused, {partly}{printable(refusal)}")


def _conclusion(summary: ReplaySummary, *, is_dry_run: bool) -> str:
    if is_dry_run:
        return f"{summary.replayed} would be counted, {summary.refused} refused (a dry run)"
    return (
        f"{summary.replayed} replayed, {summary.refused} refused; "
        f"{_calls(summary.new_calls)} counted now, {summary.repeated_calls} before"
    )


def _calls(count: int) -> str:
    return f"{count} call" if count == 1 else f"{count} calls"
