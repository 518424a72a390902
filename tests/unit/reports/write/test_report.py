"""How a usage report is written: for people, spreadsheets and programs."""

import csv
import io
import json
import sys
import unicodedata
from collections.abc import AsyncIterator

import pytest

from meter.errors import StorageUnavailable
from meter.reports.columns import usage_columns
from meter.reports.rows import UsageRow
from meter.reports.usage import Report, usage_report
from meter.reports.write.report import FORMATS, Format, write_report
from meter.usage import TokenUsage
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW
from tests.support.ledger import views_on
from tests.support.reports import book, price, query, row, text_of

TEXTS = [form for form in FORMATS if not form.is_binary]


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


async def test_a_table_is_aligned_grouped_and_ends_with_its_total(store: MemoryRowStore) -> None:
    """Names to the left, numbers to the right with thousands separators; no unused columns."""
    rows = [row("2026-11", "alice", calls=1234), row("2026-11", "a-longer-name")]
    text = await text_of(store, Format.TABLE, query(), *rows)

    assert text == (
        "2026-11-01 to 2026-11-30 UTC\n"
        "subject        calls     prompt      total\n"
        "-------------  -----  ---------  ---------\n"
        "a-longer-name      1      1,000      1,000\n"
        "alice          1,234  1,234,000  1,234,000\n"
        "-------------  -----  ---------  ---------\n"
        "total          1,235  1,235,000  1,235,000\n"
    )


async def test_a_table_has_a_column_for_each_kind_that_was_used(store: MemoryRowStore) -> None:
    """One line per row, however many kinds: headings are short, and kinds without use have no column."""
    usage = TokenUsage(
        prompt_tokens=9,
        completion_tokens=1,
        total_tokens=10,
        audio_tokens=5,
        audio_prompt_tokens=4,
        audio_completion_tokens=1,
        code_interpreter_calls=2,
    )
    used = row("2026-11", "alice", usage=usage)
    text = await text_of(store, Format.TABLE, query(), used, row("2026-11", "bob"))

    _, head, _, alice, bob, *_ = text.splitlines()
    assert head.partition("total  ")[2].split("  ") == [
        "audio",
        "audio prompt",
        "audio compl.",
        "code interpreter",
    ]
    assert alice.split()[-4:] == ["5", "4", "1", "2"]
    assert bob.split()[-4:] == ["0", "0", "0", "0"]


async def test_a_table_of_several_windows_says_which(store: MemoryRowStore) -> None:
    """Where there is one, the first line does; without groups a row is a window."""
    several = await text_of(store, Format.TABLE, query(first="2026-10"), row("2026-11"))
    single = await text_of(store, Format.TABLE, query(groups=""))

    assert several.splitlines()[3].split() == ["2026-11", "alice", "1", "1,000", "1,000"]
    assert single.splitlines()[3].split() == ["2026-11", "1", "1,000", "1,000"]


async def test_a_table_without_calls_says_so(store: MemoryRowStore) -> None:
    """An empty report differs from a broken one."""
    text = await text_of(store, Format.TABLE, query())

    assert text == "No calls from 2026-11 to 2026-11 (UTC).\n"


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("a\nb", "a\\nb"),
        ("\x1b[2Jx", "\\x1b[2Jx"),
        ("\x9b2Jx", "\\x9b2Jx"),
        ("a\u202eb", "a\\u202eb"),
        ("a\u200bb\u2028c", "a\\u200bb\\u2028c"),
        ("a\U000e0041b", "a\\U000e0041b"),
        ("zoë", "zoë"),
    ],
)
async def test_a_name_cannot_fake_lines_or_steer_the_terminal(
    store: MemoryRowStore, subject: str, shown: str
) -> None:
    """Control, format and separator characters are shown as escapes."""
    text = await text_of(store, Format.TABLE, query(), row("2026-11", subject))

    lines = text.splitlines()
    assert len(lines) == 6
    assert lines[3].startswith(f"{shown}  ")


