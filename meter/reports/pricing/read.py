"""Reads price books: CSV files with a header line and one price per line, every problem at once.

All columns of `COLUMNS` must be there, in any order. Commas separate cells; a cell may be quoted, but
not over several lines, so that a forgotten quote hides no prices. Lines without any text are skipped.
"""

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import Any

from meter.errors import InvalidInput
from meter.reports.pricing.book import Price
from meter.reports.pricing.cells import COLUMNS, READERS
from meter.reports.text_file import Lines, not_text, undecodable

MOST_ROWS = 200_000  # a book is held in memory; Azure's whole list has 27,000 prices by region
MOST_PROBLEMS = 50
MOST_LINE_CHARS = 20_000
_SHOWN_CHARS = 60


class BookReader:
    """Reads the files of one book, in order, and collects what is wrong with them.

    Nothing more is read after `MOST_PROBLEMS` problems or `MOST_ROWS` lines.
    """

    def __init__(self) -> None:
        self._prices: list[Price] = []
        self._problems: list[str] = []
        self._files = 0
        self._lines = 0
        self._is_full = False

    def read(self, name: str, lines: Lines) -> None:
        """Read the next file; `name` is what people know it by. Raises OSError."""
        file, begun = self._files, len(self._prices)
        self._files += 1
        try:
            self._read_rows(name, file, lines)
        except UnicodeDecodeError as exc:
            self._refuse(name, f"is not UTF-8 ({exc.reason}): save it as CSV in UTF-8")
        if not self._is_full:
            self._check_overlaps(self._prices[begun:])

    def refuse(self, name: str, reason: str) -> None:
        """Note that a file cannot be read at all."""
        self._files += 1
        self._refuse(name, reason)

    def prices(self) -> list[Price]:
        """The prices of all files. Raises InvalidInput with every problem."""
        if self._problems:
            raise InvalidInput(self._problems)
        return self._prices

    def _refuse(self, place: str, problem: str) -> None:
        if self._is_full:
            return
        self._problems.append(f"{place}: {problem}")
        if len(self._problems) >= MOST_PROBLEMS:
            self._problems.append(
                f"these are the first {MOST_PROBLEMS} problems: there may be more"
            )
            self._is_full = True

    def _read_rows(self, name: str, file: int, lines: Lines) -> None:
        numbered = _numbered(lines)
        header = self._header(name, next(numbered, (1, "")))
        if header is None:
            return
        has_rows = False
        for number, line in numbered:
            self._lines += 1
            if self._lines > MOST_ROWS:
                self._refuse(name, f"the book has more than {MOST_ROWS:,} rows")
                self._is_full = True
            if self._is_full:
                return
            place = f"{name}, line {number}"
            cells = self._cells(place, line)
            has_rows = has_rows or cells is None or any(cells)
            if cells and any(cells):
                self._read_price(place, file, header, cells)
        if not has_rows:
            self._refuse(name, "has a header and no prices: give at least one row")

    def _header(self, name: str, first: tuple[int, str | None]) -> list[str] | None:
        """The columns in the file's order; None where rows cannot be told apart."""
        number, line = first
        place = f"{name}, line {number}"
        if problem := _not_a_header(line):
            self._refuse(place, problem)
            return None
        header = self._cells(place, (line or "").removeprefix("\ufeff"))
        if header is None:
            return None
        if problems := list(_header_problems(header)):
            self._refuse(place, f"{'; '.join(problems)}: the columns are {','.join(COLUMNS)}")
        return header

    def _cells(self, place: str, line: str | None) -> list[str] | None:
        """The cells of a line, without blanks around them; None where it is refused."""
        problem = _line_problem(line)
        if problem or line is None:
            self._refuse(place, problem)
            return None
        if not line.strip():
            return []
        try:
            (cells,) = csv.reader([line], strict=True, skipinitialspace=True)
        except csv.Error:
            self._refuse(
                place,
                "its quotes do not match: a quoted cell ends on its line, before a comma, and has its "
                "own quotes doubled",
            )
            return None
        return [cell.strip() for cell in cells]

    def _read_price(
        self, place: str, file: int, header: Sequence[str], cells: Sequence[str]
    ) -> None:
        if len(cells) != len(header):
            self._refuse(
                place,
                f"has {len(cells)} cells and the header {len(header)}: is there a comma in a number, "
                "or in a text without quotes?",
            )
            return
        found: dict[str, Any] = {}
        for column, cell in zip(header, cells, strict=True):
            if column in READERS:
                try:
                    found[column] = READERS[column](cell)
                except ValueError as exc:
                    self._refuse(f"{place}, column {column}", f"{exc}, got {_shown(cell)}")
        first, end = found.get("effective_from"), found.get("effective_to")
        if first and end and end <= first:
            self._refuse(
                f"{place}, column effective_to",
                f"must be after effective_from {first}, since it is the day after the last, got {end}",
            )
        elif len(found) == len(COLUMNS):
            self._prices.append(Price(**found, file=file, place=place))

    def _check_overlaps(self, prices: Iterable[Price]) -> None:
        """Refuse rows of one file that price the same on the same day."""
        alike: dict[tuple[str, ...], list[Price]] = defaultdict(list)
        for each in prices:
            what = (each.kind, each.model, each.deployment_type, each.region, each.tier)
            alike[*what, each.context, each.origin, each.currency].append(each)
        for group in alike.values():
            group.sort(key=lambda price: price.effective_from)
            latest, *others = group  # of those before, the one that ends last
            for price in others:
                if price.effective_from < _end(latest):
                    self._refuse(
                        price.place,
                        f"prices the same as {latest.place} from {price.effective_from} on: end one of "
                        "them with effective_to, or make it more specific",
                    )
                latest = max(latest, price, key=_end)


