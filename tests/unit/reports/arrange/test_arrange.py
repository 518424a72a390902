"""How a report is arranged, before any format writes it: columns, order, and how many rows."""

import csv
import io
import json
from collections.abc import AsyncIterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.reports.arrange.arrange import Arrangement, ColumnError, arranged
from meter.reports.arrange.asked import Sort, parse_columns, parse_sort
from meter.reports.arrange.names import SubjectNames
from meter.reports.arrange.order import human_key
from meter.reports.columns import usage_columns
from meter.reports.owners import Owner, Owners
from meter.reports.pricing.book import PriceBook
from meter.reports.query import Query
from meter.reports.rows import UsageRow
from meter.reports.usage import Report, usage_report
from meter.reports.write.report import Format, write_report
from meter.usage import TokenUsage
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import views_on
from tests.support.reports import book, price, query, row

PRICES = book(price("0.10", unit=3_000))


def asked(
    *,
    columns: str | None = None,
    sort: str | None = None,
    top: int | None = None,
    is_for_people: bool = False,
) -> Arrangement:
    return Arrangement(
        columns=parse_columns(columns) if columns else None,
        sort=parse_sort(sort) if sort else None,
        top=top,
        is_for_people=is_for_people,
    )


async def written(
    form: Format,
    wanted: Arrangement,
    *calls: tuple[str, str, int],
    of: Query | None = None,
    prices: PriceBook | None = None,
    names: SubjectNames | None = None,
) -> str:
    """A report of these windows, subjects and numbers of calls."""
    store, out = MemoryRowStore(), io.StringIO()
    await views_on(store).write(
        [row(window, subject, calls=number) for window, subject, number in calls]
    )
    report = usage_report(store, of or query("day", "2026-11", "2026-11"), book=prices)
    await write_report(arranged(report, wanted, names), form, out)
    return out.getvalue()


def cells(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


USED = [("2026-11-02", "a", 3), ("2026-11-02", "b", 9), ("2026-11-02", "c", 9)]


async def test_columns_come_in_the_order_in_which_they_are_asked_for() -> None:
    """In every format that lists rows."""
    wanted = asked(columns="calls,subject,cached_tokens")
    table = await written(Format.TABLE, wanted, *USED)
    text = await written(Format.CSV, wanted, *USED)
    document = json.loads(await written(Format.JSON, wanted, *USED))

    assert cells(text)[:2] == [["calls", "subject", "cached_tokens"], ["3", "a", "0"]]
    assert document["rows"][0] == {"calls": 3, "subject": "a", "cached_tokens": 0}
    assert document["totals"] == {"calls": 21, "cached_tokens": 0}
    assert table.splitlines()[1:4] == [
        "       calls  subject  cached",
        "       -----  -------  ------",
        "           3  a             0",
    ]
    assert table.splitlines()[-1] == "total     21                0"


@pytest.mark.parametrize(
    ("wanted", "option", "message"),
    [
        (asked(columns="calls,clals"), "columns", "no column 'clals'; did you mean calls?"),
        (
            asked(columns="xyz"),
            "columns",
            "no column 'xyz'; there are day, subject, corrections_of,",
        ),
        (asked(columns="cost"), "columns", "cost needs --prices or --capacity"),
        (asked(sort="CALLS"), "sort", "did you mean calls?"),
        (asked(sort="team"), "sort", "no column 'team'"),
        (asked(sort="day"), "sort", "rows are sorted within each day"),
        (asked(columns="others"), "columns", "no column 'others'"),
    ],
)
async def test_a_column_that_the_report_lacks_is_refused(
    wanted: Arrangement, option: str, message: str
) -> None:
    """With the one that may be meant, or those that there are."""
    with pytest.raises(ColumnError) as refusal:
        await written(Format.CSV, wanted)

    assert refusal.value.option == option
    assert message in str(refusal.value)


@pytest.mark.parametrize("text", ["", ":asc", "calls:up", "calls:"])
def test_a_sort_that_cannot_be_read_says_what_is_accepted(text: str) -> None:
    """Three spellings."""
    with pytest.raises(ValueError, match="takes COLUMN, COLUMN:asc or COLUMN:desc"):
        parse_sort(text)


@pytest.mark.parametrize("text", ["", " , ", "a,b,a"])
def test_columns_that_cannot_be_read_are_refused(text: str) -> None:
    """None, or one of them twice."""
    with pytest.raises(ValueError, match=r"at least one|named twice"):
        parse_columns(text)


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        ("calls", "bca"),
        ("calls:desc", "bca"),
        ("calls:asc", "abc"),
        ("subject", "abc"),
        ("subject:desc", "cba"),
        ("total_tokens", "bca"),
    ],
)
async def test_rows_are_sorted_numbers_from_the_largest_and_texts_from_a(
    sort: str, order: str
) -> None:
    """Equal ones stay in the order of names."""
    found = cells(await written(Format.CSV, asked(sort=sort, columns="subject"), *USED))

    assert "".join(name for (name,) in found[1:]) == order