async def test_csv_has_every_column_and_plain_numbers(store: MemoryRowStore) -> None:
    """One header, one line per row, times in RFC 3339."""
    text = await text_of(
        store, Format.CSV, query(groups="subject,tier"), row("2026-11", calls=1234)
    )

    kinds = (
        '"prompt_tokens","completion_tokens","total_tokens","cached_tokens","cache_write_tokens",'
        '"reasoning_tokens","audio_tokens","audio_prompt_tokens","audio_cached_tokens",'
        '"audio_completion_tokens","image_tokens","image_prompt_tokens","image_cached_tokens",'
        '"image_completion_tokens","seconds","images","characters","web_search_calls",'
        '"file_search_calls","code_interpreter_calls"'
    )
    adjusted = kinds.replace(',"', ',"adjusted_').replace('"', '"adjusted_', 1)
    net = adjusted.replace("adjusted_", "net_")
    assert text == (
        f'"month","subject","tier","calls","failed_calls",{kinds},"estimated_calls",'
        f'"missing_calls","adjustments",{adjusted},{net},"first_call_at","last_call_at"\n'
        f'"2026-11","alice","standard",1234,0,1234000,0,1234000{",0" * 17},0,0,0{",0" * 20},'
        f"1234000,0,1234000{',0' * 17},"
        '"2026-11-23T07:30:00.000000Z","2026-11-23T07:30:00.000000Z"\n'
    )


@pytest.mark.parametrize(
    ("subject", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1+1|cmd", "'-1+1|cmd"),
        ("@SUM(1)", "'@SUM(1)"),
        ("＝1", "'＝1"),
        ("\t=1", "'\t'=1"),
        ("\r=1", "'\r'=1"),
        ("\tx", "'\tx"),
        ("x;=1+1+cmd|' /C calc'!A0;", "x;'=1+1+cmd|' /C calc'!A0;"),
        ("x; =1", "x;' =1"),
        ('x;"=1', "x;'\"=1"),
        ("x\t+1;;-1", "x\t'+1;;'-1"),
        ("x\n@SUM(1)", "x\n'@SUM(1)"),
        ("x;＠1", "x;'＠1"),
        (' "=1', "' \"=1"),
        ("x;y", "x;y"),
        ("a=1", "a=1"),
        ('a","=1', 'a","=1'),
        ("a\nb", "a\nb"),
        ("'quoted'", "'quoted'"),
    ],
)
async def test_a_name_cannot_become_a_formula_or_another_cell(
    store: MemoryRowStore, subject: str, cell: str
) -> None:
    """Formulas become text; separators and quotes stay inside the cell."""
    text = await text_of(store, Format.CSV, query(), row("2026-11", subject))

    lines = list(csv.reader(io.StringIO(text, newline="")))
    assert [line[1] for line in lines] == ["subject", cell]


UNSEEN = [
    chr(code)
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in {"Cc", "Cf", "Zs", "Zl", "Zp"}
]


async def test_no_character_that_shows_no_sign_hides_a_formula(store: MemoryRowStore) -> None:
    """Spreadsheets drop a byte order mark, NUL and the like, and run what follows."""
    fillers = ["\u034f", "\u115f", "\u2800", "\u3164", "\ufe0f", "\uffa0", "\ufeff\x00 "]
    subjects = [f"{c}=1" for c in (*UNSEEN, *fillers)] + [f"x;{c}@1" for c in (*UNSEEN, *fillers)]
    text = await text_of(
        store, Format.CSV, query(), *(row("2026-11", subject) for subject in subjects)
    )

    cells = [line[1] for line in csv.reader(io.StringIO(text, newline=""))][1:]
    assert len(cells) == len(subjects) > 300
    assert [cell for cell in cells if not cell.startswith(("'", "x;'"))] == []


@pytest.mark.parametrize("subject", ["alice", "a;b", "12", "", "2026-11"])
async def test_csv_quotes_every_text_and_no_number(store: MemoryRowStore, subject: str) -> None:
    """A subject of digits stays a text, and no separator of any country splits a name."""
    text = await text_of(store, Format.CSV, query(), row("2026-11", subject, calls=2))

    assert text.splitlines()[1].startswith(f'"2026-11","{subject}",2,0,2000,')


