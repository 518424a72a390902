"""A usage report as an Excel workbook: types, formats, sums by group, and texts that stay texts."""

import io
import os
import sys
import zipfile
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl import Workbook, load_workbook
from openpyxl.utils import get_column_letter
from openpyxl.utils.escape import unescape

from meter.errors import InvalidInput, StorageUnavailable
from meter.reports.arrange.arrange import Arrangement, arranged
from meter.reports.columns import Cells, usage_columns
from meter.reports.pricing.cost import Unpriced
from meter.reports.pricing.kinds import Kind
from meter.reports.query import Query
from meter.reports.rows import UsageRow
from meter.reports.usage import Report
from meter.reports.write import workbook
from meter.reports.write.report import Format, write_report
from meter.reports.write.workbook import shown_text
from meter.window import Window
from tests.support.events import NOW
from tests.support.files import HOSTILE, bytes_of, document_of, report_of, usage_rows, used
from tests.support.reports import query

BY_DAY = query("day", "2026-11", "2026-11", groups="subject,team")


async def book_of(report: Report) -> Workbook:
    return load_workbook(io.BytesIO(await bytes_of(report, Format.XLSX)))


def rows_of(book: Workbook, name: str = "usage") -> list[dict[str, Any]]:
    head, *rows = book[name].values
    return [dict(zip(map(str, head), row, strict=True)) for row in rows]


@settings(max_examples=12, deadline=None)
@given(usage_rows())
async def test_it_has_the_values_of_the_json(rows: list[UsageRow]) -> None:
    """By any names and numbers: amounts and percentages to 15 digits, counts to the last."""
    book = await book_of(report_of(rows, BY_DAY, "EUR"))
    document = await document_of(report_of(rows, BY_DAY, "EUR"))

    for found, wanted in zip(rows_of(book), document["rows"], strict=True):
        for column in usage_columns(BY_DAY, "EUR"):
            value, expected = found[column.name], wanted[column.name]
            match column.cells:
                case Cells.AMOUNT | Cells.PERCENTAGE if expected is not None:
                    scale = 100 if column.cells is Cells.PERCENTAGE else 1
                    assert value * scale == pytest.approx(float(expected), rel=1e-14, abs=1e-12)
                case Cells.TEXT:
                    assert unescape(value or "") == shown_text(expected)
                case Cells.TEXTS:
                    assert (value or "") == ", ".join(expected)
                case Cells.WINDOW:
                    assert value == datetime.fromisoformat(expected)
                case Cells.MOMENT:
                    assert value == datetime.fromisoformat(expected).replace(tzinfo=None)
                case _:
                    assert value == expected


@settings(max_examples=25, deadline=None)
@example(["<r><t>one</t></r>", "<r>&</r>", "<r></r>", "=1+1", "http://a.example", "{=1}", "1"])
@given(st.lists(HOSTILE, min_size=1))
def test_a_text_stays_the_text_that_it_is(texts: list[str]) -> None:
    """No formula, no link, no markup, nothing that XML cannot hold; it may be edited and stay so."""
    out = io.BytesIO()
    with workbook.Workbook(out, title="texts", created=NOW) as book:
        table = book.add_table("texts", [usage_columns(BY_DAY)[1]])
        for text in texts:
            table.add([text])
        book.add_page("page", [[text] for text in texts])
    data = out.getvalue()

    loaded = load_workbook(io.BytesIO(data))
    cells = [cell for (cell,) in loaded["texts"].iter_rows(min_row=2, max_row=len(texts) + 1)]
    cells += [loaded["page"].cell(number, 1) for number in range(1, len(texts) + 1)]
    for text, found in zip([*texts, *texts], cells, strict=True):
        assert unescape(str(found.value or "")) == shown_text(text)
        assert found.data_type == ("s" if text else "n")
        assert found.hyperlink is None
        assert found.quotePrefix or not text
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        parts = {name: file.read(name) for name in file.namelist()}
    assert not [name for name, part in parts.items() if b"<f>" in part or b"hyperlink" in part]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a\x00\x1b\r\n\t", "a\\x00\\x1b\\r\\n\\t"),
        ("a\ud800\ufffe\uffff", "a\\ud800\\ufffe\\uffff"),
        ("zoë \u202e 日本 😀", "zoë \u202e 日本 😀"),
        ("x" * 32_767, "x" * 32_767),
        ("x" * 32_768, "x" * 32_764 + "..."),
        ("😀" * 16_384, "😀" * 16_382 + "..."),
    ],
)
def test_what_a_cell_cannot_hold_is_shown(text: str, shown: str) -> None:
    """Control characters as escapes; a text that is too long ends where it was cut."""
    assert shown_text(text) == shown


