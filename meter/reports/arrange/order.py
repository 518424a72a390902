"""The order in which people look for names, and that of a column's values."""

import re
import unicodedata
from collections.abc import Iterable
from functools import lru_cache

from meter.reports.columns import Column, Value
from meter.reports.rows import UsageRow

type HumanKey = tuple[tuple[str | int, ...], str]

_DIGITS = re.compile(r"(\d{1,300})")


@lru_cache(maxsize=65_536)
def human_key(text: str) -> HumanKey:
    """Sorts without regard to case and accents, numbers by value, and what is then equal exactly."""
    decomposed = unicodedata.normalize("NFKD", text)
    folded = "".join(char for char in decomposed if not unicodedata.combining(char)).casefold()
    # Texts are at the even places, numbers at the odd ones: each meets its like.
    parts = enumerate(_DIGITS.split(folded))
    return tuple(int(part) if place % 2 else part for place, part in parts), text


def by_names(rows: Iterable[UsageRow]) -> list[UsageRow]:
    """The rows of a window in the order in which people look for names."""
    return sorted(rows, key=lambda row: tuple(map(human_key, row.names)))


def by_column(
    rows: Iterable[UsageRow], column: Column, *, is_descending: bool | None
) -> list[UsageRow]:
    """The rows by the values of a column; equal ones stay in order, unknown values come last."""
    known: list[tuple[HumanKey | Value, UsageRow]] = []
    unknown = []
    for row in rows:
        key = _key(column.get(row))
        if key is None:
            unknown.append(row)
        else:
            known.append((key, row))
    if is_descending is None:
        is_descending = not column.is_text
    known.sort(key=lambda each: each[0], reverse=is_descending)  # type: ignore[arg-type, return-value]  # of one column
    return [*(row for _, row in known), *unknown]


def _key(value: Value) -> HumanKey | Value:
    """What values of one column are compared by; None for what is not known."""
    match value:
        case str() | tuple():
            text = value if isinstance(value, str) else " ".join(value)
            return human_key(text) if text else None
        case _:
            return value
