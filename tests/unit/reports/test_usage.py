"""The report: what is asked, what is added up, and how it is written."""

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta

import pytest

from meter.ledger.fold import Sums
from meter.ledger.keys import Dimensions, SumKey
from meter.ledger.rows import SumRow
from meter.ledger.view import ViewWriter
from meter.reports.usage import Format, Query, Report, make_query, read_report, write_report
from meter.usage import TokenUsage
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.events import NOW


@pytest.fixture
def store() -> MemoryRowStore:
    return MemoryRowStore()


def query(
    by: str = "month", first: str | None = None, last: str | None = None, groups: str = "subject"
) -> Query:
    return make_query(by=by, first=first, last=last, groups=groups, now=NOW)


def row(window: str, subject: str = "alice", *, calls: int = 1, **names: str) -> SumRow:
    named = {"deployment": "gpt-4o", "model": "m", "tier": "standard", **names}
    usage = TokenUsage(prompt_tokens=1_000 * calls, total_tokens=1_000 * calls)
    sums = Sums(calls=calls, tokens=usage, first_call_at=NOW, last_call_at=NOW)
    key = SumKey(Window(window), Dimensions(subject=subject, **named))
    return SumRow(key=key, sums=sums, revision=1)


async def report_of(store: MemoryRowStore, asked: Query, *rows: SumRow) -> Report:
    await ViewWriter(store).write(rows)
    return await read_report(store, asked)


@pytest.mark.parametrize(
    ("by", "first", "last", "expected"),
    [
        ("month", None, None, ("2026-11", "2026-11")),
        ("day", None, None, ("2026-11-01", "2026-11-23")),
        ("hour", None, None, ("2026-11-01T00", "2026-11-23T07")),
        ("hour", "2026-02", "2026-02", ("2026-02-01T00", "2026-02-28T23")),
        ("hour", "2028-02-29", "2028-02-29", ("2028-02-29T00", "2028-02-29T23")),
        ("day", "2025-12", "2026-01", ("2025-12-01", "2026-01-31")),
        ("day", "2026-11-23T07", "2026-11-23T07", ("2026-11-23", "2026-11-23")),
        ("month", "2026-11-30T23", "2026-12-01T00", ("2026-11", "2026-12")),
    ],
)
def test_a_query_holds_all_of_the_periods_it_names(
    by: str, first: str | None, last: str | None, expected: tuple[str, str]
) -> None:
    """From this month to now by default; a day stands for its hours, a month for its days."""
    asked = query(by, first, last)

    assert (asked.first.name, asked.last.name) == expected


@pytest.mark.parametrize(
    ("changes", "accepted"),
    [
        (
            {"first": "last week"},
            "YYYY-MM-DD or YYYY-MM-DDTHH in UTC from 2000 on, got 'last week'",
        ),
        (
            {"last": "2026-11-31"},
            "YYYY-MM-DD or YYYY-MM-DDTHH in UTC from 2000 on, got '2026-11-31'",
        ),
        ({"groups": "team"}, "subject, deployment, model, tier, comma-separated; got 'team'"),
        ({"groups": "tier,model,tier"}, "twice: 'tier,model,tier'"),
        (
            {"by": "day", "first": "2026-11-23", "last": "2026-11-22"},
            "--from 2026-11-23 is after --to 2026-11-22",
        ),
    ],
)
def test_a_word_that_is_not_understood_is_told_what_is_accepted(
    changes: dict[str, str], accepted: str
) -> None:
    """The analyst can mend the command from its message alone."""
    with pytest.raises(ValueError, match=re.escape(accepted)):
        query(**changes)


async def test_lines_have_the_order_of_window_and_names(store: MemoryRowStore) -> None:
    """The same data gives the same report."""
    rows = [row("2026-11", "bob"), row("2026-10", "zoe"), row("2026-11", "alice")]
    report = await report_of(store, query(first="2026-10"), *rows)

    assert [(line.window.name, *line.names) for line in report.lines] == [
        ("2026-10", "zoe"),
        ("2026-11", "alice"),
        ("2026-11", "bob"),
    ]


@pytest.mark.parametrize(
    ("groups", "lines"),
    [
        ("", [()]),
        ("tier", [("provisioned",), ("standard",)]),
        ("tier, subject", [("provisioned", "bob"), ("standard", "alice"), ("standard", "bob")]),
    ],
)
async def test_rows_are_added_up_by_what_is_asked_for(
    store: MemoryRowStore, groups: str, lines: list[tuple[str, ...]]
) -> None:
    """In the order that was asked; whatever the grouping, the total is the same."""
    rows = [
        row("2026-11", "alice"),
        row("2026-11", "bob"),
        row("2026-11", "bob", model="n"),
        row("2026-11", "bob", tier="provisioned", calls=4),
    ]
    report = await report_of(store, query(groups=groups), *rows)

    assert [line.names for line in report.lines] == lines
    assert report.total.calls == 7


async def test_windows_outside_of_the_query_are_left_out(store: MemoryRowStore) -> None:
    """Both ends are included and nothing beyond them."""
    days = ["2026-10-31", "2026-11-01", "2026-11-02", "2026-11-03"]
    report = await report_of(
        store, query("day", "2026-11-01", "2026-11-02"), *(row(day) for day in days)
    )

    assert [line.window.name for line in report.lines] == ["2026-11-01", "2026-11-02"]


