"""`python -m meter prices import`: fills a price book with Azure's retail prices."""

import argparse
import sys
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from meter.commands.output import open_output
from meter.commands.progress import ProgressLine
from meter.errors import InvalidInput
from meter.reports.pricing.retail.price import RetailPrice, Wanted
from meter.reports.pricing.retail.saved import saved_prices
from meter.reports.pricing.retail.update import Update, updated_book
from meter.reports.pricing.retail.write import write_book
from meter.reports.write.csv import csv_line
from meter.terminal import printable
from meter.wiring.books import read_prices
from meter.wiring.commands import open_retail_prices

if TYPE_CHECKING:
    from meter.adapters.retail.api import Fetched

MOST_SAVED_BYTES = 67_108_864
_GZIP, _GZIP_WINDOW = b"\x1f\x8b", 31


def run(options: argparse.Namespace) -> int:
    """Fill the book."""
    wanted = Wanted(
        currency=options.currency,
        regions=tuple(dict.fromkeys(options.region)),
        products=tuple(dict.fromkeys(options.product)),
    )
    out: Path = options.out
    _check_paths(out, options.skipped)
    book = read_prices([out]) if out.exists() else []
    progress = ProgressLine(options.clock, sys.stderr, _progress_text)
    try:
        fetched = _fetched(wanted, options.from_file, progress)
    except KeyboardInterrupt:
        progress.clear()
        print("interrupted: nothing was changed", file=sys.stderr)
        return 130
    finally:
        progress.clear()
    update = updated_book(book, fetched, currency=wanted.currency)
    if options.skipped is not None:
        _write_skipped(update, options.skipped)
    if not update.parsed:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in _reasons(update))
        raise InvalidInput(
            [f"no price among {_count(update.rows, 'row')} ({reasons}): {out} stays as it is"]
        )
    with open_output(out) as stream:
        write_book(update.prices, stream)
    for line in _conclusion(out, update):
        print(line)
    return 0


def _check_paths(out: Path, skipped: Path | None) -> None:
    """Refuse what could not be written after a long download. Raises InvalidInput."""
    if skipped is not None and skipped.resolve() == out.resolve():
        raise InvalidInput([f"{out}: is given for the book and for the skipped rows"])
    for path in filter(None, (out, skipped)):
        if path.is_dir() or not path.absolute().parent.is_dir():
            reason = "is a folder" if path.is_dir() else "is in a folder that does not exist"
            raise InvalidInput([f"{path}: {reason}"])


def _fetched(
    wanted: Wanted, path: Path | None, progress: "ProgressLine[Fetched]"
) -> Sequence[RetailPrice]:
    """The prices from the API, or from the file. Raises PricesUnavailable, InvalidInput."""
    if path is None:
        with open_retail_prices() as api:
            return api.prices(wanted, progress.show)
    prices = saved_prices(str(path), _bytes_of(path), wanted.currency)
    found = [price for price in prices if wanted.includes(price)]
    if not found:
        raise InvalidInput([f"{path}: has no price of these regions and products"])
    return found


def _bytes_of(path: Path) -> bytes:
    """What the file holds, unpacked. Raises InvalidInput."""
    try:
        with path.open("rb") as file:
            data = file.read(MOST_SAVED_BYTES + 1)
    except OSError as exc:
        raise InvalidInput([f"{path}: cannot be read: {exc.strerror or exc}"]) from exc
    if data.startswith(_GZIP):
        unpacker = zlib.decompressobj(_GZIP_WINDOW)
        try:
            data = unpacker.decompress(data, MOST_SAVED_BYTES + 1)
        except zlib.error as exc:
            raise InvalidInput([f"{path}: is damaged: {exc}"]) from exc
        if not unpacker.eof and len(data) <= MOST_SAVED_BYTES:
            raise InvalidInput([f"{path}: is cut off: the end of the gzip data is missing"])
    if len(data) > MOST_SAVED_BYTES:
        raise InvalidInput([f"{path}: has more than {MOST_SAVED_BYTES >> 20} MiB"])
    return data


def _progress_text(fetched: "Fetched", seconds: float) -> str:
    return f"{_count(fetched.pages, 'page')}, {_count(fetched.prices, 'price')}, {seconds:.0f} s"


def _write_skipped(update: Update, path: Path) -> None:
    rows = sorted(
        (row.product, row.meter_name, row.region, row.unit, str(why.reason), why.detail)
        for row, why in update.skipped
    )
    header = ("product", "meter_name", "region", "unit", "reason", "detail")
    with open_output(path) as stream:
        stream.writelines(csv_line(row, is_terminal=False) for row in (header, *rows))


def _conclusion(path: Path, update: Update) -> Iterator[str]:
    yield (
        f"{printable(str(path))}: {_count(len(update.prices), 'price')}, "
        f"{update.stayed:,} of them left as they were"
    )
    yield (
        f"{_count(update.rows, 'row')} read: {update.parsed:,} parsed, {len(update.skipped):,} skipped"
    )
    for reason, count in _reasons(update):
        yield f"{count:>9,}  {reason}"


def _reasons(update: Update) -> list[tuple[str, int]]:
    """The reasons for skipping, most frequent first."""
    return sorted(update.skipped_by_reason.items(), key=lambda each: (-each[1], each[0]))


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
