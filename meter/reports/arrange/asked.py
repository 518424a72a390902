"""What somebody asks of a report's rows, as it is typed."""

from dataclasses import dataclass

_DIRECTIONS = {"asc": False, "desc": True}


@dataclass(frozen=True, slots=True, kw_only=True)
class Sort:
    """A column to sort by; without a direction the largest number or the first text is first."""

    column: str
    is_descending: bool | None = None


def parse_sort(text: str) -> Sort:
    """Read `COLUMN`, `COLUMN:asc` or `COLUMN:desc`. Raises ValueError."""
    name, colon, direction = text.strip().partition(":")
    if not name or (colon and direction not in _DIRECTIONS):
        raise ValueError(f"takes COLUMN, COLUMN:asc or COLUMN:desc; got {text!r}")
    return Sort(column=name, is_descending=_DIRECTIONS[direction] if colon else None)


def parse_columns(text: str) -> tuple[str, ...]:
    """Read a comma-separated list of columns. Raises ValueError."""
    names = tuple(filter(None, (part.strip() for part in text.split(","))))
    if not names:
        raise ValueError("takes at least one column")
    if len(set(names)) < len(names):
        raise ValueError(f"a column is named twice in {text!r}")
    return names
