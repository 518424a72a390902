"""`subjects list` for people and scripts, and `subjects export` for a file that can be imported again."""

import argparse
import asyncio
import sys
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TextIO, cast

from meter.commands.output import add_output, chosen_format, open_output
from meter.reports.owners import NO_OWNER
from meter.reports.subjects.entry import Entry, read_entries
from meter.reports.subjects.write import write_entries, write_entries_csv
from meter.reports.write.report import Format
from meter.terminal import printable
from meter.wiring.commands import open_store


class Missing(StrEnum):
    """What may not be known of a subject."""

    TEAM = "team"
    COST_CENTRE = "cost_centre"
    NAME = "name"

    def is_missing(self, entry: Entry) -> bool:
        """Whether it is not known of this one."""
        return not (entry.name if self is Missing.NAME else entry.texts[self.value])


def add_list(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `list`."""
    text = "list subjects, with their names, teams and cost centres"
    parser = actions.add_parser("list", help=text, description=f"{text.capitalize()}.")
    parser.add_argument("--team", metavar="TEAM", help="only those of this team")
    parser.add_argument(
        "--missing",
        choices=[each.value for each in Missing],
        help="only those of which this is not known",
    )
    add_output(parser, (Format.TABLE, Format.CSV, Format.JSON))
    parser.set_defaults(run=partial(_list, parser))


def add_export(actions: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the arguments of `export`."""
    parser = actions.add_parser(
        "export",
        help="write all subjects to a CSV file, to be edited and imported",
        description="Writes all subjects as CSV: edit display_name, team and cost_centre in any "
        "spreadsheet, and import the file. Imported unchanged, it changes nothing.",
    )
    parser.add_argument(
        "--out", type=Path, metavar="FILE.csv", help="write to this file (default: standard output)"
    )
    parser.set_defaults(run=_export)


def _list(parser: argparse.ArgumentParser, options: argparse.Namespace) -> int:
    form = chosen_format(parser, options)
    found = [entry for entry in read_all() if _is_wanted(entry, options)]
    found.sort(key=lambda entry: (entry.subject.casefold(), entry.subject))
    with open_output(options.out, form) as out:
        write_entries(found, form, cast(TextIO, out))
    return 0


def _is_wanted(entry: Entry, options: argparse.Namespace) -> bool:
    if options.missing is not None and not Missing(options.missing).is_missing(entry):
        return False
    return options.team is None or (entry.texts["team"] or NO_OWNER.team) == options.team.strip()


def _export(options: argparse.Namespace) -> int:
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
