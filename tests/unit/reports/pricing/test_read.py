"""Reading price books: what is accepted, and how everything else is refused."""

import io
from collections.abc import Iterator
from datetime import date
from decimal import Decimal

import pytest

from meter.errors import InvalidInput
from meter.reports.pricing.book import Origin
from meter.reports.pricing.cells import COLUMNS
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.read import MOST_PROBLEMS, MOST_ROWS, BookReader
from tests.support.prices import HEADER, book_text, line, problems_of, read_texts


def test_a_row_has_all_that_its_line_says() -> None:
    """Each cell becomes the value of its column; the row knows its file and its line."""
    text = book_text(
        "7f-1,gpt 4o Inp glbl,GPT-4o,cached_input,Data Zone,Sweden Central,Standard,long,1000,"
        "0.00125,EUR,2026-01-01,2026-07-01,contracted,Contract 12"
    )
    (found,) = read_texts(text)

    assert (found.meter_id, found.meter_name, found.source) == (
        "7f-1",
        "gpt 4o Inp glbl",
        "Contract 12",
    )
    assert (found.model, found.kind) == ("gpt-4o", Kind.CACHED_INPUT)
    assert (found.deployment_type, found.region) == ("data-zone", "swedencentral")
    assert (found.tier, found.context) == ("standard", "long")
    assert (found.unit, found.price, found.currency) == (1000, Decimal("0.00125"), "EUR")
    assert (found.effective_from, found.effective_to) == (date(2026, 1, 1), date(2026, 7, 1))
    assert (found.origin, found.file, found.place) == (Origin.CONTRACTED, 0, "a.csv, line 2")


def test_files_are_counted_in_their_order() -> None:
    """The later file wins where two are equal, so each row knows the number of its file."""
    found = read_texts(book_text(line()), book_text(line(), line(kind="output")))

    assert [(each.file, each.place) for each in found] == [
        (0, "a.csv, line 2"),
        (1, "b.csv, line 2"),
        (1, "b.csv, line 3"),
    ]


@pytest.mark.parametrize(
    "text",
    [
        f"\ufeff{book_text(line())}",
        book_text(line()).replace("\n", "\r\n"),
        book_text(line()).replace("\n", "\r"),
        book_text(line()).removesuffix("\n"),
        book_text("", line(), " ", "," * 14, ""),
        book_text(line().replace(",", " , "), header=HEADER.replace(",", ", ")),
        book_text(",".join(f'"{cell}"' for cell in line().split(","))),
        book_text(
            ",".join(reversed(line().split(","))), header=",".join(reversed(HEADER.split(",")))
        ),
        book_text(line(source='"a ""quoted"", text"')),
        book_text(line(price="0"), line(kind="output", price="2")),
        book_text(line(model="deployment:Chat-EU")),
        book_text(line(effective_from="2024-02-29")),
    ],
    ids=[
        "byte order mark",
        "CRLF",
        "CR",
        "no last line end",
        "lines without text",
        "blanks around cells",
        "quoted cells",
        "columns in another order",
        "quotes and commas in a text",
        "a price of 0",
        "deployment",
        "leap day",
    ],
)
def test_files_as_people_and_spreadsheets_write_them_are_read(text: str) -> None:
    """None of these changes what a row means."""
    assert read_texts(text)[0].currency == "USD"


