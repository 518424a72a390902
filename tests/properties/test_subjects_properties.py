"""Subjects through files: what is exported and imported again changes nothing, however it was saved."""

import csv
import io
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.ledger.keys import escape
from meter.ports import Row
from meter.reports.subjects.changes import plan_changes
from meter.reports.subjects.entry import COLUMNS, Entry, read_entries, texts_in
from meter.reports.subjects.file import read_file
from meter.reports.subjects.storing import write_changes
from meter.reports.subjects.write import write_entries_csv
from tests.fakes.rows import MemoryRowStore

# Any text that a token may have, and what files and spreadsheets stumble over, more often.
NASTY = st.text(st.sampled_from("'=+-@;,\t\r\n \"%\0\u202e\u200bＡé"), min_size=1, max_size=255)
WRITABLE = st.characters(codec="utf-8")
ANY = st.text(WRITABLE, min_size=1, max_size=255)
TEXTS = st.text(WRITABLE, max_size=30) | NASTY
VALUES = TEXTS | st.integers(-(2**40), 2**40) | st.booleans()


@st.composite
def entries(draw: st.DrawFn) -> list[Entry]:
    subjects = draw(st.lists(NASTY | ANY, max_size=6, unique=True))
    columns = ("DisplayName", "Team", "CostCentre", "Name", "Tenant")
    stored = st.dictionaries(st.sampled_from(columns), VALUES)
    return [Entry(subject=subject, texts=texts_in(draw(stored))) for subject in subjects]


def exported(found: Sequence[Entry]) -> str:
    out = io.StringIO(newline="")
    write_entries_csv(found, out)
    return out.getvalue()


def resaved(text: str, separator: str, line_end: str) -> str:
    """The file as a spreadsheet saves it again: quotes where they are needed, other separators."""
    out = io.StringIO(newline="")
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    csv.writer(out, delimiter=separator, lineterminator=line_end).writerows(rows)
    return "\ufeff" + out.getvalue()


@given(entries(), st.sampled_from(",;"), st.sampled_from(["\n", "\r\n"]))
@example([Entry(subject=" ", texts=texts_in({"Team": '" ='}))], ",", "\n")
@example([Entry(subject="a;=b\r\n'=c", texts=texts_in({"Team": "'='"}))], ";", "\r\n")
@settings(max_examples=150, deadline=None)
def test_what_is_exported_changes_nothing_when_it_is_imported(
    found: list[Entry], separator: str, line_end: str
) -> None:
    """As it is, and saved by a spreadsheet; also when empty cells clear."""
    text = exported(found)
    for each in (text, resaved(text, separator, line_end)):
        plan = plan_changes(read_file("f", io.StringIO(each, newline="")), found, clears_empty=True)

        assert (plan.changes, plan.left, plan.not_taken) == ([], 0, {})


@given(entries(), st.data())
@settings(max_examples=60, deadline=None)
async def test_an_edit_of_the_file_is_all_that_changes(
    found: list[Entry], data: st.DataObject
) -> None:
    """Whatever the other cells hold; a second import changes nothing."""
    store = MemoryRowStore()
    rows = [
        Row(
            key=escape(each.subject),
            columns={
                "Subject": each.subject,
                "Team": each.texts["team"],
            },
        )
        for each in found
    ]
    if rows:
        await store.write("Subjects", "subject", insert=rows)
    before = [each async for each in read_entries(store) if isinstance(each, Entry)]
    cells = [list(row) for row in csv.reader(io.StringIO(exported(before), newline=""))]
    edited = {
        each.subject: data.draw(st.sampled_from(["", "Sales", "4711"]))
        for each in before
        if data.draw(st.booleans())
    }
    for row, each in zip(cells[1:], before, strict=True):
        row[COLUMNS.index("team")] = edited.get(each.subject, row[COLUMNS.index("team")])
    out = io.StringIO(newline="")
    csv.writer(out).writerows(cells)
    text = out.getvalue()

    for expected in (set(edited), set[str]()):
        now = [each async for each in read_entries(store) if isinstance(each, Entry)]
        plan = plan_changes(read_file("f", io.StringIO(text, newline="")), now, clears_empty=True)
        await write_changes(store, plan.changes)

        assert {change.subject for change in plan.changes} <= expected
    after = [each async for each in read_entries(store) if isinstance(each, Entry)]
    for old, new in zip(before, after, strict=True):
        assert new.texts == {**old.texts, "team": edited.get(old.subject, old.texts["team"])}
