"""Numbers of exports: read strictly, and never as binary floating point."""

import ast
from decimal import Decimal, Inexact
from pathlib import Path

import pytest

import meter.adapters.exports
import meter.reports.invoice
from meter.reports.invoice.amounts import EXACT, is_whole, parse_amount, plain, total


@pytest.mark.parametrize(
    ("text", "amount"),
    [
        ("0.0025", "0.0025"),
        (" 12 ", "12"),
        ("-1.50", "-1.50"),
        ("+3.", "3"),
        (".5", "0.5"),
        ("4.56E-05", "0.0000456"),
        ("1e3", "1000"),
        ("0.4838709677419368", "0.4838709677419368"),
    ],
)
def test_a_number_keeps_all_its_digits(text: str, amount: str) -> None:
    """Azure writes up to 16 decimals, small numbers with an exponent."""
    assert parse_amount(text) == Decimal(amount)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1,5",
        "1,234.56",
        "1.234,56",
        "1 000",
        "1_000",
        "$1",
        "NaN",
        "Infinity",
        "-",
        "1.2.3",
        "1e999",
        "٣",
        "0x10",
        "9" * 61,
    ],
)
def test_anything_else_is_no_number(text: str) -> None:
    """A decimal comma read as a separator of thousands would be wrong by 1,000."""
    with pytest.raises(ValueError, match=r"a number like 1234\.56") as failure:
        parse_amount(text)

    assert repr(text[:40]) in str(failure.value)


def test_sums_lose_no_digit() -> None:
    """Decimal's own sum keeps 28 digits."""
    assert total([Decimal("1e30"), Decimal("1e-30")]) == Decimal(
        "1" + "0" * 30 + "." + "0" * 29 + "1"
    )
    with pytest.raises(Inexact):
        EXACT.divide(Decimal(1), Decimal(3))


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("1.500", "1.5"),
        ("1E+3", "1000"),
        ("100", "100"),
        ("0.000", "0"),
        ("-0.0", "0"),
        ("-2", "-2"),
    ],
)
def test_amounts_are_written_without_an_exponent(amount: str, text: str) -> None:
    """Any program reads them back."""
    assert plain(Decimal(amount)) == text


def test_a_quantity_is_whole_whatever_its_zeros() -> None:
    """`29.872` thousand tokens are 29,872."""
    assert is_whole(Decimal("29872.000"))
    assert not is_whole(Decimal("29872.5"))


def test_no_binary_floating_point_is_on_the_way() -> None:
    """Neither `float` nor a literal with a point; Parquet's own are taken by their shortest text."""
    folders = [
        Path(str(each.__file__)).parent for each in (meter.reports.invoice, meter.adapters.exports)
    ]
    found = {
        f"{file.name}:{node.lineno}"
        for folder in folders
        for file in folder.rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text()))
        if (isinstance(node, ast.Constant) and isinstance(node.value, float))
        or (isinstance(node, ast.Name) and node.id == "float" and file.name != "parquet.py")
    }

    assert found == set()