async def test_what_is_not_known_comes_last_in_either_direction() -> None:
    """A cost without a price is not the least one."""
    usage = TokenUsage(completion_tokens=5, total_tokens=5)
    stored = [row("2026-11-02", "a", usage=usage), row("2026-11-02", "b", calls=2)]
    stored.append(row("2026-11-02", "c", calls=1))
    found = []
    for sort in ("cost", "cost:asc"):
        store, out = MemoryRowStore(), io.StringIO()
        await views_on(store).write(stored)
        report = usage_report(store, query("day", "2026-11", "2026-11"), book=PRICES)
        await write_report(arranged(report, asked(sort=sort)), Format.CSV, out)
        found.append("".join(line[1] for line in cells(out.getvalue())[1:]))

    assert found == ["bca", "cba"]


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(st.integers(1, 5_000), min_size=1, max_size=9),
    top=st.integers(1, 9),
    form=st.sampled_from([Format.CSV, Format.JSON, Format.TABLE]),
)
async def test_the_first_rows_and_the_others_add_up_to_the_cent(
    calls: list[int], top: int, form: Format
) -> None:
    """Totals and costs are those of all rows, in every format."""
    used = [("2026-11-02", f"s{place}", number) for place, number in enumerate(calls)]
    columns = "subject,calls,cost,share_percent"
    part = await written(form, asked(top=top, columns=columns), *used, prices=PRICES)
    whole = await written(form, asked(columns=columns), *used, prices=PRICES)

    match form:
        case Format.JSON:
            assert json.loads(part)["totals"] == json.loads(whole)["totals"]
            shown = json.loads(part)["rows"]
            assert len(shown) == min(top + 1, len(calls))
            assert sum(each["calls"] for each in shown) == sum(calls)
        case Format.CSV:
            assert sum(int(line[1]) for line in cells(part)[1:]) == sum(calls)
        case _:
            assert part.splitlines()[-1].split() == whole.splitlines()[-1].split()


async def test_the_others_are_one_row_per_window_that_says_how_many_they_are() -> None:
    """In a column of its own, too: a subject may be named like it."""
    used = [*USED, ("2026-11-03", "(others: 2)", 1)]
    wanted = asked(top=1, columns="day,subject,calls,others")
    text = await written(Format.CSV, wanted, *used)

    assert cells(text)[1:] == [
        ["2026-11-02", "b", "9", "0"],
        ["2026-11-02", "(others: 2)", "12", "2"],
        ["2026-11-03", "(others: 2)", "1", "0"],
    ]


async def test_the_first_are_those_of_the_highest_cost_where_there_are_prices() -> None:
    """Else those of the most tokens."""
    dear = TokenUsage(prompt_tokens=9_000, total_tokens=9_000)
    many = TokenUsage(completion_tokens=50_000, total_tokens=50_000)
    stored = [row("2026-11-02", "dear", usage=dear), row("2026-11-02", "many", usage=many)]
    found = []
    for prices in (None, PRICES):
        store, out = MemoryRowStore(), io.StringIO()
        await views_on(store).write(stored)
        report = usage_report(store, query("day", "2026-11", "2026-11"), book=prices)
        await write_report(arranged(report, asked(top=1)), Format.CSV, out)
        found.append(cells(out.getvalue())[1][1])

    assert found == ["many", "dear"]


async def test_one_window_at_a_time_is_held() -> None:
    """A year by the hour has millions of rows."""
    read: list[str] = []

    async def rows() -> AsyncIterator[UsageRow]:
        for day in range(1, 6):
            for name in "abc":
                read.append(f"{day}{name}")
                yield UsageRow(window=Window(f"2026-11-0{day}"), names=(name,))

    wanted = query("day", "2026-11", "2026-11")
    report = Report(query=wanted, columns=usage_columns(wanted), rows=rows())
    first = await anext(aiter(arranged(report, asked(top=2)).rows))

    assert first.names == ("a",)
    assert read == ["1a", "1b", "1c", "2a"]


