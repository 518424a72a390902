"""Reads a file of subjects: CSV with a header line, every problem at once.

| column                              | accepted                                                       |
|-------------------------------------|----------------------------------------------------------------|
| subject                             | mandatory, once per file; 1 to 255 characters, taken exactly   |
| display_name, team, cost_centre     | any text of up to 1,000 characters; blanks around it are cut   |
| name, tenant, object_id, client_app, first_seen, last_seen | what `export` wrote; the meter's own    |

Columns stand in any order, their names in any case. Commas or semicolons separate cells, as the header
does. A cell may be quoted, and then have line ends in it. Rows without any text are skipped.
"""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

from meter.errors import InvalidInput
from meter.reports.subjects.entry import COLUMNS, EDITABLE, SUBJECT
from meter.reports.text_file import Lines, not_text, undecodable
from meter.reports.write.guard import unguarded
from meter.usage import MAX_SUBJECT_CHARS

MOST_ROWS = 200_000
MOST_PROBLEMS = 50
MOST_TEXT_CHARS = 1_000
MOST_LINE_CHARS = 1_000_000
_SHOWN_CHARS = 60
_MARKS = re.compile(r"[\s_-]+")
_BY_NAME = {_MARKS.sub("", column): column for column in COLUMNS}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRow:
    """A row of a file: the line on which it begins, its subject and its other cells by column."""

    line: int
    subject: str
    cells: Mapping[str, str]


def read_file(name: str, lines: Lines) -> list[FileRow]:
    """The rows of a file. Raises InvalidInput with every problem, OSError."""
    reading = _Reading(name)
    reading.read(lines)
    if reading.problems:
        raise InvalidInput(reading.problems)
    return reading.rows


@dataclass(slots=True)
class _Reading:
    name: str
    rows: list[FileRow] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    _header: Sequence[str] = ()
    _line_of: dict[str, int] = field(default_factory=dict)
    _is_full: bool = False

    def read(self, lines: Lines) -> None:
        """Read all rows, or until there are too many problems."""
        first = lines.readline(MOST_LINE_CHARS + 1)
        problem = not_text(first) or _line_problem(first)
        if not problem and not first.removeprefix("\ufeff").strip():
            problem = f"the first line is empty: a header is expected, such as {','.join(EXAMPLE)}"
        if not problem and "\t" in first and not {",", ";"} & set(first):
            problem = "separates columns by tabs: commas or semicolons are expected"
        if problem:
            self._refuse(1, problem)
            return
        first = first.removeprefix("\ufeff")
        numbered = _numbered(first, lines, separator=_separator(first))
        _, header = next(numbered)
        if isinstance(header, str):
            self._refuse(1, header)
            return
        self._read_header(header)
        for line, cells in numbered:
            if isinstance(cells, str):
                self._refuse(line, cells)
            elif any(cell.strip() for cell in cells) and self._header:
                self._read_row(line, cells)
            if self._is_full:
                return

    def _read_header(self, cells: Sequence[str]) -> None:
        header = [_BY_NAME.get(_MARKS.sub("", cell.strip().lower()), "") for cell in cells]
        for cell, column in zip(cells, header, strict=True):
            if not column and cell.strip():
                self._refuse(1, f"has unknown column {_shown(cell)}{_hint(cell)}")
        for column in sorted({each for each in header if each and header.count(each) > 1}):
            self._refuse(1, f"has column {column} more than once")
        if SUBJECT not in header:
            self._refuse(1, f"lacks column {SUBJECT}: the columns are {', '.join(COLUMNS)}")
        else:
            self._header = header

    def _read_row(self, line: int, cells: Sequence[str]) -> None:
        if len(self.rows) == MOST_ROWS:
            self._refuse(line, f"the file has more than {MOST_ROWS:,} rows: split it")
            self._is_full = True
            return
        if len(cells) != len(self._header):
            self._refuse(
                line,
                f"has {len(cells)} cells and the header {len(self._header)}: is there a separator in a "
                "text without quotes?",
            )
            return
        found: dict[str, str] = {}
        for place, (column, cell) in enumerate(zip(self._header, cells, strict=True), start=1):
            text = unguarded(cell)
            if problem := _cell_problem(column, text):
                where = f"column {column}" if column else f"column {place}"
                self._refuse(line, f"{problem}, got {_shown(text)}", where)
            elif column:
                found[column] = text.strip() if column in EDITABLE else text
        if SUBJECT in found:
            self._keep(line, found.pop(SUBJECT), found)

    def _keep(self, line: int, subject: str, cells: Mapping[str, str]) -> None:
        first = self._line_of.setdefault(subject, line)
        if first != line:
            self._refuse(
                line,
                f"{_shown(subject)} stands on line {first}, too: give each subject one line",
                f"column {SUBJECT}",
            )
            return
        self.rows.append(FileRow(line=line, subject=subject, cells=cells))

    def _refuse(self, line: int, problem: str, column: str = "") -> None:
        if self._is_full:
            return
        place = f"{self.name}, line {line}" + (f", {column}" if column else "")
        self.problems.append(f"{place}: {problem}")
        if len(self.problems) >= MOST_PROBLEMS:
            more = f"these are the first {MOST_PROBLEMS} problems: there may be more"
            self.problems.append(more)
            self._is_full = True


