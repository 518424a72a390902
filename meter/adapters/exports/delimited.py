"""Reads cost exports in CSV, and skips the rows of other resources on the raw text.

An account pays for thousands of resources; the rows of a few are wanted. Whole blocks of text without
the name of one are passed over, so that only rows that may be wanted are taken apart.
"""

import codecs
import csv
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from gzip import BadGzipFile
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Protocol

from meter.adapters.exports.watch import Watch
from meter.errors import InvalidInput
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.columns import Layout, Metric, layout_of

_BLOCK_BYTES = 1 << 18
_MOST_ROW_CHARS = 1 << 23


class Bytes(Protocol):
    """A file of bytes, unpacked."""

    def read(self, size: int, /) -> bytes:
        """At most that many bytes; none at the end."""


def read_delimited(path: Path, file: Bytes, metric: Metric, bill: Bill, watch: Watch) -> None:
    """Add the rows of a file to the bill. Raises InvalidInput, OSError."""
    blocks = _blocks(path, file)
    first = next(blocks, None)
    if first is None:
        raise InvalidInput([f"{path} is empty"])
    head, first = _header(path, first)
    try:
        layout = layout_of(head.cells, metric)
    except InvalidInput as exc:
        raise InvalidInput([f"{path}: {exc}"]) from None
    reader = _Reader(path, layout, bill, head.lines + 1)
    for block in chain([first], blocks):
        reader.read(block)
        watch(path, reader.line)
    reader.close()


@dataclass(frozen=True, slots=True)
class _Header:
    cells: Sequence[str]
    lines: int


def _header(path: Path, block: str) -> tuple[_Header, str]:
    """The first row with anything in it, and what follows in its block."""
    lines = block.split("\n")
    rows = csv.reader(lines, strict=True)
    try:
        for cells in rows:
            if any(cell.strip() for cell in cells):
                return _Header(cells, rows.line_num), "\n".join(lines[rows.line_num :])
    except csv.Error as exc:
        raise InvalidInput([f"{path}, line {rows.line_num}: is not CSV: {exc}"]) from None
    raise InvalidInput([f"{path} is empty"])


def _blocks(path: Path, file: Bytes) -> Iterator[str]:
    """The text in blocks of whole rows: line feeds inside of quotes end none."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    parts: list[str] = []
    size, quotes = 0, 0
    try:
        while data := file.read(_BLOCK_BYTES):
            text = decoder.decode(data)
            end = text.rfind("\n") + 1
            quotes += text.count('"', 0, end)
            if end and quotes % 2 == 0:
                yield "".join((*parts, text[:end]))
                parts, size, quotes = [text[end:]], len(text) - end, text.count('"', end)
            else:
                parts.append(text)
                size += len(text)
                quotes += text.count('"', end)
            if size > _MOST_ROW_CHARS:
                raise InvalidInput(
                    [f"{path}: a row never ends: a quote or a line's end is missing"]
                )
        if rest := "".join((*parts, decoder.decode(b"", final=True))):
            yield rest
    except UnicodeDecodeError:
        raise InvalidInput([f"{path} is not text in UTF-8"]) from None
    except (EOFError, BadGzipFile, zlib.error):
        raise InvalidInput(
            [f"{path} is cut off or damaged: its gzip data does not end well"]
        ) from None


@dataclass(slots=True)
class _Reader:
    """Adds the wanted rows of blocks to the bill."""

    path: Path
    layout: Layout
    bill: Bill
    line: int
    _last: str = ""
    _marks: Sequence[str] = field(init=False)
    _cells: "Callable[[list[str]], tuple[str, ...]]" = field(init=False)

    def __post_init__(self) -> None:
        self._marks = self.bill.accounts.marks
        absent = self.layout.width
        places = (absent if each is None else each for each in self.layout.places)
        self._cells = itemgetter(*places)

    def read(self, block: str) -> None:
        """Read a block of whole rows."""
        if "\0" in block:
            line = self.line + block.count("\n", 0, block.index("\0"))
            raise InvalidInput([f"{self.path}, line {line}: has a zero byte, so it is not CSV"])
        if self._may_be_wanted(block) and not self._read_by_line(block):
            self._read_all(block)
        self.line += block.count("\n")
        if not block.isspace():
            self._last = block

    def close(self) -> None:
        """Raise InvalidInput if the last row is not whole: the rest of the file is missing."""
        block, width = self._last.rstrip("\r\n"), 0
        for lines in ([block.rpartition("\n")[2]], block.split("\n")):
            try:
                width = len((list(csv.reader(lines)) or [[]])[-1])
            except csv.Error as exc:
                raise InvalidInput([f"{self.path}: its last row is not CSV: {exc}"]) from None
            if not block or width == self.layout.width:
                return
        raise InvalidInput(
            [
                f"{self.path} is cut off: its last row has {width} columns, the header has "
                f"{self.layout.width}"
            ]
        )

    def _may_be_wanted(self, text: str) -> bool:
        lower = text.lower()
        return any(mark in lower for mark in self._marks)

    def _read_by_line(self, block: str) -> bool:
        """Add the lines that may be wanted; False, with none added, if a row is more than a line."""
        lines = block.split("\n")
        wanted = [place for place, line in enumerate(lines) if self._may_be_wanted(line)]
        try:
            rows = list(csv.reader([lines[place] for place in wanted], strict=True))
        except csv.Error:
            return False
        width = self.layout.width
        if len(rows) != len(wanted) or any(len(row) != width for row in rows):
            return False
        for place, row in zip(wanted, rows, strict=True):
            self._add(row, self.line + place)
        return True

    def _read_all(self, block: str) -> None:
        rows = csv.reader(block.split("\n"), strict=True)
        start = 0
        try:
            for row in rows:
                line = self.line + start
                start = rows.line_num
                if len(row) == self.layout.width:
                    self._add(row, line)
                elif self._may_be_wanted(",".join(row)):
                    raise InvalidInput(
                        [
                            f"{self.path}, line {line}: the row has {len(row)} columns, the header has "
                            f"{self.layout.width}"
                        ]
                    )
        except csv.Error as exc:
            raise InvalidInput(
                [f"{self.path}, line {self.line + start}: is not CSV: {exc}"]
            ) from None

    def _add(self, row: list[str], line: int) -> None:
        row.append("")  # for the columns that the export does not have
        self.bill.add(self._cells(row), lambda: f"{self.path}, line {line}")