async def test_a_table_is_aligned_grouped_and_ends_with_its_total(store: MemoryRowStore) -> None:
    """Names to the left, numbers to the right with their thousands apart; empty columns left out."""
    rows = [row("2026-11", "alice", calls=1234), row("2026-11", "a-longer-name")]
    report = await report_of(store, query(), *rows)

    assert write_report(report, Format.TABLE) == (
        "month    subject        calls     prompt  completion      total\n"
        "-------  -------------  -----  ---------  ----------  ---------\n"
        "2026-11  a-longer-name      1      1,000           0      1,000\n"
        "2026-11  alice          1,234  1,234,000           0  1,234,000\n"
        "-------  -------------  -----  ---------  ----------  ---------\n"
        "total                   1,235  1,235,000           0  1,235,000\n"
    )


async def test_a_table_without_calls_says_so(store: MemoryRowStore) -> None:
    """An empty answer is told from a broken one."""
    report = await report_of(store, query())

    assert write_report(report, Format.TABLE) == "No calls from 2026-11 to 2026-11 (UTC).\n"


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
    report = await report_of(store, query(), row("2026-11", subject))

    lines = write_report(report, Format.TABLE).splitlines()
    assert len(lines) == 5
    assert lines[2].startswith(f"2026-11  {shown}  ")


async def test_csv_has_every_column_and_plain_numbers(store: MemoryRowStore) -> None:
    """One header, one line a row, moments in RFC 3339."""
    report = await report_of(store, query(groups="subject,tier"), row("2026-11", calls=1234))

    assert write_report(report, Format.CSV) == (
        "month,subject,tier,calls,failed_calls,prompt_tokens,completion_tokens,total_tokens,"
        "cached_tokens,reasoning_tokens,audio_tokens,image_tokens,seconds,estimated_calls,"
        "missing_calls,adjustments,adjusted_prompt_tokens,adjusted_completion_tokens,"
        "adjusted_total_tokens,first_call_at,last_call_at\n"
        "2026-11,alice,standard,1234,0,1234000,0,1234000,0,0,0,0,0,0,0,0,0,0,0,"
        "2026-11-23T07:30:00.000000Z,2026-11-23T07:30:00.000000Z\n"
    )


@pytest.mark.parametrize(
    ("subject", "cell"),
    [
        ("=HYPERLINK(1)", "'=HYPERLINK(1)"),
        ("+1", "'+1"),
        ("-1+1|cmd", "'-1+1|cmd"),
        ("@SUM(1)", "'@SUM(1)"),
        ("\t=1", "'\t=1"),
        ("\r=1", "'\r=1"),
        ("a=1", "a=1"),
        ('a","=1', 'a","=1'),
        ("a\nb", "a\nb"),
        ("'quoted'", "'quoted'"),
    ],
)
async def test_a_name_cannot_become_a_formula_or_another_cell(
    store: MemoryRowStore, subject: str, cell: str
) -> None:
    """What a spreadsheet would run is made text; separators and quotes stay inside of the cell."""
    report = await report_of(store, query(), row("2026-11", subject))

    lines = list(csv.reader(io.StringIO(write_report(report, Format.CSV), newline="")))
    assert [line[1] for line in lines] == ["subject", cell]


async def test_json_holds_the_question_the_rows_and_the_total(store: MemoryRowStore) -> None:
    """Names are whole and counts are numbers."""
    report = await report_of(
        store, query("day", "2026-11", "2026-11"), row("2026-11-05", 'zoë"\n', calls=2)
    )

    found = json.loads(write_report(report, Format.JSON))
    assert (found["by"], found["from"], found["to"]) == ("day", "2026-11-01", "2026-11-30")
    assert [(line["day"], line["subject"], line["calls"]) for line in found["rows"]] == [
        ("2026-11-05", 'zoë"\n', 2)
    ]
    assert found["rows"][0]["first_call_at"] == "2026-11-23T07:30:00.000000Z"
    assert found["total"]["total_tokens"] == 2_000


@pytest.mark.parametrize("form", Format)
async def test_every_form_ends_its_last_line(store: MemoryRowStore, form: Format) -> None:
    """So that reports can be joined and piped."""
    report = await report_of(store, query(), row("2026-11"))

    assert write_report(report, form).endswith("\n")
    assert not write_report(report, form).endswith("\n\n")


async def test_first_and_last_call_span_all_rows_of_a_line(store: MemoryRowStore) -> None:
    """A line's moments are those of everything it adds up."""
    early, late = datetime(2026, 11, 1, tzinfo=UTC), NOW + timedelta(hours=1)
    rows = [row("2026-11", model=model) for model in "ab"]
    spans = [(early, NOW), (NOW, late)]
    shown = [
        SumRow(
            key=r.key,
            sums=Sums(calls=1, first_call_at=first, last_call_at=last),
            revision=1,
        )
        for r, (first, last) in zip(rows, spans, strict=True)
    ]
    report = await report_of(store, query(), *shown)

    (line,) = report.lines
    assert (line.sums.first_call_at, line.sums.last_call_at) == (early, late)