BAD_CELLS = [
    ("model", "", "gpt-4o-2024-11-20, or deployment:NAME, or *"),
    ("model", "deployment:", "deployment:NAME"),
    ("kind", "inputs", "must be one of input, cached_input, cache_write, output, audio_input"),
    ("kind", "*", "must be one of input"),
    ("kind", "", "must be one of input"),
    ("deployment_type", "sovereign", "must be one of global, data-zone, regional, *"),
    ("region", "", "swedencentral, or *"),
    ("region", "EU/north", "swedencentral, or *"),
    ("tier", "gold", "must be one of standard, priority, flex, batch, provisioned, *"),
    ("context", "", "must be one of short, long, *"),
    ("unit", "0", "a whole number from 1"),
    ("unit", "-1000", "a whole number from 1"),
    ("unit", "1.5", "a whole number from 1"),
    ("unit", "1K", "a whole number from 1"),
    ("unit", "1e6", "a whole number from 1"),
    ("unit", '"1,000"', "a whole number from 1, without separators"),
    ("unit", "1 000", "a whole number from 1, without separators"),
    ("unit", "1" + "0" * 18, "of up to 18 digits"),
    ("unit", "١٠٠٠", "a whole number from 1"),
    ("unit", "9" * 30, "a whole number from 1"),
    ("price", "", "a decimal number"),
    ("price", '"2,50"', "a decimal number, such as 2.50"),
    ("price", '"1,000.00"', "without sign, exponent and separators"),
    ("price", "1 000", "without sign, exponent and separators"),
    ("price", "1_000", "without sign, exponent and separators"),
    ("price", "-2.50", "must not be negative"),
    ("price", "+2.50", "without sign"),
    ("price", "2.5e-7", "without sign, exponent"),
    ("price", "NaN", "a decimal number"),
    ("price", "Infinity", "a decimal number"),
    ("price", "sNaN", "a decimal number"),
    ("price", "$2.50", "a decimal number"),
    ("price", ".50", "a decimal number"),
    ("price", "2.", "a decimal number"),
    ("price", "٢.٥", "a decimal number"),
    ("price", "0." + "1" * 21, "20 after it"),
    ("price", "1" * 16, "15 digits before the point"),
    ("currency", "", "three capitals"),
    ("currency", "usd", "three capitals"),
    ("currency", "€", "three capitals"),
    ("effective_from", "", "a day, YYYY-MM-DD"),
    ("effective_from", "01.11.2026", "a day, YYYY-MM-DD"),
    ("effective_from", "20261101", "a day, YYYY-MM-DD"),
    ("effective_from", "2026-W45-1", "a day, YYYY-MM-DD"),
    ("effective_from", "2026-02-30", "a day, YYYY-MM-DD"),
    ("effective_from", "2026-11-01T00:00:00Z", "a day, YYYY-MM-DD"),
    ("effective_to", "never", "a day, YYYY-MM-DD"),
    ("origin", "", "must be one of contracted, list"),
    ("origin", "guess", "must be one of contracted, list"),
    ("source", "x" * 1_001, "at most 1,000 characters"),
    ("meter_id", "x" * 1_001, "at most 1,000 characters"),
]


@pytest.mark.parametrize(("column", "cell", "accepted"), BAD_CELLS)
def test_a_bad_cell_is_refused_with_its_place_and_what_is_accepted(
    column: str, cell: str, accepted: str
) -> None:
    """One problem: file, line, column, the value and what would be accepted."""
    (problem,) = problems_of(book_text(line(kind="output"), line(**{column: cell})))

    shown = cell.strip('"')
    assert problem.startswith(f"a.csv, line 3, column {column}: must ")
    assert accepted in problem
    assert problem.endswith(f", got {shown!r}" if len(shown) <= 60 else f", got {shown[:60]!r}...")


@pytest.mark.parametrize("end", ["2026-01-01", "2025-12-31"])
def test_a_row_ends_after_it_begins(end: str) -> None:
    """The end is exclusive, so that a row of one day ends on the next."""
    assert problems_of(book_text(line(effective_to=end))) == [
        "a.csv, line 2, column effective_to: must be after effective_from 2026-01-01, since it is the "
        f"day after the last, got {end}"
    ]


HEADERS = [
    (HEADER.replace("price,", ""), line().replace("2.50,", ""), "lacks column price: the columns"),
    (HEADER.replace("price", "cost"), line(), "lacks column price; has unknown column 'cost': the"),
    (f"{HEADER},price", f"{line()},3", "has column 'price' more than once: the columns are "),
    (f"{HEADER},notes", f"{line()},new", "has unknown column 'notes': the columns are "),
    (HEADER.replace(",", ";"), "x", "separates columns by semicolons: commas are expected"),
    (HEADER.replace(",", "\t"), "x", "separates columns by tabs: commas are expected"),
    ("sep=;", "x", "separates columns by semicolons: commas are expected"),
    ("", HEADER, "the first line is empty: a header is expected, meter_id,"),
    ("\ufeff", HEADER, "the first line is empty: a header is expected, meter_id,"),
    ("\x1f\udc8b\x08\x00", "x", "is gzip: unpack it first"),
    ("PK\x03\x04\x14", "x", "is a workbook or a zip file: save it as CSV in UTF-8"),
    ("PAR1\x15", "x", "is Parquet: save it as CSV in UTF-8"),
    ("\udcff\udcfem\x00e\x00", "x", "is UTF-16: save it as CSV in UTF-8"),
    ("meter\x00id", "x", "has a NUL byte: save the file as CSV in UTF-8"),
    ("x" * 30_000, "x", "has more than 20,000 characters: a CSV file with a header is expected"),
    (f'{HEADER},"notes', "x", "its quotes do not match"),
]