@pytest.mark.parametrize(
    ("by", "window", "moment", "shape"),
    [
        ("month", "2026-11", datetime(2026, 11, 1), "yyyy-mm"),  # noqa: DTZ001  # Excel has no zones
        ("day", "2026-11-02", datetime(2026, 11, 2), "yyyy-mm-dd"),  # noqa: DTZ001
        ("hour", "2026-11-02T07", datetime(2026, 11, 2, 7), 'yyyy-mm-dd"T"hh'),  # noqa: DTZ001
    ],
)
async def test_a_window_is_a_date(by: str, window: str, moment: datetime, shape: str) -> None:
    """Shown by its name, and sorted and grouped as dates are."""
    wanted = query(by, "2026-11", "2026-11", groups="subject")
    book = await book_of(report_of([used("alice", window=window)], wanted))

    cell = book["usage"]["A2"]
    assert (cell.value, cell.number_format) == (moment, shape)


@pytest.mark.parametrize(
    ("currency", "shape"), [("EUR", "#,##0.00"), ("JPY", "#,##0"), ("KWD", "#,##0.000")]
)
async def test_numbers_are_shown_as_people_write_them(currency: str, shape: str) -> None:
    """Amounts in the currency's minor unit, though they are not rounded."""
    row = used("alice", "search", cost=Fraction(1, 3), calls=4)
    assert row.charge is not None
    row.charge.adjusted.add_other(Fraction(1))
    row.charge.share = Fraction(1)
    sheet = (await book_of(report_of([row], BY_DAY, currency)))["usage"]

    head, cells = sheet.iter_rows()
    shapes = {name.value: cell.number_format for name, cell in zip(head, cells, strict=True)}
    assert shapes["cost"] == shapes["adjusted_cost"] == shape
    assert shapes["calls"] == shapes["net_total_tokens"] == "#,##0"
    assert shapes["share_percent"] == shapes["missing_percent"] == "0.00%"
    assert shapes["first_call_at"] == "yyyy-mm-dd hh:mm:ss"
    (found,) = rows_of(await book_of(report_of([row], BY_DAY, currency)))
    assert found["cost"] == pytest.approx(1 / 3, rel=1e-15)


async def test_the_head_stays_in_view_and_empty_columns_are_out_of_it() -> None:
    """They can be shown again; those that everybody knows stay, even with 0."""
    sheet = (await book_of(report_of([used("alice", "search", images=3)], BY_DAY)))["usage"]

    assert sheet.freeze_panes == "A2"
    assert sheet.auto_filter.ref is not None
    assert sheet.auto_filter.ref.startswith("A1:")
    shown = {
        cell.value
        for number, cell in enumerate(next(sheet.iter_rows()), 1)
        if not sheet.column_dimensions[get_column_letter(number)].hidden
    }
    assert {"images", "net_images", "calls", "prompt_tokens"} < shown
    assert {"seconds", "adjusted_images", "failed_calls"} & shown == set()
    assert sheet["A1"].font.b


