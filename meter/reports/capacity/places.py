"""Finds the lines of a TOML document's keys, for messages: the parser does not tell them.

Only keys at the beginning of a line are found, which is how people write them. A key in an inline
table has the line of that table, and one in a text of several lines may be taken for a key.
"""

import re

type Path = tuple[str | int, ...]

_PART = r"""\s*(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)\s*"""
_KEY = rf"{_PART}(?:\.{_PART})*"
_HEADER = re.compile(rf"\s*(\[\[?)({_KEY})\]\]?")
_ASSIGNMENT = re.compile(rf"({_KEY})=")
_PARTS = re.compile(_PART)


class Lines:
    """The line of each key path of a document, from 1. Entries of arrays count from 0."""

    def __init__(self, text: str) -> None:
        self._lines: dict[Path, int] = {}
        counts: dict[str, int] = {}
        table: Path = ()
        for number, line in enumerate(text.split("\n"), 1):
            if header := _HEADER.match(line):
                table = _table(header, counts)
                self._lines.setdefault(table[:1], number)
                self._lines.setdefault(table, number)
            elif assignment := _ASSIGNMENT.match(line):
                self._lines.setdefault((*table, *_split(assignment[1])), number)

    def line_of(self, path: Path) -> int | None:
        """The line of the key, else of the nearest table around it; None where neither is found."""
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None


def _table(header: re.Match[str], counts: dict[str, int]) -> Path:
    """The path of the table that begins here, in the newest entry of its array."""
    first, *rest = _split(header[2])
    if header[1] == "[[" and not rest:
        counts[first] = counts.get(first, -1) + 1
    return (first, counts[first], *rest) if first in counts else (first, *rest)


def _split(key: str) -> list[str]:
    return [part.strip().strip("\"'") for part in _PARTS.findall(key)]
