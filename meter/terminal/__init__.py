"""Texts and tables for people: no characters that steer a terminal, and widths in its cells."""

import unicodedata
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


def cells(text: str) -> int:
    """The width of a text in terminal cells: East Asian wide characters take two, marks none."""
    if text.isascii():
        return len(text)
    return sum(map(_char_cells, text))


def _char_cells(char: str) -> int:
    if unicodedata.category(char) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