async def test_each_group_has_a_sheet_of_sums() -> None:
    """Over all windows, the dearest first; they add up to the total."""
    rows = [
        used("alice", "search", window="2026-11-01", calls=2, prompt_tokens=7, cost=Fraction(1)),
        used("bob", "search", window="2026-11-01", calls=3, prompt_tokens=5, cost=Fraction(7)),
        used("alice", "ads", window="2026-11-02", calls=4, prompt_tokens=1, cost=Fraction(2)),
    ]
    book = await book_of(report_of(rows, BY_DAY, "EUR"))

    assert book.sheetnames == ["usage", "subject", "team", "about"]
    sums = [
        [tuple(row[name] for name in (group, "calls", "prompt_tokens", "cost", "share_percent"))]
        for group in ("subject", "team")
        for row in rows_of(book, group)
    ]
    assert sums == [
        [("bob", 3, 5, 7, 0.7)],
        [("alice", 6, 8, 3, 0.3)],
        [("search", 5, 12, 8, 0.8)],
        [("ads", 4, 1, 2, 0.2)],
    ]
    assert "day" not in rows_of(book, "team")[0]


async def test_sums_of_many_rows_are_right() -> None:
    """However many of them are held at once; without costs, most tokens come first."""
    rows = [used(f"s{n % 3}", "team", calls=1, total_tokens=n) for n in range(100)]
    book = await book_of(report_of(rows, BY_DAY))

    found = [
        (row["subject"], row["calls"], row["total_tokens"]) for row in rows_of(book, "subject")
    ]
    assert found == [("s0", 34, 1683), ("s2", 33, 1650), ("s1", 33, 1617)]


async def test_sums_have_the_columns_that_were_asked_for() -> None:
    """Rows that are not shown one by one are one name in all of them."""
    rows = [used(name, "search", cost=Fraction(n)) for n, name in ((1, "a"), (2, "b"), (9, "c"))]
    wanted = Arrangement(columns=("day", "team", "cost", "failed_calls", "others"), top=1)
    book = await book_of(arranged(report_of(rows, BY_DAY, "EUR"), wanted))

    assert next(iter(book["usage"].values)) == ("day", "team", "cost", "failed_calls", "others")
    for group, name in (("subject", "c"), ("team", "search")):
        assert list(book[group].values) == [
            (group, "cost", "failed_calls"),
            (name, 9, 0),
            ("(others)", 3, 0),
        ]


async def test_a_sheet_says_what_it_is_about() -> None:
    """Range, time, currency, total, and what the costs leave out."""
    row = used("alice", "search", calls=2, cost=Fraction(3, 2))
    assert row.charge is not None
    row.charge.bill.unpriced[Unpriced("=gpt", Kind("output"), "standard", "short", "", "")] = 5
    book = await book_of(report_of([row], BY_DAY, "EUR"))

    lines = [tuple(cell for cell in row if cell is not None) for row in book["about"].values]
    for line in (
        ("by", "day"),
        ("from", "2026-11-01"),
        ("to (inclusive)", "2026-11-30"),
        ("groups", "subject, team"),
        ("as of", "2026-11-23T07:30:00.000000Z"),
        ("currency", "EUR"),
        ("total calls", 2),
        ("total cost", 1.5),
        (5, "=gpt", "output", "standard", "short"),
    ):
        assert line in lines
    assert book.properties.title == "Usage from 2026-11-01 to 2026-11-30"


async def test_without_rows_it_says_so() -> None:
    """All sheets are there, with their heads."""
    book = await book_of(report_of([], BY_DAY, "EUR"))

    assert book.sheetnames == ["usage", "subject", "team", "about"]
    assert [book[name].max_row for name in book.sheetnames[:3]] == [1, 1, 1]


