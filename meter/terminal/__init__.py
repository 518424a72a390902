"""Writes text and tables for people: aligned columns, no characters that steer a terminal."""

import unicodedata
from collections.abc import Collection, Sequence
from typing import TextIO


def printable(text: str, *, most: int | None = None) -> str:
    """The text, or its first `most` characters, in one line.

    Control characters, which could fake lines, are shown as escapes.
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text[:most])


def shown_document(text: str, out: TextIO) -> str:
    """JSON text as it may be written to `out`: on a terminal without characters that steer it.

    They are written as JSON escapes, so the document means the same. Its line feeds stay: inside of
    strings JSON has none.
    """
    if not out.isatty():
        return text
    return "".join(c if c.isprintable() or c == "\n" else _json_escape(c) for c in text)


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[start : start + 4]}" for start in range(0, len(units), 4))


def cut(text: str, most: int) -> str:
    """The text, shortened to `most` characters if it is longer."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def aligned(
    head: Sequence[str],
    body: Sequence[Sequence[str]],
    last: Sequence[str] | None = None,
    *,
    text_columns: Collection[int],
    is_ruled: bool = True,
) -> list[str]:
    """One line per row, columns two spaces apart: texts to the left, all others to the right.

    A ruled table has a rule below the head and above the last row, except in columns without a
    head.
    """
    ends = [] if last is None else [last]
    rows = [[printable(cell) for cell in row] for row in (head, *body, *ends)]
    widths = [max(_cells(row[column]) for row in rows) for column in range(len(head))]

    def line(row: Sequence[str]) -> str:
        cells = []
        for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
            space = " " * (width - _cells(cell))
            cells.append(cell + space if column in text_columns else space + cell)
        return "  ".join(cells).rstrip()

    rule = "  ".join(
        ("-" if name else " ") * width for name, width in zip(head, widths, strict=True)
    ).rstrip()
    lines = [line(row) for row in rows]
    if not is_ruled:
        return lines
    tail = [] if last is None else [rule, lines.pop()]
    return [lines[0], rule, *lines[1:], *tail]


def _cells(text: str) -> int:
    """The width of a text in terminal cells: East Asian wide characters take two."""
    return sum(2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text)
