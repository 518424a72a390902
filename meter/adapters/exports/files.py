"""Opens the files of a cost export; their first bytes say what they are, whatever their names."""

import gzip
import io
from collections.abc import Sequence
from pathlib import Path

from meter.adapters.exports.delimited import read_delimited
from meter.adapters.exports.parquet import read_parquet
from meter.adapters.exports.watch import Watch
from meter.errors import InvalidInput
from meter.reports.invoice.billed import Bill
from meter.reports.invoice.columns import Metric

_PARQUET, _GZIP, _ZIP = b"PAR1", b"\x1f\x8b", b"PK\x03\x04"
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")
_BUFFER_BYTES = 1 << 20


def read_exports(paths: Sequence[Path], metric: Metric, bill: Bill, watch: Watch) -> None:
    """Add all rows of the files to the bill. Raises InvalidInput with one problem per file, OSError.

    `watch` is called now and then.
    """
    known: dict[Path, Path] = {}
    problems = [
        f"{path} is given twice, and its rows would count twice"
        for path in paths
        if known.setdefault(path.resolve(), path) is not path
    ]
    for path in known.values():
        try:
            _read(path, metric, bill, watch)
        except InvalidInput as exc:
            problems += exc.problems
    if problems:
        raise InvalidInput(problems)


def read_lines(path: Path) -> list[str]:
    """The lines of a small text file. Raises InvalidInput, OSError."""
    if path.is_dir():
        raise InvalidInput([f"{path} is a folder, not a file"])
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise InvalidInput([f"{path} is not text in UTF-8"]) from None
    if "\0" in text:
        raise InvalidInput([f"{path} is not text: it has a zero byte"])
    return text.splitlines(keepends=True)


def _read(path: Path, metric: Metric, bill: Bill, watch: Watch) -> None:
    if path.is_dir():
        raise InvalidInput([f"{path} is a folder: name the files in it"])
    bill.begin(str(path))
    with io.BufferedReader(path.open("rb", buffering=0), _BUFFER_BYTES) as file:
        start = file.peek(4)[:4]
        if not start:
            raise InvalidInput([f"{path} is empty"])
        if start == _PARQUET:
            read_parquet(path, metric, bill, watch)
        elif start == _ZIP:
            raise InvalidInput([f"{path} is a zip archive: unpack it first"])
        elif start[:2] in _UTF_16:
            raise InvalidInput([f"{path} is text in UTF-16; Azure's exports are UTF-8"])
        elif start[:2] == _GZIP:
            with gzip.open(file) as unpacked:
                read_delimited(path, unpacked, metric, bill, watch)
        else:
            read_delimited(path, file, metric, bill, watch)
