"""`subjects list` for people and scripts, and `subjects export` for a file that can be imported again."""

import argparse
import asyncio
import sys
from typing import TextIO, cast

from meter.commands.arguments.subjects import Missing
from meter.commands.console.parser import CommandParser
from meter.commands.console.screen import screen_on
from meter.commands.output import chosen_format, open_output
from meter.reports.arrange.order import human_key
from meter.reports.owners import NO_OWNER
from meter.reports.subjects.entry import Entry, read_entries
from meter.reports.subjects.write import write_entries, write_entries_csv
from meter.reports.write.report import Format
from meter.terminal import printable
from meter.wiring.commands import open_store


def list_subjects(parser: CommandParser, options: argparse.Namespace) -> int:
    """Write those that are asked for."""
    form = chosen_format(parser, options)
    found = [entry for entry in read_all() if _is_wanted(entry, options)]
    found.sort(key=lambda entry: human_key(entry.subject))
    with open_output(options.out, form) as out:
        text = cast(TextIO, out)
        write_entries(found, form, text, screen_on(text))
    return 0


def _is_wanted(entry: Entry, options: argparse.Namespace) -> bool:
    if options.missing is not None and _knows(entry, Missing(options.missing)):
        return False
    return options.team is None or (entry.texts["team"] or NO_OWNER.team) == options.team.strip()


def _knows(entry: Entry, what: Missing) -> bool:
    return bool(entry.name if what is Missing.NAME else entry.texts[what.value])


def export_subjects(options: argparse.Namespace) -> int:
    """Write all of them as CSV."""
    entries = read_all()
    with open_output(options.out, Format.CSV) as out:
        write_entries_csv(entries, cast(TextIO, out))
    return 0


def read_all() -> list[Entry]:
    """All entries in key order. Says which rows are left out."""

    async def read() -> list[Entry | str]:
        async with open_store() as store:
            return [each async for each in read_entries(store)]

    entries: list[Entry] = []
    for each in asyncio.run(read()):
        if isinstance(each, Entry):
            entries.append(each)
        else:
            print(
                f"warning: a row of Subjects names no subject: RowKey {printable(each)}",
                file=sys.stderr,
            )
    return entries