def _end(price: Price) -> date:
    return price.effective_to or date.max


def _numbered(lines: Lines) -> Iterator[tuple[int, str | None]]:
    """The lines without their ends, from 1; None in place of one that is too long."""
    number = 0
    while line := lines.readline(MOST_LINE_CHARS + 1):
        number += 1
        if len(line) <= MOST_LINE_CHARS:
            yield number, line.rstrip("\r\n")
            continue
        yield number, None
        while line and not line.endswith(("\r", "\n")):
            line = lines.readline(MOST_LINE_CHARS)


def _line_problem(line: str | None) -> str:
    if line is None:
        return f"has more than {MOST_LINE_CHARS:,} characters: a row is one line"
    if "\0" in line:
        return "has a NUL byte: save the file as CSV in UTF-8"
    return undecodable(line)


def _not_a_header(line: str | None) -> str:
    """Why the first line cannot be a header; empty where it can."""
    if line is None:
        return f"has more than {MOST_LINE_CHARS:,} characters: a CSV file with a header is expected"
    if problem := not_text(line):
        return problem
    text = line.removeprefix("\ufeff").strip()
    if not text:
        return f"the first line is empty: a header is expected, {','.join(COLUMNS)}"
    for separator, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if "," not in text and separator in text:
            return f"separates columns by {called}: commas are expected"
    return ""


def _header_problems(header: Sequence[str]) -> Iterator[str]:
    if missing := [column for column in COLUMNS if column not in header]:
        yield f"lacks column {', '.join(missing)}"
    if doubled := sorted({_shown(column) for column in header if header.count(column) > 1}):
        yield f"has column {', '.join(doubled)} more than once"
    if unknown := dict.fromkeys(_shown(column) for column in header if column not in COLUMNS):
        yield f"has unknown column {', '.join(unknown)}"


def _shown(cell: str) -> str:
    return repr(cell) if len(cell) <= _SHOWN_CHARS else f"{cell[:_SHOWN_CHARS]!r}..."
