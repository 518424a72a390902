"""Writes tables as Parquet: real types, null for what is not known, one row group at a time.

Counts are int64, moments and a window's start `timestamp[us, UTC]`, texts dictionaries. Amounts are
decimal128 and no text, since people add them up: 20 decimals, to which amounts without a last digit are
written everywhere, and 18 digits before them. What an amount loses of more decimals, or gets too much,
goes to the next one of its column, so that the column adds up to the exact total.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Context, Decimal
from fractions import Fraction
from importlib import import_module
from typing import Any, BinaryIO, Self

from meter.errors import InvalidInput
from meter.reports.columns import Cells, FileColumn, Value
from meter.reports.rows import Total
from meter.reports.usage import Report
from meter.reports.write.json import head_document, totals_document
from meter.reports.write.sink import Sink
from meter.window import Window

ROW_GROUP = 32_768
BATCH = 4_096
LAYOUT = "1"
"""The version of the columns' types and of the metadata; columns may be added to it."""

_DIGITS, _DECIMALS = 38, 20
_PERCENT_DECIMALS = 4
_EXACT = Context(prec=1_000)

type _Read = Callable[[Any], object]


async def write_parquet(report: Report, out: BinaryIO, total: Total) -> None:
    """Write the rows as they are read. Raises InvalidInput if pyarrow is missing."""
    with ParquetTable(out, report.columns, head_document(report)) as table:
        async for row in report.rows:
            total.add(row)
            table.add([column.get(row) for column in report.columns])
        table.finish(totals_document(report, total.row()))


class ParquetTable:
    """A table that is written while its rows come; nothing is written before the first row.

    A table that was not finished has no end, and cannot be read: it is never taken for a whole one.
    `metadata` stands beside the schema, each value as JSON unless it is a text, under names that begin
    with `meter.`. Raises InvalidInput if pyarrow is missing, or if a number has too many digits.
    """

    def __init__(
        self, out: BinaryIO, columns: Sequence[FileColumn], metadata: dict[str, object]
    ) -> None:
        try:
            self._arrow, self._parquet = import_module("pyarrow"), import_module("pyarrow.parquet")
        except ImportError:
            raise InvalidInput(
                ["Parquet needs pyarrow: pip install 'aoai-meter[parquet]', or write CSV or JSON"]
            ) from None
        self._sink = Sink(out)
        self._parts = [
            (place, part)
            for place, column in enumerate(columns)
            for part in _parts(self._arrow, column)
        ]
        self._schema = self._arrow.schema(
            [(part.name, part.type) for _, part in self._parts],
            metadata=_metadata({"version": LAYOUT, **metadata}),
        )
        self._writer: Any = None
        self._rows: list[Sequence[Value]] = []
        self._batches: list[Any] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._sink.cut()

    def add(self, values: Sequence[Value]) -> None:
        """Add a row."""
        self._rows.append(values)
        if len(self._rows) == BATCH:
            self._pack()
            if len(self._batches) * BATCH >= ROW_GROUP:
                self._write()

    def finish(self, metadata: dict[str, object]) -> None:
        """Write what is left, and metadata that is known only now."""
        self._pack()
        self._write()
        self._writer.add_key_value_metadata(_metadata(metadata))
        self._writer.close()

    def _pack(self) -> None:
        """Make columns of the rows, which take a fraction of their memory."""
        columns = list(zip(*self._rows, strict=True)) or [()] * len(self._schema)
        arrays = [part.array(self._arrow, columns[place]) for place, part in self._parts]
        self._batches.append(self._arrow.record_batch(arrays, schema=self._schema))
        self._rows = []

    def _write(self) -> None:
        if self._writer is None:
            self._writer = self._parquet.ParquetWriter(self._sink, self._schema)
        table = self._arrow.Table.from_batches(self._batches, schema=self._schema)
        if table.num_rows:
            self._writer.write_table(table.unify_dictionaries(), row_group_size=ROW_GROUP)
        self._batches = []


def _metadata(document: dict[str, object]) -> dict[str, str]:
    return {
        f"meter.{name}": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in document.items()
        if value is not None
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A column of the file: how its values are read from those of a report's column."""

    name: str
    type: Any
    read: _Read | None = None

    def array(self, arrow: Any, values: Sequence[Value]) -> Any:
        read = self.read
        cells = values if read is None else [None if v is None else read(v) for v in values]
        try:
            return arrow.array(cells, type=self.type)
        except UnicodeEncodeError:  # half a character: no text of a file can hold it
            return arrow.array(list(map(_whole_text, cells)), type=self.type)
        except (OverflowError, arrow.ArrowInvalid):
            largest = max(
                (abs(Fraction(n)) for n in cells if isinstance(n, int | Decimal)),
                default=Fraction(0),
            )
            raise InvalidInput(
                [f"{self.name}: {largest} has too many digits for Parquet: write CSV or JSON"]
            ) from None


def _parts(arrow: Any, column: FileColumn) -> list[_Part]:
    """The columns that a report's column becomes: a window has its start beside its name."""
    name = column.name
    moment, text = arrow.timestamp("us", tz="UTC"), arrow.dictionary(arrow.int32(), arrow.string())
    match column.cells:
        case Cells.COUNT:
            return [_Part(name=name, type=arrow.int64())]
        case Cells.NUMBER | Cells.AMOUNT:
            return [_Part(name=name, type=arrow.decimal128(_DIGITS, _DECIMALS), read=_Carry().next)]
        case Cells.PERCENTAGE:
            return [_Part(name=name, type=arrow.decimal128(_DIGITS, _PERCENT_DECIMALS))]
        case Cells.TEXT:
            return [_Part(name=name, type=text)]
        case Cells.TEXTS:
            return [_Part(name=name, type=arrow.list_(arrow.string()))]
        case Cells.DAY:
            return [_Part(name=name, type=arrow.date32(), read=date.fromisoformat)]
        case Cells.MOMENT:
            return [_Part(name=name, type=moment, read=_moment)]
        case Cells.WINDOW:
            return [
                _Part(name=name, type=text),
                _Part(name="window_start", type=moment, read=lambda each: Window(each).start),
            ]


def _moment(text: str) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _whole_text(cell: object) -> object:
    match cell:
        case str():
            return cell.encode(errors="backslashreplace").decode()
        case _:
            return cell


@dataclass(slots=True)
class _Carry:
    """Amounts with a fixed number of decimals: what rounding takes from one, the next one gets."""

    _left: Fraction = field(default_factory=Fraction)

    def next(self, amount: Fraction | Decimal | int) -> Decimal:
        """The next amount."""
        exact = Fraction(amount) * 10**_DECIMALS
        if exact.denominator == 1:
            whole = exact.numerator
        else:
            exact += self._left
            whole = round(exact)
            self._left = exact - whole
        return Decimal(whole).scaleb(-_DECIMALS, _EXACT)