async def test_corrections_of_a_month_are_arranged_apart_from_the_months_own_rows() -> None:
    """Their line must still say what it corrects."""

    async def rows() -> AsyncIterator[UsageRow]:
        for corrects in (None, Window("2026-09"), Window("2026-10")):
            for name in "ab":
                yield UsageRow(window=Window("2026-11"), names=(name,), corrects=corrects)

    wanted = query()
    report = Report(query=wanted, columns=usage_columns(wanted), rows=rows())
    found = [each async for each in arranged(report, asked(top=1)).rows]

    months = [each.corrects.name if each.corrects else "" for each in found]
    assert months == ["", "", "2026-09", "2026-09", "2026-10", "2026-10"]
    assert [each.others for each in found] == [0, 1] * 3


def test_people_find_names_without_regard_to_case_accents_and_leading_zeros() -> None:
    """Numbers by value; what is then equal, exactly."""
    names = ["user 10", "Zoe", "jurgen", "user 2", "alice", "Jürgen", "zoë", "Bob", "user 02"]

    assert sorted(names, key=human_key) == [
        "alice",
        "Bob",
        "Jürgen",
        "jurgen",
        "user 02",
        "user 2",
        "user 10",
        "Zoe",
        "zoë",
    ]


@given(st.lists(st.text(max_size=12), max_size=8))
def test_any_texts_have_an_order_for_people(texts: list[str]) -> None:
    """Whatever is in them, a number beside a text included; where they stood does not matter."""
    found = sorted(texts, key=human_key)
    texts.reverse()

    assert sorted(texts, key=human_key) == found


async def test_a_table_is_in_the_order_of_people_and_a_file_in_that_of_storage() -> None:
    """Programs that compare files rely on theirs."""
    used = [("2026-11-02", name, 1) for name in ("user 10", "user 2", "Zoë", "alice")]
    people, program = asked(is_for_people=True, columns="subject"), asked(columns="subject")
    table = await written(Format.TABLE, people, *used)
    text = await written(Format.CSV, program, *used)

    assert table.splitlines()[3:7] == ["alice", "user 2", "user 10", "Zoë"]
    assert [name for (name,) in cells(text)[1:]] == ["Zoë", "alice", "user 10", "user 2"]


OWNERS = Owners(
    {
        "1f0c2a4e-0001": Owner(name="Alice"),
        "1f0c2a4e-0002": Owner(name="alice"),
        "77aa": Owner(name="Bob"),
        "88bb": Owner(name="77aa"),
        "99cc": Owner(name="(others: 3)"),
        "dd": Owner(team="research"),
    }
)


@pytest.mark.parametrize(
    ("subject", "shown"),
    [
        ("1f0c2a4e-0001", "Alice (1f0c2a4e-0001)"),
        ("1f0c2a4e-0002", "alice (1f0c2a4e-0002)"),
        ("77aa", "Bob"),
        ("88bb", "77aa (88bb)"),
        ("99cc", "(others: 3) (99cc)"),
        ("dd", "dd"),
        ("unknown", "unknown"),
    ],
)
def test_subjects_are_shown_by_names_that_are_theirs_alone(subject: str, shown: str) -> None:
    """Two of one name are told apart, and nobody can be named like another subject."""
    assert SubjectNames(OWNERS).of(subject) == shown


def test_a_short_piece_of_the_subject_tells_namesakes_apart() -> None:
    """Eight characters of a GUID, if these are enough."""
    names = SubjectNames(
        Owners(
            {
                "1f0c2a4e-36e8-4c71-a0ab-0e211fae68cf": Owner(name="Alice"),
                "b33aa10a-9db0-4ded-b442-973b3ffdc6eb": Owner(name="Alice"),
            }
        )
    )

    assert names.of("b33aa10a-9db0-4ded-b442-973b3ffdc6eb") == "Alice (b33aa10a…)"


async def test_a_table_shows_names_and_is_sorted_by_them() -> None:
    """A subject that has none is shown by its id."""
    used = [("2026-11-02", "77aa", 1), ("2026-11-02", "Cid", 2), ("2026-11-02", "aa", 3)]
    wanted = asked(is_for_people=True, columns="subject,calls")
    table = await written(Format.TABLE, wanted, *used, names=SubjectNames(OWNERS))

    assert [line.split() for line in table.splitlines()[3:6]] == [
        ["aa", "3"],
        ["Bob", "1"],
        ["Cid", "2"],
    ]


def test_a_sort_is_a_value() -> None:
    """So that it can be compared."""
    assert parse_sort(" cost:asc ") == Sort(column="cost", is_descending=False)
