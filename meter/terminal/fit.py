"""Fits a table into a width: columns are left out, then texts shortened, then cells go below each other.

Numbers are never shortened: a number that lacks a digit is another number.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from meter.terminal import cells
from meter.terminal.shorten import shortened
from meter.terminal.table import Column, Table

GAP = 2
# A GUID is whole in 36 cells, and one of 9 is still known by its ends.
_COMFORTABLE, _SHORTEST = 36, 9
_SAME_IN_ALL_ROWS = 50  # the rank of a column whose value can be said once


@dataclass(frozen=True, slots=True, kw_only=True)
class Fitted:
    """A table that fits, with the widths of its columns, and what it had to give up.

    `widths` is None if no choice of columns fits: then the cells of a row go below each other.
    """

    table: Table
    widths: tuple[int, ...] | None
    left_out: tuple[str, ...] = ()
    is_shortened: bool = False

    @property
    def remark(self) -> str:
        """What the reader misses, and how to see it; empty if nothing."""
        parts = [f"without {', '.join(self.left_out)}"] if self.left_out else []
        if self.is_shortened:
            parts.append("with texts shortened")
        if not parts:
            return ""
        advice = f"; all of it: {self.table.advice}" if self.table.advice else ""
        return f"(to fit: {' and '.join(parts)}{advice})"


def fitted(table: Table, width: int | None) -> Fitted:
    """The table in `width` cells; without bounds it is as it was."""
    natural = _widths(table)
    if width is None or _sum(natural) <= width:
        return Fitted(table=table, widths=natural)
    kept = _kept(table, width)
    narrow = _only(table, kept)
    widths = _narrowed(narrow, width)
    if widths is None:
        return Fitted(table=table, widths=None)
    left_out = tuple(
        _name(table, place) for place in range(len(table.columns)) if place not in kept
    )
    shorter = _shortened(narrow, widths)
    return Fitted(
        table=shorter, widths=widths, left_out=left_out, is_shortened=shorter.rows != narrow.rows
    )


def _widths(table: Table) -> tuple[int, ...]:
    return tuple(
        max(map(cells, (column.heading, *_cells_of(table, place))), default=0)
        for place, column in enumerate(table.columns)
    )


def _cells_of(table: Table, place: int) -> Iterator[str]:
    return (row[place] for row in table.lines)


def _sum(widths: Sequence[int]) -> int:
    return sum(widths) + GAP * (len(widths) - 1)


def _kept(table: Table, width: int) -> list[int]:
    """The places of the columns that are shown, so that texts of a usual length fit."""
    widths = [
        min(each, _COMFORTABLE) if column.is_text else each
        for column, each in zip(table.columns, _widths(table), strict=True)
    ]
    kept = list(range(len(widths)))
    ranks = [_rank(table, place) for place in kept]
    while _sum([widths[place] for place in kept]) > width:
        place = max(kept, key=lambda each: (ranks[each], each))
        if not ranks[place]:
            break
        kept.remove(place)
    return kept


def _rank(table: Table, place: int) -> int:
    column = table.columns[place]
    if column.is_asked:
        return 0
    if not column.rank and place and _same_text(table, place) is not None:
        return _SAME_IN_ALL_ROWS
    return column.rank


def _same_text(table: Table, place: int) -> str | None:
    """What a column of texts says, if those of several rows that say something agree."""
    found = {row[place] for row in table.rows} - {""}
    if not table.columns[place].is_text or len(found) != 1 or len(table.rows) < 2:
        return None
    return found.pop()


def _name(table: Table, place: int) -> str:
    heading, same = table.columns[place].heading, _same_text(table, place)
    return f"{heading} ({same} in all rows)" if same else heading


def _only(table: Table, kept: Sequence[int]) -> Table:
    def row(whole: Sequence[str]) -> list[str]:
        return [whole[place] for place in kept]

    return replace(
        table,
        columns=tuple(table.columns[place] for place in kept),
        rows=[row(each) for each in table.rows],
        last=None if table.last is None else row(table.last),
    )


def _narrowed(table: Table, width: int) -> tuple[int, ...] | None:
    """The widths of the columns that fit, the widest texts being shortened; None if none do."""
    widths = list(_widths(table))
    least = [_least(column, each) for column, each in zip(table.columns, widths, strict=True)]
    if _sum(least) > width:
        return None
    while _sum(widths) > width:
        place = max(
            (place for place in range(len(widths)) if widths[place] > least[place]),
            key=widths.__getitem__,
        )
        widths[place] -= 1
    return tuple(widths)


def _least(column: Column, width: int) -> int:
    if not column.is_text:
        return width
    return min(width, max(_SHORTEST, cells(column.heading)))


def _shortened(table: Table, widths: Sequence[int]) -> Table:
    by_column = [
        shortened(_cells_of(table, place), width) if column.is_text else {}
        for place, (column, width) in enumerate(zip(table.columns, widths, strict=True))
    ]

    def row(whole: Sequence[str]) -> list[str]:
        return [shown.get(cell, cell) for cell, shown in zip(whole, by_column, strict=True)]

    return replace(
        table,
        rows=[row(each) for each in table.rows],
        last=None if table.last is None else row(table.last),
    )
