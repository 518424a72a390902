"""Money never passes through binary floating point: 0.1 + 0.2 is 0.3."""

import ast
from collections.abc import Iterator
from decimal import Decimal, FloatOperation, localcontext
from fractions import Fraction
from pathlib import Path

import pytest

from meter.reports.pricing.cost import Bill
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.money import amount_text, rounded
from tests.support.prices import DAY, book_text, line, read_texts, use
from tests.support.prices import book as book_of
from tests.support.running import REPOSITORY

FOLDER = REPOSITORY / "meter" / "reports" / "pricing"
MODULES = sorted(FOLDER.rglob("*.py"))
FLOATS = {"float", "math", "fsum", "statistics"}


def floats_in(tree: ast.AST) -> Iterator[str]:
    """Where a float is named, written, or made: by a division of anything but a Fraction."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex()):
                yield f"line {node.lineno}: {node.value!r}"
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                if name in FLOATS:
                    yield f"line {node.lineno}: {name}"
            case ast.BinOp(op=ast.Div(), left=ast.Call(func=ast.Name(id="Fraction"))):
                pass
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield f"line {node.lineno}: a division"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(FOLDER)))
def test_no_module_of_pricing_makes_a_float(path: Path) -> None:
    """Decimals are read as text, and divided as fractions."""
    assert list(floats_in(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    ["x = 0.5", "x = float(y)", "x = a / b", "x /= b", "from math import ceil; import math", "1j"],
)
def test_the_search_finds_floats(source: str) -> None:
    """It would see one."""
    assert list(floats_in(ast.parse(source)))


def test_a_price_is_exact_from_the_file_to_the_line() -> None:
    """0.1 for one and 0.2 for one are 0.3; no Decimal was made of a float, or compared with one."""
    with localcontext() as context:
        context.traps[FloatOperation] = True
        text = book_text(line(unit="1", price="0.1"), line(kind="output", unit="1", price="0.2"))
        bill = Bill()
        bill.add(book_of(*read_texts(text)), DAY, use(), {Kind.INPUT: 1, Kind.OUTPUT: 1})
        cost = bill.cost

    assert type(cost) is Fraction
    assert cost == Fraction(3, 10)
    assert amount_text(cost) == "0.3"
    assert rounded(cost, "USD") == Decimal("0.30")
