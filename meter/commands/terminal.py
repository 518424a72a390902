"""Writes tables for people: aligned columns, nothing that could play tricks on a terminal."""

from collections.abc import Sequence


def printable(text: str) -> str:
    """The text in one line: control characters, which could fake lines, are shown as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def cut(text: str, most: int) -> str:
    """The beginning of a long text."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """One line a row, columns two spaces apart."""
    if not rows:
        return []
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in shown) for column in range(len(shown[0]))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in shown
    ]
