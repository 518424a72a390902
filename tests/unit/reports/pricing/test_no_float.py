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

REPORTS = REPOSITORY / "meter" / "reports"
PRICING = sorted((REPORTS / "pricing").rglob("*.py"))
# A reconciliation has percentages of tokens, and no money.
WITH_MONEY = sorted(set(REPORTS.rglob("*.py")) - {REPORTS / "write" / "reconciliation.py"})
FLOATS = {"float", "statistics"}
EXACT_MATH = {"ceil", "floor", "gcd", "lcm"}  # of fractions and whole numbers


def floats_in(tree: ast.AST) -> Iterator[str]:
    """Where a float is named or written."""
    for node in ast.walk(tree):
        match node:
            case ast.Constant(value=float() | complex()):
                yield f"line {node.lineno}: {node.value!r}"
            case ast.ImportFrom(module="math", names=names):
                if {each.name for each in names} - EXACT_MATH:
                    yield f"line {node.lineno}: math"
            case ast.Attribute(value=ast.Name(id="math"), attr=name):
                if name not in EXACT_MATH:
                    yield f"line {node.lineno}: math.{name}"
            case ast.Name(id=name) | ast.Attribute(attr=name) | ast.alias(name=name):
                if name in FLOATS:
                    yield f"line {node.lineno}: {name}"


def divisions_in(tree: ast.AST) -> Iterator[str]:
    """Where a float may be made: by a division of anything but a `Fraction(...)`."""
    for node in ast.walk(tree):
        match node:
            case ast.BinOp(op=ast.Div(), left=ast.Call(func=ast.Name(id="Fraction"))):
                pass
            case ast.BinOp(op=ast.Div()) | ast.AugAssign(op=ast.Div()):
                yield f"line {node.lineno}: a division"


def shown(path: Path) -> str:
    return str(path.relative_to(REPORTS))


@pytest.mark.parametrize("path", WITH_MONEY, ids=shown)
def test_no_module_of_reports_with_money_has_a_float(path: Path) -> None:
    """Decimals are read as text, and added up as fractions."""
    assert list(floats_in(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize("path", PRICING, ids=shown)
def test_no_module_of_pricing_makes_a_float_by_division(path: Path) -> None:
    """Two whole numbers would make one."""
    assert list(divisions_in(ast.parse(path.read_text(encoding="utf-8")))) == []


@pytest.mark.parametrize(
    "source",
    [
        "x = 0.5",
        "x = float(y)",
        "x = a / b",
        "x /= b",
        "math.fsum(x)",
        "from math import sqrt",
        "1j",
    ],
)
def test_the_search_finds_floats(source: str) -> None:
    """It would see one."""
    tree = ast.parse(source)

    assert [*floats_in(tree), *divisions_in(tree)]


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
