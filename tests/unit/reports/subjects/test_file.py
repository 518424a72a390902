"""Reading a file of subjects: what is accepted, and every problem at once."""

import io

import pytest

from meter.errors import InvalidInput
from meter.reports.subjects.file import FileRow, read_file


def rows(text: str) -> list[FileRow]:
    return read_file("people.csv", io.StringIO(text, newline=""))


def problems(data: str | bytes) -> list[str]:
    raw = data.encode() if isinstance(data, str) else data
    lines = io.TextIOWrapper(io.BytesIO(raw), "utf-8", "surrogateescape", newline="")
    with pytest.raises(InvalidInput) as refusal:
        read_file("people.csv", lines)
    return list(refusal.value.problems)


def row(subject: str, line: int = 2, **cells: str) -> FileRow:
    return FileRow(line=line, subject=subject, cells=cells)


@pytest.mark.parametrize(
    "text",
    [
        "subject,team,cost_centre\nalice,Research,4711\n",
        "Subject,TEAM,Cost Centre\r\nalice,Research,4711\r\n",
        "\ufeffsubject;team;cost_centre\nalice;Research;4711",
        '"cost_centre";"subject";"team"\n"4711";"alice";" Research "\n',
        "subject,team,CostCentre,,\nalice,Research,4711,,\n,,,,\n\n",
    ],
)
def test_columns_stand_in_any_order_and_case(text: str) -> None:
    """Commas or semicolons, with or without a byte order mark, quotes, and empty columns at the end."""
    assert rows(text) == [row("alice", team="Research", cost_centre="4711")]


def test_columns_that_are_absent_are_not_in_the_rows() -> None:
    """So what is stored of them stays."""
    assert rows("subject,team\nalice,\n") == [row("alice", team="")]


def test_the_header_alone_says_what_separates_cells() -> None:
    """A row may hold the other sign."""
    assert rows("subject,team\na;b,c;d\n") == [row("a;b", team="c;d")]
    assert rows("subject;team\na,b;c,d\n") == [row("a,b", team="c,d")]


def test_a_quoted_cell_may_have_line_ends_and_quotes() -> None:
    """The line of a row is that on which it begins."""
    text = 'subject,team\n"a\r\nb","say ""hi"""\n"c","d\ne"\nf,g\n'

    assert rows(text) == [
        row("a\r\nb", team='say "hi"'),
        row("c", 4, team="d\ne"),
        row("f", 6, team="g"),
    ]


def test_subjects_are_taken_exactly() -> None:
    """Blanks belong to them; the guard against formulas does not."""
    assert [each.subject for each in rows("subject\n' =x\n a \n''@y\n")] == [" =x", " a ", "'@y"]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "",
            "line 1: the first line is empty: a header is expected, such as subject,team,cost_centre",
        ),
        (
            "team,cost_centre\n",
            "line 1: lacks column subject: the columns are subject, display_name, team, cost_centre, "
            "name, tenant, object_id, client_app, first_seen, last_seen",
        ),
        (
            "subject,cost_center\n",
            "line 1: has unknown column 'cost_center': did you mean cost_centre?",
        ),
        ("subject,Team,team\n", "line 1: has column team more than once"),
        (
            "subject\tteam\na\tb\n",
            "line 1: separates columns by tabs: commas or semicolons are expected",
        ),
        ("subject,team\n,Research\n", "line 2, column subject: must name a subject, got ''"),
        (
            f"subject\n{256 * 'a'}\n",
            f"line 2, column subject: must have at most 255 characters, got '{60 * 'a'}'...",
        ),
        (
            f"subject,team\na,{1001 * 't'}\n",
            f"line 2, column team: must have at most 1,000 characters, got '{60 * 't'}'...",
        ),
        (
            "subject,team\na,b,c\n",
            "line 2: has 3 cells and the header 2: is there a separator in a text without quotes?",
        ),
        (
            "subject,team,\na,b,c\n",
            "line 2, column 3: must be empty, since its column has no name, got 'c'",
        ),
        (
            "subject,team\na,b\nc,d\na,b\n",
            "line 4, column subject: 'a' stands on line 2, too: give each subject one line",
        ),
        (
            'subject,team\na, "b"\n',
            "line 2, column team: has a blank before its quotes: take it out, got ' \"b\"'",
        ),
        (
            'subject,team\na,b\nc,"d\ne,f\n',
            "line 3: its quotes do not match: a quoted cell has its own quotes doubled, and ends before "
            "a separator or the line's end",
        ),
    ],
)
def test_a_problem_names_line_and_column_and_what_is_accepted(text: str, problem: str) -> None:
    """What the person who made the file needs to find it."""
    assert problems(text) == [f"people.csv, {problem}"]


def test_all_problems_are_reported_at_once() -> None:
    """Those of the header, too, and of each row."""
    found = problems("subject,team,teem\n,x,\na,y,\na,z,\n")

    assert [each.partition(": ")[0] for each in found] == [
        "people.csv, line 1",
        "people.csv, line 2, column subject",
        "people.csv, line 4, column subject",
    ]


def test_very_many_problems_are_cut() -> None:
    """A wrong file has one in every row."""
    found = problems("subject,team\n" + "a\n" * 1_000)

    assert len(found) == 51
    assert found[-1] == "these are the first 50 problems: there may be more"


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("subject,team\na,Ü\n".encode("utf-16"), "line 1: is UTF-16: save it as CSV in UTF-8"),
        (
            "subject,team\na,Ü\n".encode("utf-16-le"),
            "line 1: has a NUL byte: save the file as CSV in UTF-8",
        ),
        (
            "subject,team\na,b\nc,Jürgen\n".encode("latin-1"),
            "line 3: is not UTF-8 (byte 0xfc): save the file as CSV in UTF-8",
        ),
        (b"PK\x03\x04...", "line 1: is a workbook or a zip file: save it as CSV in UTF-8"),
        (b"\x1f\x8b\x08", "line 1: is gzip: unpack it first"),
        (
            b"subject" + 1_000_000 * b"x",
            "line 1: has more than 1,000,000 characters: a row of subjects is far shorter",
        ),
    ],
)
def test_files_of_another_kind_are_named(data: bytes, problem: str) -> None:
    """As spreadsheets save them unless told otherwise."""
    assert problems(data) == [f"people.csv, {problem}"]