EXAMPLE = (SUBJECT, "team", "cost_centre")


def _cell_problem(column: str, text: str) -> str:
    if column == SUBJECT and not text:
        return "must name a subject"
    if column == SUBJECT and len(text) > MAX_SUBJECT_CHARS:
        return f"must have at most {MAX_SUBJECT_CHARS} characters"
    if column in EDITABLE and text.lstrip() != text and text.lstrip().startswith('"'):
        return "has a blank before its quotes: take it out"
    if column in EDITABLE and len(text.strip()) > MOST_TEXT_CHARS:
        return f"must have at most {MOST_TEXT_CHARS:,} characters"
    if not column and text.strip():
        return "must be empty, since its column has no name"
    return ""


def _separator(header: str) -> str:
    """What separates the cells, by the header alone: a comma where it has both, or none."""
    return ";" if ";" in header and "," not in header else ","


def _numbered(
    first: str, lines: Lines, *, separator: str
) -> Iterator[tuple[int, Sequence[str] | str]]:
    """The cells of each row with the line on which it begins, or what is wrong with them.

    After a fault of quotes it is not known where the next row begins: that is the last one.
    """

    def readable() -> Iterator[str]:
        line = first
        while line:
            if problem := _line_problem(line):
                raise _Unreadable(problem)
            yield line
            line = lines.readline(MOST_LINE_CHARS + 1)

    rows = csv.reader(readable(), delimiter=separator, strict=True)
    while True:
        begun = rows.line_num + 1
        try:
            cells = next(rows, None)
        except _Unreadable as exc:
            yield rows.line_num + 1, exc.problem
            return
        except csv.Error:
            yield begun, _QUOTES
            return
        if cells is None:
            return
        yield begun, cells


_QUOTES = (
    "its quotes do not match: a quoted cell has its own quotes doubled, and ends before a separator or "
    "the line's end"
)


class _Unreadable(Exception):
    def __init__(self, problem: str) -> None:
        super().__init__(problem)
        self.problem = problem


def _line_problem(line: str) -> str:
    if len(line) > MOST_LINE_CHARS:
        return f"has more than {MOST_LINE_CHARS:,} characters: a row of subjects is far shorter"
    return undecodable(line)


def _hint(cell: str) -> str:
    near = get_close_matches(_MARKS.sub("", cell.strip().lower()), _BY_NAME, n=1)
    if near:
        return f": did you mean {_BY_NAME[near[0]]}?"
    return f": the columns are {', '.join(COLUMNS)}"


def _shown(text: str) -> str:
    return repr(text) if len(text) <= _SHOWN_CHARS else f"{text[:_SHOWN_CHARS]!r}..."
