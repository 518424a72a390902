"""Writes tables and lines as plain text: what a pipe, a file and a simple terminal get."""

import textwrap
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TextIO

from meter.terminal import cells
from meter.terminal.fit import GAP, Fitted, fitted
from meter.terminal.shorten import split
from meter.terminal.table import Column, Piece, Table

_TO_THE_RIGHT = {"R", "AL", "RLE", "RLO", "RLI"}
# Ends a text that runs to the left: else the terminal would swap the columns behind it, too.
_BACK_TO_THE_RIGHT = "\N{LEFT-TO-RIGHT MARK}"
NARROWEST = 10
_WIDEST_BLOCK = 40  # an eye finds the number of a heading


class Role(StrEnum):
    """What a line is, for screens that show it."""

    TEXT = "text"
    HEAD = "head"
    RULE = "rule"
    ROW = "row"
    LAST = "last"
    REMARK = "remark"


@dataclass(frozen=True, slots=True)
class PlainScreen:
    """Text without escapes, `width` cells wide, or without bounds if that is None."""

    out: TextIO
    width: int | None = None

    def show(self, *pieces: Piece) -> None:
        """Write the pieces, one below the other."""
        for piece in pieces:
            self.out.writelines(f"{line}\n" for line in plain_lines(piece, self.width))


def plain_lines(piece: Piece, width: int | None = None) -> Iterator[str]:
    """The lines of a piece; `width` is that of a terminal."""
    return (line for line, _ in lines_of(piece, width))


def lines_of(piece: Piece, width: int | None) -> Iterator[tuple[str, Role]]:
    """The lines of a piece, and what they are: the same on every screen of that width."""
    if isinstance(piece, str):
        yield from ((line, Role.TEXT) for line in wrapped(piece, width))
        return
    found = fitted(piece, width)
    if found.widths is None:
        yield from _stacked(piece, width or NARROWEST)
        return
    for line, role in _aligned(found, found.widths):
        yield line if width is None else steady(line), role
    if found.remark:
        yield from ((line, Role.REMARK) for line in wrapped(found.remark, width))


def wrapped(text: str, width: int | None) -> list[str]:
    """A line of text; on a narrow terminal several, which do not break words."""
    if width is None or cells(text) <= width:
        return [text]
    indent = text[: len(text) - len(text.lstrip())]
    return textwrap.wrap(
        text,
        width,
        subsequent_indent=f"{indent}  ",
        break_long_words=False,
        break_on_hyphens=False,
    )


def steady(line: str) -> str:
    """The line with each text that runs to the left kept in its own column."""
    if line.isascii():
        return line
    parts = line.split("  ")
    return "  ".join(f"{part}{_BACK_TO_THE_RIGHT}" if _runs_left(part) else part for part in parts)


def _runs_left(text: str) -> bool:
    return any(unicodedata.bidirectional(char) in _TO_THE_RIGHT for char in text)


def _aligned(found: Fitted, widths: Sequence[int]) -> Iterator[tuple[str, Role]]:
    table = found.table
    headings = [column.heading for column in table.columns]
    rule = _line([("-" if name else " ") * w for name, w in zip(headings, widths, strict=True)])
    yield _row(table.columns, headings, widths), Role.HEAD
    if table.is_ruled:
        yield rule, Role.RULE
    for row in table.rows:
        yield _row(table.columns, row, widths), Role.ROW
    if table.last is not None:
        yield rule, Role.RULE
        yield _row(table.columns, table.last, widths), Role.LAST


def _row(columns: Sequence[Column], row: Sequence[str], widths: Sequence[int]) -> str:
    found = []
    for column, cell, width in zip(columns, row, widths, strict=True):
        space = " " * (width - cells(cell))
        found.append(cell + space if column.is_text else space + cell)
    return _line(found)


def _line(parts: Sequence[str]) -> str:
    return (" " * GAP).join(parts).rstrip()


def _stacked(table: Table, width: int) -> Iterator[tuple[str, Role]]:
    """One block of lines per row, with all cells that say something."""
    for number, row in enumerate(table.rows):
        yield from [("", Role.ROW)] if number else []
        for column, cell in zip(table.columns, row, strict=True):
            if cell:
                yield from ((line, Role.ROW) for line in _labelled(column, cell, width))
    if table.last is not None:
        label, *others = table.last
        yield from (("", Role.LAST), (label, Role.LAST))
        for column, cell in zip(table.columns[1:], others, strict=True):
            if cell:
                yield from ((line, Role.LAST) for line in _labelled(column, cell, width))


def _labelled(column: Column, cell: str, width: int) -> list[str]:
    if not column.heading:
        return split(cell, width)
    room = min(width, _WIDEST_BLOCK) - cells(column.heading) - GAP
    if column.is_text:
        room = width - cells(column.heading) - GAP
    if cells(cell) <= room:
        space = " " * (0 if column.is_text else room - cells(cell))
        return [f"{column.heading}{' ' * GAP}{space}{steady(cell)}"]
    if column.is_text:
        return [column.heading, *(f"  {steady(part)}" for part in split(cell, width - 2))]
    return [column.heading, f"{cell:>{min(width, _WIDEST_BLOCK)}}"]
