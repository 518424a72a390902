"""A table for people, before anybody knows how wide it may be."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from meter.terminal import printable

type Cells = Sequence[str]
"""The texts of one row."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """A column: texts to the left, all others to the right; without a heading it has no rule.

    Where the room is short, columns of the highest `rank` are left out first, those of rank 0 only
    if they say the same in every row, and those that were asked for never.
    """

    heading: str
    is_text: bool = False
    rank: int = 0
    is_asked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """Rows of printable texts, and a last one that sums them up.

    A ruled table has rules below the head and above the last row. `advice` says how to see what did
    not fit.
    """

    columns: tuple[Column, ...]
    rows: Sequence[Cells]
    last: Cells | None = None
    is_ruled: bool = True
    advice: str = ""

    @property
    def lines(self) -> list[Cells]:
        """The rows, the last one included."""
        return [*self.rows, *([] if self.last is None else [self.last])]


def table_of(
    columns: Sequence[Column],
    rows: Sequence[Cells],
    last: Cells | None = None,
    *,
    is_ruled: bool = True,
    advice: str = "",
) -> Table:
    """The table of these texts, whose control characters are shown as escapes."""

    def shown(row: Cells) -> Cells:
        return [printable(cell) for cell in row]

    return Table(
        columns=tuple(columns),
        rows=[shown(row) for row in rows],
        last=None if last is None else shown(last),
        is_ruled=is_ruled,
        advice=advice,
    )


def texts(*headings: str) -> list[Column]:
    """Columns of texts."""
    return [Column(heading=heading, is_text=True) for heading in headings]


def numbers(*headings: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(heading=heading) for heading in headings]


type Piece = str | Table
"""What is shown: a line of text, or a table."""


class Screen(Protocol):
    """Where people read: a terminal of some width, or what is read later, without bounds."""

    def show(self, *pieces: Piece) -> None:
        """Write the pieces, one below the other."""
        ...
