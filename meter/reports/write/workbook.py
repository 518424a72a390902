"""Writes tables as sheets of an Excel workbook (XLSX): typed cells, formats, and no surprises.

A text is a text, whatever it looks like: no formula, no link, no markup; control characters, which XML
cannot hold, are shown as escapes. Excel holds 15 digits of a number. A count, or an amount in whole minor
units, that has more is refused: it would lose digits as a number, and be left out of sums as a text.
Rows that do not fit into a sheet go on in a further one.

XlsxWriter writes rows as they come, in constant memory and half of openpyxl's time.
"""

import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Context, Decimal
from fractions import Fraction
from functools import partial
from importlib import import_module
from tempfile import TemporaryDirectory
from typing import Any, BinaryIO, Self

from meter.errors import InvalidInput
from meter.reports.columns import Cells, FileColumn, Value
from meter.reports.pricing.money import exact_decimal, minor_digits
from meter.reports.write.sink import Sink
from meter.window import Window

MOST_ROWS = 1_048_576
MOST_CHARS = 32_767
"""UTF-16 units of a cell's text."""
MOST_DIGITS = 15

_WIDEST, _NARROWEST = 60, 10
_COUNTS, _PAGE = "#,##0", 18
_EXACT = Context(prec=1_000)
_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
_WINDOWS = {"month": "yyyy-mm", "day": "yyyy-mm-dd", "hour": 'yyyy-mm-dd"T"hh'}

type _Cell = int | Decimal | str | datetime | None


class Workbook:
    """A workbook whose rows are written while they come; its bytes are written at the end.

    `created` is the time that it names as its own. Raises InvalidInput if XlsxWriter is missing.
    """

    def __init__(self, out: BinaryIO, *, title: str, created: datetime) -> None:
        try:
            library = import_module("xlsxwriter")
        except ImportError:
            raise InvalidInput(
                ["XLSX needs XlsxWriter: pip install 'aoai-meter[xlsx]', or write CSV or JSON"]
            ) from None
        self._sink = Sink(out)
        self._folder = TemporaryDirectory(prefix="meter-xlsx-", ignore_cleanup_errors=True)
        options = {
            "constant_memory": True,
            "use_zip64": True,
            "remove_timezone": True,
            "tmpdir": self._folder.name,
        }
        self._book = library.Workbook(self._sink, options)
        self._book.set_properties({"title": title, "created": created.replace(tzinfo=None)})
        self._formats: dict[tuple[str, bool], Any] = {}
        self._sheets: list[Sheet] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            if error is None:
                self._close()
        except OSError as exc:
            error = exc
            raise
        finally:
            self._sink.cut()
            if isinstance(error, OSError) and error.filename is None:
                error.filename = self._folder.name  # there rows wait for the end
            self._drop_rows()
            self._folder.cleanup()

    def _drop_rows(self) -> None:
        """Close the files in which rows wait: the library does when it writes them, as after a failure it
        never will.
        """
        for sheet in self._book.worksheets():
            if sheet.row_data_fh is not None:
                with suppress(OSError):  # what it still has to write is not wanted
                    sheet.row_data_fh.close()

    def _close(self) -> None:
        for each in self._sheets:
            each.finish()
        try:
            self._book.close()
        except Exception as exc:
            if exc.args and isinstance(exc.args[0], OSError):
                raise exc.args[0] from None  # the library has put it into an error of its own
            raise

    def add_table(self, name: str, columns: Sequence[FileColumn]) -> "Sheet":
        """A sheet with a head that stays in view, and with filters."""
        sheet = Sheet(
            self,
            name,
            [replace(_kind_of(column), is_optional=column.is_optional) for column in columns],
        )
        self._sheets.append(sheet)
        return sheet

    def add_page(
        self, name: str, rows: Sequence[Sequence[Value]], currency: str | None = None
    ) -> None:
        """A sheet of texts, counts and amounts that is no table; the first cells are headings."""
        sheet = self.new_sheet(name)
        sheet.set_column(0, 0, 2 * _PAGE)
        sheet.set_column(1, len(max(rows, key=len)), _PAGE)
        for number, row in enumerate(rows):
            for place, value in enumerate(row):
                cells = _cells_of(value)
                kind = _kind_of(_PageColumn(name, cells, currency))
                cell = None if value is None else kind.read(value)
                write_cell(sheet, number, place, cell, self.format(kind.shape, bold=not place))

    def new_sheet(self, name: str) -> Any:
        """An empty sheet of the library's."""
        return self._book.add_worksheet(name)

    def format(self, shape: str, *, bold: bool = False) -> Any:
        """A format of numbers; without a shape of texts, which keep being texts when edited."""
        key = (shape, bold)
        if key not in self._formats:
            kind = {"num_format": shape} if shape else {"quote_prefix": True}
            self._formats[key] = self._book.add_format({**kind, "bold": bold})
        return self._formats[key]


