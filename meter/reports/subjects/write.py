"""Writes entries of subjects: as CSV that `import` reads, as JSON, and as a table for people."""

from collections.abc import Iterable, Sequence
from typing import TextIO

from meter.reports.owners import NO_OWNER
from meter.reports.subjects.entry import COLUMNS, Entry
from meter.reports.write.csv import csv_line
from meter.reports.write.json import document_text
from meter.reports.write.report import Format
from meter.terminal import shown_document
from meter.terminal.plain import PlainScreen
from meter.terminal.table import Column, Piece, Screen, table_of

_RANKS = {"SUBJECT": 0, "NAME": 0, "TEAM": 1, "COST CENTRE": 2, "LAST CALL": 3}
_COLUMNS = [Column(heading=name, is_text=True, rank=rank) for name, rank in _RANKS.items()]


def write_entries(
    entries: Sequence[Entry], form: Format, out: TextIO, screen: Screen | None = None
) -> None:
    """Write the entries in their order. Raises OSError."""
    match form:
        case Format.CSV:
            write_entries_csv(entries, out)
        case Format.JSON:
            found = [
                {name: text or None for name, text in zip(COLUMNS, each.values(), strict=True)}
                for each in entries
            ]
            out.write(shown_document(document_text(found) + "\n", out))
        case _:
            (screen or PlainScreen(out)).show(*_table(entries))


def write_entries_csv(entries: Iterable[Entry], out: TextIO) -> None:
    """The header, and a line per entry."""
    is_terminal = out.isatty()
    out.write(csv_line(COLUMNS, is_terminal=is_terminal))
    out.writelines(csv_line(each.values(), is_terminal=is_terminal) for each in entries)


def _table(entries: Sequence[Entry]) -> list[Piece]:
    if not entries:
        return ["no subjects"]
    body = [
        (
            each.subject,
            each.name or NO_OWNER.name,
            each.texts["team"] or NO_OWNER.team,
            each.texts["cost_centre"] or NO_OWNER.cost_centre,
            each.texts["last_seen"][:16].replace("T", " ") or "never",
        )
        for each in entries
    ]
    table = table_of(_COLUMNS, body, is_ruled=False, advice="--format csv")
    missing = [
        f"{count:,} without a {what}"
        for what, count in (
            ("name", sum(not each.name for each in entries)),
            ("team", sum(not each.texts["team"] for each in entries)),
            ("cost centre", sum(not each.texts["cost_centre"] for each in entries)),
        )
        if count
    ]
    noun = "subject" if len(entries) == 1 else "subjects"
    return [table, ", ".join([f"{len(entries):,} {noun}", *missing])]
