"""The columns of a price book, and what their cells hold.

| column                         | accepted                                                           |
|--------------------------------|--------------------------------------------------------------------|
| meter_id, meter_name, source   | any text                                                           |
| model                          | a model as answers name it, `deployment:NAME`, or `*`              |
| kind, tier, context, origin, deployment_type | one of their words; `*` in tier, context, deployment_type |
| region                         | Azure's name of a region, or `*`                                   |
| unit                           | a whole number from 1                                              |
| price                          | a decimal number from 0, without sign, exponent and separators     |
| currency                       | three capitals (ISO 4217)                                          |
| effective_from                 | the first day (UTC), YYYY-MM-DD                                    |
| effective_to                   | the day after the last, or nothing                                 |
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import date
from decimal import Decimal
from functools import lru_cache

from meter.reports.pricing.book import (
    ANY,
    DEPLOYMENT_PREFIX,
    Origin,
    compared_model,
    compared_region,
    compared_word,
)
from meter.reports.pricing.kinds import Kind

DEPLOYMENT_TYPES = ("global", "data-zone", "regional")
TIERS = ("standard", "priority", "flex", "batch", "provisioned")
CONTEXTS = ("short", "long")
MOST_CELL_CHARS = 1_000

_REGION = re.compile(r"[a-z][a-z0-9]{1,49}", re.ASCII)
_UNIT = re.compile(r"\d{1,18}", re.ASCII)
_PRICE = re.compile(r"\d{1,15}(\.\d{1,20})?", re.ASCII)
_CURRENCY = re.compile(r"[A-Z]{3}", re.ASCII)
_DATE = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)


def parse_currency(text: str) -> str:
    """Read a currency's code. Raises ValueError that says what is accepted."""
    if not _CURRENCY.fullmatch(text):
        raise ValueError(f"must be three capitals, such as USD, got {text!r:.60}")
    return text


def _text(cell: str) -> str:
    if len(cell) > MOST_CELL_CHARS:
        raise ValueError(f"must have at most {MOST_CELL_CHARS:,} characters")
    return cell


def _model(cell: str) -> str:
    if not cell or cell.lower() == DEPLOYMENT_PREFIX or not _text(cell).isprintable():
        raise ValueError(
            "must be a model as answers name it, such as gpt-4o or gpt-4o-2024-11-20, or "
            "deployment:NAME, or *"
        )
    return compared_model(cell)


def _region(cell: str) -> str:
    region = compared_region(cell)
    if region != ANY and not _REGION.fullmatch(region):
        raise ValueError("must be an Azure region's name, such as swedencentral, or *")
    return region


def _one_of[T: str](words: Iterable[T]) -> Callable[[str], T]:
    """A reader of one of the words, in any case."""
    by_word = {compared_word(word): word for word in words}

    def read(cell: str) -> T:
        word = by_word.get(compared_word(cell))
        if word is None:
            raise ValueError(f"must be one of {', '.join(by_word.values())}")
        return word

    return read


def _unit(cell: str) -> int:
    if not _UNIT.fullmatch(cell) or not int(cell):
        raise ValueError(
            "must be a whole number from 1, without separators, such as 1000000, of up to 18 digits"
        )
    return int(cell)


def _amount(cell: str) -> Decimal:
    if cell.startswith("-"):
        raise ValueError("must not be negative, since a credit is no price")
    if not _PRICE.fullmatch(cell):
        raise ValueError(
            "must be a decimal number, such as 2.50, of up to 15 digits before the point and 20 after "
            "it, without sign, exponent and separators"
        )
    return Decimal(cell)


def _currency(cell: str) -> str:
    if not _CURRENCY.fullmatch(cell):
        raise ValueError("must be a currency's three capitals, such as USD")
    return cell


def _day(cell: str) -> date:
    try:
        if _DATE.fullmatch(cell):
            return date.fromisoformat(cell)
    except ValueError:
        pass
    raise ValueError("must be a day, YYYY-MM-DD")


def _end(cell: str) -> date | None:
    return _day(cell) if cell else None


_READERS: Mapping[str, Callable[[str], object]] = {
    "meter_id": _text,
    "meter_name": _text,
    "model": _model,
    "kind": _one_of(Kind),
    "deployment_type": _one_of((*DEPLOYMENT_TYPES, ANY)),
    "region": _region,
    "tier": _one_of((*TIERS, ANY)),
    "context": _one_of((*CONTEXTS, ANY)),
    "unit": _unit,
    "price": _amount,
    "currency": _currency,
    "effective_from": _day,
    "effective_to": _end,
    "origin": _one_of(Origin),
    "source": _text,
}
# A book has few different cells: each is read once, and equal ones are one value in memory.
READERS = {column: lru_cache(maxsize=4_096)(read) for column, read in _READERS.items()}
"""The value of a cell, by column. Raises ValueError that says what is accepted."""
COLUMNS = tuple(READERS)
"""The columns of a price book, in the order in which `prices import` writes them."""
