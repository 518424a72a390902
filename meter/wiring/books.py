"""Opens the files of a price book for the commands."""

from collections.abc import Sequence
from pathlib import Path

from meter.reports.pricing.book import Price, PriceBook, book_in
from meter.reports.pricing.read import BookReader


def read_price_book(paths: Sequence[Path], currency: str | None = None) -> PriceBook:
    """The book of all files together, in one currency. Raises InvalidInput with every problem."""
    return book_in(read_prices(paths), currency)


def read_prices(paths: Sequence[Path]) -> list[Price]:
    """The prices of all files, in any currencies. Raises InvalidInput with every problem."""
    reader = BookReader()
    for path in paths:
        try:
            # What is not UTF-8 is decoded to code points that the reader refuses with their line.
            with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
                reader.read(str(path), lines)
        except OSError as exc:
            reader.refuse(str(path), f"cannot be read: {exc.strerror or exc}")
    return reader.prices()
