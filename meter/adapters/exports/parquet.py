"""Reads cost exports in Parquet, one batch of rows at a time, and only the columns that matter."""

from collections.abc import Iterator, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from meter.adapters.exports.watch import Watch
from meter.errors import InvalidInput
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.columns import Cells, Layout, Metric, layout_of

_BATCH_ROWS = 65_536
_RESOURCE = Cells._fields.index("resource")


def read_parquet(path: Path, metric: Metric, bill: Bill, watch: Watch) -> None:
    """Add the rows of a file to the bill. Raises InvalidInput, OSError."""
    try:
        parquet, errors = import_module("pyarrow.parquet"), import_module("pyarrow.lib")
    except ImportError:
        raise InvalidInput(
            [f"{path} is Parquet: pip install 'aoai-meter[parquet]', or export CSV"]
        ) from None
    try:
        with parquet.ParquetFile(path) as file:
            _read(path, file, metric, bill, watch)
    # What it finds in a damaged file it raises as any of these.
    except (errors.ArrowException, OSError, ValueError) as exc:
        reason = str(exc).splitlines()[0][:200] if str(exc) else type(exc).__name__
        raise InvalidInput([f"{path} is damaged or no Parquet: {reason}"]) from None


def _read(path: Path, file: Any, metric: Metric, bill: Bill, watch: Watch) -> None:
    header: list[str] = file.schema_arrow.names
    try:
        layout = layout_of(header, metric)
    except InvalidInput as exc:
        raise InvalidInput([f"{path}: {exc}"]) from None
    row = 0
    columns = sorted({header[each] for each in layout.places if each is not None})
    for batch in file.iter_batches(batch_size=_BATCH_ROWS, columns=columns, use_threads=False):
        for number, cells in _wanted(batch, header, layout, bill):
            bill.add(cells, partial(_place, path, row + number + 1))
        row += batch.num_rows
        watch(path, row)


def _place(path: Path, row: int) -> str:
    return f"{path}, row {row}"


def _wanted(
    batch: Any, header: Sequence[str], layout: Layout, bill: Bill
) -> Iterator[tuple[int, tuple[str, ...]]]:
    """The rows of the accounts, as text, by their number in the batch."""
    names = [None if each is None else header[each] for each in layout.places]
    resources = batch.column(names[_RESOURCE]).to_pylist()
    is_ours = {each: bill.accounts.of(text_of(each)) is not None for each in set(resources)}
    numbers = [number for number, each in enumerate(resources) if is_ours[each]]
    if not numbers:
        return
    found = batch.take(import_module("pyarrow").array(numbers))
    columns = [
        [""] * len(numbers) if name is None else list(map(text_of, found.column(name).to_pylist()))
        for name in names
    ]
    yield from zip(numbers, zip(*columns, strict=True), strict=True)


def text_of(value: object) -> str:
    """A cell as CSV would have it.

    A number in binary floating point was a decimal number once: the shortest that has this value.
    """
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case Decimal():
            return f"{value:f}"
        case float():
            return repr(value)
        case datetime():
            return value.isoformat()
        case date():
            return value.isoformat()
        case _:
            return str(value)