async def test_rows_that_do_not_fit_go_on_in_a_further_sheet(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Each sheet has the head, and none a row too many."""
    monkeypatch.setattr(workbook, "MOST_ROWS", 11)
    rows = [used(f"s{n}", "team", calls=n) for n in range(25)]
    book = await book_of(report_of(rows, BY_DAY))

    names = ["usage", "usage (2)", "usage (3)"]
    assert [book[name].max_row for name in names] == [11, 11, 6]
    found = [row["subject"] for name in names for row in rows_of(book, name)]
    assert found == [row.names[0] for row in rows]
    assert book["usage (3)"].freeze_panes == "A2"
    assert book.sheetnames[3:] == ["subject", "subject (2)", "subject (3)", "team", "about"]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            used("a", "b", prompt_tokens=10**15),
            "prompt_tokens: 1000000000000000 has more than the 15",
        ),
        (used("a", "b", prompt_tokens=-(2**53) - 1), "prompt_tokens: -9007199254740993 has more"),
        (used("a", "b", cost=Fraction(10**13)), "cost: 10000000000000 has more than the 15 digits"),
    ],
)
async def test_a_number_with_more_digits_than_excel_has_is_refused(
    row: UsageRow, reason: str
) -> None:
    """As a number it would be another one, as a text it would be missing in sums."""
    with pytest.raises(InvalidInput, match=reason):
        await bytes_of(report_of([row], BY_DAY, "EUR"), Format.XLSX)


async def test_15_digits_are_exact() -> None:
    """In the file, too, which has numbers in decimal."""
    row = used("a", "b", prompt_tokens=999_999_999_999_999, cost=Fraction("9999999999999.25"))
    (found,) = rows_of(await book_of(report_of([row], BY_DAY, "EUR")))

    assert found["prompt_tokens"] == 999_999_999_999_999
    assert Decimal(str(found["cost"])) == Decimal("9999999999999.25")


async def test_the_same_report_makes_the_same_bytes() -> None:
    """So a file that is different has another content."""
    first, second = [
        await bytes_of(report_of([used("a", "b")], BY_DAY), Format.XLSX) for _ in range(2)
    ]

    assert first == second


def left_behind() -> set[Path]:
    return set(Path(gettempdir()).glob("meter-xlsx-*"))


def open_still() -> list[str]:
    """The files of workbooks that this process has open."""
    targets = [os.readlink(each) for each in Path("/proc/self/fd").iterdir() if each.is_symlink()]
    return [target for target in targets if "meter-xlsx-" in target]


async def test_nothing_stays_behind_and_nothing_is_written_after_a_failure() -> None:
    """Neither rows among temporary files, which are not open any more, nor a workbook that lacks some."""

    async def rows() -> Any:
        yield used("alice", "search")
        raise StorageUnavailable("UsageByDay: query")

    before = left_behind()
    out = io.BytesIO()
    report = Report(query=BY_DAY, columns=usage_columns(BY_DAY), rows=rows())
    with pytest.raises(StorageUnavailable) as failure:
        await write_report(report, Format.XLSX, out)

    assert out.getvalue() == b""
    assert left_behind() <= before
    # The failure's frames still have the workbook: nothing of it was closed by being forgotten.
    assert not open_still(), failure


class Full(io.BytesIO):
    """A disk without room."""

    def write(self, _: Any) -> int:
        raise OSError(28, "No space left on device", "usage.xlsx")


async def test_a_full_disk_is_the_systems_own_error() -> None:
    """Not one of the library's, which nobody expects."""
    with pytest.raises(OSError, match=r"No space left on device: 'usage.xlsx'"):
        await write_report(report_of([used("a", "b")], BY_DAY), Format.XLSX, Full())


async def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """With the extra that brings it."""
    monkeypatch.setitem(sys.modules, "xlsxwriter", None)
    with pytest.raises(InvalidInput, match=r"pip install 'aoai-meter\[xlsx\]'"):
        await bytes_of(report_of([], BY_DAY), Format.XLSX)


@pytest.mark.parametrize("groups", ["", "subject", "team,model,subject"])
async def test_there_are_as_many_sheets_as_groups(groups: str) -> None:
    """None without any."""
    wanted: Query = query("month", "2026-11", "2026-11", groups=groups)
    row = used(*(f"{group} 1" for group in wanted.groups))
    assert row.window == Window("2026-11")
    book = await book_of(report_of([row], wanted))

    assert book.sheetnames == ["usage", *wanted.groups, "about"]