@pytest.mark.parametrize(("header", "row", "problem"), HEADERS, ids=[each[2] for each in HEADERS])
def test_a_file_without_a_right_header_is_refused_once(header: str, row: str, problem: str) -> None:
    """The rows are not told as wrong for what the header lacks."""
    found = problems_of(f"{header}\n{row}\n")

    assert len(found) == 1
    assert found[0].startswith(f"a.csv, line 1: {problem}")


def test_an_empty_file_and_one_with_a_header_only_have_no_prices() -> None:
    """Someone expected prices from each file."""
    assert problems_of("", HEADER, book_text())[1:] == [
        "b.csv: has a header and no prices: give at least one row",
        "c.csv: has a header and no prices: give at least one row",
    ]
    assert problems_of("")[0].startswith("a.csv, line 1: the first line is empty")


LINES = [
    (line(price="2,50"), "has 16 cells and the header 15: is there a comma in a number"),
    ("gpt-4o,input", "has 2 cells and the header 15"),
    (line(source='"never closed'), "its quotes do not match: a quoted cell ends on its line"),
    (line(source='"a" b'), "its quotes do not match: a quoted cell ends on its line"),
    (line(source="a\x00b"), "has a NUL byte: save the file as CSV in UTF-8"),
    (line(source="caf\udce9"), "is not UTF-8 (byte 0xe9): save the file as CSV in UTF-8"),
    (line(source="x" * 10_000_000), "has more than 20,000 characters: a row is one line"),
]


@pytest.mark.parametrize(("bad", "problem"), LINES, ids=[problem for _, problem in LINES])
def test_a_line_that_is_no_row_is_refused_and_the_next_ones_are_read(
    bad: str, problem: str
) -> None:
    """A quote that is not closed does not hide the rows behind it."""
    found = problems_of(book_text(line(), bad, line(kind="output", price="x")))

    assert found[0].startswith(f"a.csv, line 3: {problem}")
    assert found[1].startswith("a.csv, line 4, column price: ")
    assert len(found) == 2


def test_bytes_that_a_strict_stream_cannot_decode_are_refused() -> None:
    """The stream's own error is told, too."""
    reader = BookReader()
    reader.read("a.csv", io.TextIOWrapper(io.BytesIO(b"caf\xe9\n"), encoding="utf-8"))
    with pytest.raises(InvalidInput) as refusal:
        reader.prices()

    assert refusal.value.problems[0].startswith("a.csv: is not UTF-8 (")


def test_all_problems_of_all_files_are_listed() -> None:
    """Files, lines and columns: not the first problem only."""
    found = problems_of(
        book_text(line(unit="0", price="free"), line(currency="eur")), "", book_text(line(tier="x"))
    )

    assert [problem.partition(": ")[0] for problem in found] == [
        "a.csv, line 2, column unit",
        "a.csv, line 2, column price",
        "a.csv, line 3, column currency",
        "b.csv, line 1",
        "c.csv, line 2, column tier",
    ]


class Endless:
    """A file that repeats a line for ever, and counts what was read of it."""

    def __init__(self, repeated: str) -> None:
        self._lines = self._all(repeated)
        self.read = 0

    def readline(self, size: int = -1, /) -> str:
        self.read += 1
        return next(self._lines)

    @staticmethod
    def _all(repeated: str) -> Iterator[str]:
        yield f"{HEADER}\n"
        while True:
            yield f"{repeated}\n"