class Terminal(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("form", TEXTS)
@pytest.mark.parametrize("char", ["\x1b", "\x07", "\x7f", "\x9b", "\u202e", "\u2028", "\U000e0041"])
async def test_no_form_writes_a_character_that_steers_a_terminal(
    store: MemoryRowStore, form: Format, char: str
) -> None:
    """On a terminal they are escapes; what is redirected keeps the true text."""
    stored = row("2026-11-02", f"zoë{char}", deployment="a\nb")
    wanted, prices = query("day", groups="subject,deployment"), book(price("1"))
    file = await text_of(store, form, wanted, stored, prices=prices)
    out = Terminal()
    await write_report(usage_report(store, wanted, book=prices), form, out)

    shown = out.getvalue()
    assert all(each.isprintable() or each == "\n" for each in shown)
    assert shown.count("\n") == len(shown.splitlines())
    assert "zoë" in shown
    if form in {Format.CSV, Format.FOCUS}:
        assert f'"zoë{char}"' in file
        assert len(shown.splitlines()) == 2
    if form is Format.JSON:
        assert json.loads(file) == json.loads(shown)


@pytest.mark.parametrize(
    ("by", "first", "last", "expected"),
    [
        ("month", "2026-11", "2026-12", "2026-11-01 to 2026-12-31 UTC"),
        ("day", "2026-11", "2026-11-23", "2026-11-01 to 2026-11-23 UTC"),
        ("hour", "2026-11-23", "2026-11-23T07", "2026-11-23T00 to 2026-11-23T07 UTC"),
    ],
)
async def test_a_table_begins_with_its_range(
    store: MemoryRowStore, by: str, first: str, last: str, expected: str
) -> None:
    """The first and the last day or hour that it shows, and when it was made."""
    window = {"month": "2026-11", "day": "2026-11-02", "hour": "2026-11-23T02"}[by]
    await views_on(store).write([row(window)])
    out = io.StringIO()
    report = usage_report(store, query(by, first, last), as_of=NOW)
    await write_report(report, Format.TABLE, out)

    assert out.getvalue().splitlines()[0] == f"{expected}, as of 2026-11-23 07:30"


async def test_json_holds_the_query_the_rows_and_the_total(store: MemoryRowStore) -> None:
    """Names are whole and counts are numbers."""
    text = await text_of(
        store, Format.JSON, query("day", "2026-11", "2026-11"), row("2026-11-05", 'zoë"\n', calls=2)
    )

    found = json.loads(text)
    assert (found["by"], found["from"], found["to"]) == ("day", "2026-11-01", "2026-11-30")
    assert [(line["day"], line["subject"], line["calls"]) for line in found["rows"]] == [
        ("2026-11-05", 'zoë"\n', 2)
    ]
    assert found["rows"][0]["first_call_at"] == "2026-11-23T07:30:00.000000Z"
    assert found["totals"]["total_tokens"] == 2_000


@pytest.mark.parametrize("form", TEXTS)
async def test_every_form_ends_its_last_line(store: MemoryRowStore, form: Format) -> None:
    """So that reports can be joined and piped."""
    text = await text_of(store, form, query(), row("2026-11"))

    assert text.endswith("\n")
    assert not text.endswith("\n\n")


@pytest.mark.parametrize("form", TEXTS)
async def test_storage_that_does_not_answer_leaves_no_output(form: Format) -> None:
    """A header alone could be taken for a report without calls."""

    async def rows() -> AsyncIterator[UsageRow]:
        raise StorageUnavailable("UsageByMonth: query")
        yield

    out = io.StringIO()
    report = Report(query=query(), columns=usage_columns(query()), rows=rows())
    with pytest.raises(StorageUnavailable):
        await write_report(report, form, out)

    assert out.getvalue() == ""


async def test_json_without_calls_is_whole(store: MemoryRowStore) -> None:
    """No rows, and a total of zeros."""
    found = json.loads(await text_of(store, Format.JSON, query()))

    assert found["rows"] == []
    assert set(found["totals"].values()) == {0}