class Sheet:
    """A table in one sheet, or in several if its rows need them."""

    def __init__(self, book: Workbook, name: str, kinds: Sequence["_Kind"]) -> None:
        self._book, self._name, self._kinds = book, name, kinds
        self._widths = [max(len(kind.name) + 4, kind.width) for kind in kinds]
        self._is_used = [not kind.is_optional for kind in kinds]
        self._formats = [book.format(kind.shape) for kind in kinds]
        self._lengths: list[int] = []
        self._parts: list[Any] = []
        self._begin()

    def add(self, values: Sequence[Value]) -> None:
        """Add a row. Raises InvalidInput if a number has too many digits."""
        if self._lengths[-1] == MOST_ROWS:
            self._begin()
        sheet, number = self._parts[-1], self._lengths[-1]
        for place, value in enumerate(values):
            if value is None:
                continue
            cell = self._kinds[place].read(value)
            if cell and not self._is_used[place]:
                self._is_used[place] = True
            if isinstance(cell, str) and len(cell) >= self._widths[place]:
                self._widths[place] = len(cell) + 1
            write_cell(sheet, number, place, cell, self._formats[place])
        self._lengths[-1] = number + 1

    def finish(self) -> None:
        """Set what depends on all rows; optional columns with nothing but 0 are hidden."""
        for sheet, length in zip(self._parts, self._lengths, strict=True):
            for place, width in enumerate(self._widths):
                hidden = {"hidden": not self._is_used[place]}
                sheet.set_column(place, place, min(width, _WIDEST), self._formats[place], hidden)
            sheet.autofilter(0, 0, max(length - 1, 1), len(self._kinds) - 1)

    def _begin(self) -> None:
        part = len(self._parts) + 1
        sheet = self._book.new_sheet(self._name if part == 1 else f"{self._name} ({part})")
        sheet.freeze_panes(1, 0)
        sheet.set_landscape()
        sheet.repeat_rows(0)
        head = self._book.format("", bold=True)
        for place, kind in enumerate(self._kinds):
            write_cell(sheet, 0, place, kind.name, head)
        self._parts.append(sheet)
        self._lengths.append(1)


def write_cell(sheet: Any, row: int, place: int, cell: _Cell, form: Any) -> None:
    """Write a cell; nothing where it is empty."""
    match cell:
        case int() | Decimal():  # most cells of a report
            sheet.write_number(row, place, cell, form)
        case None | "":
            pass
        case str():
            text = shown_text(cell)
            # The library takes what looks like its own markup for markup, unless it is made of parts.
            if text.startswith("<r>") and text.endswith("</r>"):
                sheet.write_rich_string(row, place, text[0], form, text[1:], form)
            else:
                sheet.write_string(row, place, text, form)
        case datetime():
            sheet.write_datetime(row, place, cell, form)


def shown_text(text: str) -> str:
    """The text as a cell can hold it: control characters as escapes, and not too long."""
    text = _UNSEEN.sub(lambda found: repr(found[0])[1:-1], text)
    if len(text) <= MOST_CHARS // 2 or len(text.encode("utf-16-le")) // 2 <= MOST_CHARS:
        return text
    units = text.encode("utf-16-le")[: 2 * (MOST_CHARS - 3)]
    return units.decode("utf-16-le", "ignore") + "..."


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kind:
    """A kind of column: its format of numbers, none for texts, and how its values become cells."""

    name: str
    shape: str = ""
    width: int = _NARROWEST
    is_optional: bool = False
    read: Callable[[Any], _Cell]


@dataclass(frozen=True, slots=True)
class _PageColumn:
    name: str
    cells: Cells
    currency: str | None
    is_optional: bool = False


def _cells_of(value: Value) -> Cells:
    match value:
        case Fraction():
            return Cells.AMOUNT
        case int():
            return Cells.COUNT
        case _:
            return Cells.TEXT


def _kind_of(column: FileColumn) -> _Kind:
    name = column.name
    match column.cells:
        case Cells.COUNT:
            return _Kind(name=name, shape=_COUNTS, width=14, read=partial(_number, name, 0))
        case Cells.NUMBER:
            return _Kind(name=name, shape="#,##0.00####", width=14, read=partial(_number, name, 0))
        case Cells.AMOUNT:
            digits = minor_digits(column.currency or "")
            shape = f"{_COUNTS}.{'0' * digits}" if digits else _COUNTS
            return _Kind(name=name, shape=shape, width=14, read=partial(_number, name, digits))
        case Cells.PERCENTAGE:
            return _Kind(name=name, shape="0.00%", read=_part_of_1)
        case Cells.TEXT:
            return _Kind(name=name, read=str)
        case Cells.TEXTS:
            return _Kind(name=name, read=", ".join)
        case Cells.DAY | Cells.WINDOW:
            shape = _WINDOWS.get(name, _WINDOWS["day"])
            return _Kind(name=name, shape=shape, width=13, read=lambda each: Window(each).start)
        case Cells.MOMENT:
            shape = "yyyy-mm-dd hh:mm:ss"
            return _Kind(name=name, shape=shape, width=20, read=_moment)


def _number(name: str, digits: int, value: int | Decimal | Fraction) -> int | Decimal:
    """The number, if its digits up to the minor unit are not too many. Raises InvalidInput."""
    if abs(value) >= 10 ** (MOST_DIGITS - digits):
        raise InvalidInput(
            [f"{name}: {value} has more than the {MOST_DIGITS} digits of Excel: write CSV or JSON"]
        )
    return exact_decimal(value) if isinstance(value, Fraction) else value


def _part_of_1(percentage: Decimal) -> Decimal:
    return percentage.scaleb(-2, _EXACT)


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None