def test_a_file_of_bad_rows_only_is_left_after_50_problems() -> None:
    """The list is bounded, and says that it is."""
    lines = Endless(line(price="x"))
    reader = BookReader()
    reader.read("a.csv", lines)
    reader.read("b.csv", io.StringIO(book_text(line(price="y"))))
    with pytest.raises(InvalidInput) as refusal:
        reader.prices()

    assert len(refusal.value.problems) == MOST_PROBLEMS + 1
    assert refusal.value.problems[-1] == "these are the first 50 problems: there may be more"
    assert lines.read == MOST_PROBLEMS + 2


@pytest.mark.parametrize("repeated", ["", "," * 14])
def test_an_endless_file_is_left_at_the_bound_of_rows(repeated: str) -> None:
    """A book is held in memory; lines without text count, or they would never end."""
    lines = Endless(repeated)
    reader = BookReader()
    reader.read("a.csv", lines)
    with pytest.raises(InvalidInput) as refusal:
        reader.prices()

    assert list(refusal.value.problems) == ["a.csv: the book has more than 200,000 rows"]
    assert lines.read == MOST_ROWS + 2


DATES = [
    (("2026-01-01", ""), ("2026-02-01", ""), True),
    (("2026-01-01", "2026-02-02"), ("2026-02-01", ""), True),
    (("2026-02-01", ""), ("2026-01-01", "2026-02-02"), True),
    (("2026-01-01", ""), ("2026-01-01", ""), True),
    (("2026-01-01", "2026-02-01"), ("2026-02-01", ""), False),
    (("2026-02-01", ""), ("2026-01-01", "2026-02-01"), False),
]


@pytest.mark.parametrize(("one", "other", "overlaps"), DATES)
def test_rows_of_one_file_that_price_the_same_day_alike_are_refused(
    one: tuple[str, str], other: tuple[str, str], overlaps: bool
) -> None:
    """The message names both lines; the end of one may be the beginning of the next."""
    lines = [line(effective_from=first, effective_to=end) for first, end in (one, other)]
    text = book_text(*lines)
    if overlaps:
        (problem,) = problems_of(text)
        assert problem.startswith(("a.csv, line 2: prices the same", "a.csv, line 3: prices the"))
        assert "a.csv, line 2" in problem
        assert "a.csv, line 3" in problem
    else:
        assert len(read_texts(text)) == 2


def test_an_overlap_is_found_behind_rows_that_end_earlier() -> None:
    """Not only neighbours are compared."""
    lines = [
        line(effective_from="2026-01-01"),
        line(effective_from="2026-02-01", effective_to="2026-03-01"),
        line(effective_from="2026-04-01"),
    ]
    found = problems_of(book_text(*lines))

    assert [problem.partition(" from ")[0] for problem in found] == [
        "a.csv, line 3: prices the same as a.csv, line 2",
        "a.csv, line 4: prices the same as a.csv, line 2",
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"model": "gpt-4o-2024-11-20"},
        {"model": "deployment:gpt-4o"},
        {"kind": "output"},
        {"deployment_type": "global"},
        {"region": "eastus"},
        {"tier": "standard"},
        {"context": "long"},
        {"currency": "EUR"},
        {"origin": "contracted"},
    ],
    ids=str,
)
def test_rows_that_differ_in_what_they_price_may_overlap(changes: dict[str, str]) -> None:
    """One of them is more specific, or of another currency or origin."""
    assert len(read_texts(book_text(line(), line(**changes)))) == 2


@pytest.mark.parametrize(
    "changes",
    [
        {"price": "9"},
        {"unit": "1000"},
        {"meter_id": "other"},
        {"source": "other"},
        {"model": "GPT-4O"},
    ],
    ids=str,
)
def test_rows_that_price_the_same_differently_are_refused(changes: dict[str, str]) -> None:
    """Which of the two is right cannot be known."""
    assert len(problems_of(book_text(line(), line(**changes)))) == 1


def test_equal_rows_of_two_files_are_accepted() -> None:
    """The later file wins."""
    assert len(read_texts(book_text(line()), book_text(line(price="3")))) == 2


def test_the_columns_are_those_of_the_contract() -> None:
    """Other people's scripts write them."""
    assert COLUMNS == (
        "meter_id",
        "meter_name",
        "model",
        "kind",
        "deployment_type",
        "region",
        "tier",
        "context",
        "unit",
        "price",
        "currency",
        "effective_from",
        "effective_to",
        "origin",
        "source",
    )
