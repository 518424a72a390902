"""Builders for prices: rows of a book, books, usage, and book files as text."""

import io
from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from meter.errors import InvalidInput
from meter.reports.pricing.book import Price, PriceBook, Use
from meter.reports.pricing.cells import COLUMNS
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.read import BookReader

DAY = date(2026, 11, 23)
HEADER = ",".join(COLUMNS)
_ROW = {
    "model": "gpt-4o",
    "kind": "input",
    "deployment_type": "*",
    "region": "*",
    "tier": "*",
    "context": "*",
    "unit": "1000000",
    "price": "2.50",
    "currency": "USD",
    "effective_from": "2026-01-01",
    "origin": "list",
}


def price(**changes: Any) -> Price:
    """A price of 2.50 USD per million input tokens of gpt-4o, but for what is given."""
    usual: dict[str, Any] = {
        "model": "gpt-4o",
        "kind": Kind.INPUT,
        "unit": 1_000_000,
        "price": Decimal("2.50"),
        "currency": "USD",
        "effective_from": date(2026, 1, 1),
        "place": "book.csv, line 2",
    }
    return Price(**usual | changes)


def use(**changes: str) -> Use:
    """A use of gpt-4o's latest model, regional in Sweden, but for what is given."""
    usual = {
        "model": "gpt-4o-2024-11-20",
        "deployment": "chat",
        "deployment_type": "regional",
        "region": "swedencentral",
        "tier": "standard",
        "context": "short",
    }
    return Use(**usual | changes)


def book(*prices: Price) -> PriceBook:
    """A book of these prices, in US dollars."""
    return PriceBook(prices, "USD")


def line(**changes: str) -> str:
    """A line of a book file: `price()` as text, but for what is given."""
    cells = _ROW | changes
    return ",".join(cells.get(column, "") for column in COLUMNS)


def book_text(*lines: str, header: str = HEADER) -> str:
    """A book file."""
    return "".join(f"{each}\n" for each in (header, *lines))


def read_texts(*texts: str) -> list[Price]:
    """The prices of files a.csv, b.csv, ... with these texts."""
    reader = BookReader()
    for name, text in zip("abcdefgh", texts, strict=False):
        reader.read(f"{name}.csv", io.StringIO(text, newline=""))
    return reader.prices()


def problems_of(*texts: str) -> list[str]:
    """What is wrong with files a.csv, b.csv, ... with these texts."""
    with pytest.raises(InvalidInput) as refusal:
        read_texts(*texts)
    return list(refusal.value.problems)
