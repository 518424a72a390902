"""How a table fits into a terminal: what is left out, what is shortened, what is never touched."""

import io
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter.commands.console.styled import StyledScreen
from meter.terminal import cells
from meter.terminal.plain import NARROWEST, PlainScreen, Role, lines_of, plain_lines
from meter.terminal.shorten import shortened
from meter.terminal.table import Column, Table, numbers, table_of, texts

GUIDS = ("1f0c2a4e-36e8-4c71-a0ab-0e211fae68cf", "1f0c2a4e-36e8-4c71-a0ab-0e211fae69aa")
ADVICE = "--format csv"


def usage(*, guids: tuple[str, ...] = GUIDS) -> Table:
    columns = [
        *texts("subject", "model"),
        Column(heading="calls", rank=20),
        Column(heading="cached", rank=80),
        Column(heading="total"),
    ]
    rows = [(guid, "gpt-4o", "12", "7,000", "1,234,567") for guid in guids]
    return table_of(columns, rows, ("total", "", "24", "14,000", "2,469,134"), advice=ADVICE)


def lines(table: Table, width: int | None) -> list[str]:
    return list(plain_lines(table, width))


def test_what_is_piped_has_every_column_in_full() -> None:
    """Nobody knows how wide the reader is."""
    assert lines(usage(), None)[0] == f"subject{' ' * 31}model   calls  cached      total"


def test_columns_of_the_least_weight_are_left_out_first_and_named_below() -> None:
    """With how to see them; what is the same in all rows is said there."""
    *_, total, remark = lines(usage(), 66)

    assert lines(usage(), 66)[0].split() == ["subject", "model", "calls", "total"]
    assert total.split() == ["total", "24", "2,469,134"]
    assert remark == "(to fit: without cached; all of it: --format csv)"
    assert lines(usage(), 50)[0].split() == ["subject", "total"]
    assert " ".join(line.strip() for line in lines(usage(), 50)[-2:]) == (
        "(to fit: without model (gpt-4o in all rows), calls, cached; all of it: --format csv)"
    )


def test_then_texts_are_shortened_in_the_middle_and_stay_apart() -> None:
    """Both ends of a GUID are known to whoever looks for it; no number loses a digit."""
    first, second = lines(usage(), 30)[2:4]

    assert [line.split()[0][:4] for line in (first, second)] == ["1f0c", "1f0c"]
    assert first.split()[0].endswith("68cf")
    assert second.split()[0].endswith("69aa")
    assert first.endswith(" 1,234,567")
    assert "with texts shortened" in " ".join(lines(usage(), 30)[6:])


@pytest.mark.parametrize(
    ("first", "second"),
    [("user-0000000001@contoso", "user-0000000002@contoso"), ("x" * 20 + "1", "x" * 20 + "2")],
)
def test_the_cut_is_where_it_tells_the_most_texts_apart(first: str, second: str) -> None:
    """In the middle, unless that is where they differ."""
    found = shortened([first, second, "short"], 19)

    assert found[first] != found[second]
    assert found["short"] == "short"
    assert {cells(text) for text in (found[first], found[second])} == {19}


def test_at_20_columns_the_cells_of_a_row_stand_below_each_other() -> None:
    """All of them: there is room in that direction."""
    assert lines(usage(guids=GUIDS[:1]), 20) == [
        "subject",
        "  1f0c2a4e-36e8-4c71",
        "  -a0ab-0e211fae68cf",
        "model  gpt-4o",
        "calls             12",
        "cached         7,000",
        "total      1,234,567",
        "",
        "total",
        "calls             24",
        "cached        14,000",
        "total      2,469,134",
    ]


def test_a_column_that_was_asked_for_is_never_left_out() -> None:
    """It would be the one that the reader looks for."""
    columns = [Column(heading=name, rank=80, is_asked=True) for name in ("one", "two", "three")]
    shown = lines(table_of(columns, [("1,000,000", "2,000,000", "3,000,000")]), 20)

    assert [line.split()[-1] for line in shown] == ["1,000,000", "2,000,000", "3,000,000"]


def test_a_text_that_runs_to_the_left_keeps_the_numbers_in_their_columns() -> None:
    """A mark ends it on a terminal; files have the text alone."""
    table = table_of([*texts("subject"), *numbers("calls", "total")], [("שלום", "1", "2")])
    plain, shown = lines(table, None)[2], lines(table, 80)[2]

    assert plain == "שלום         1      2"
    assert shown == "שלום\u200e         1      2"


def test_wide_characters_take_two_cells_and_accents_none() -> None:
    """So that columns stay aligned."""
    assert [cells(text) for text in ("日本", "zoë", "zoe\u0308", "")] == [4, 3, 3, 0]
    assert all(cells(text) <= 5 for text in shortened(["日本語の名前"], 5).values())


TEXTS = st.text(st.characters(codec="utf-8"), max_size=50)
ROWS = st.lists(st.tuples(TEXTS, TEXTS, st.integers(-(10**12), 10**12)), min_size=1, max_size=5)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, width=st.integers(NARROWEST, 120))
def test_any_table_fits_any_terminal_and_no_number_is_cut(
    rows: list[tuple[str, str, int]], width: int
) -> None:
    """In print: no line is wider, unless a number alone is; every number is whole."""
    columns = [*texts("subject", "model"), *numbers("total")]
    table = table_of(columns, [(a, b, f"{n:,}") for a, b, n in rows])
    shown = [line for line, role in lines_of(table, width) if role is not Role.REMARK]

    widest = max(cells(f"{n:,}") for _, _, n in rows)
    assert all(cells(line) <= max(width, widest) for line in shown)
    ends = [line.split()[-1] for line in shown if line.split()]
    for _, _, number in rows:
        assert f"{number:,}" in ends


@settings(max_examples=30, deadline=None)
@given(rows=ROWS, width=st.integers(NARROWEST, 120))
def test_styles_change_nothing_but_the_looks(rows: list[tuple[str, str, int]], width: int) -> None:
    """Escapes taken away, both screens show the same."""
    columns = [*texts("subject", "model"), *numbers("total")]
    table = table_of(columns, [(a, b, f"{n:,}") for a, b, n in rows], ("total", "", "7"))
    plain, styled = io.StringIO(), io.StringIO()
    PlainScreen(plain, width).show("[bold]text[/bold] :smile:", table)
    StyledScreen(styled, width).show("[bold]text[/bold] :smile:", table)

    assert re.sub(r"\x1b\[[0-9;]*m", "", styled.getvalue()) == plain.getvalue()
