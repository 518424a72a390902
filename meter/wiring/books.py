"""Opens the files of prices and of capacity: those that a command is given, and those of the settings."""

import io
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

from meter.config.prices import CURRENCY, FILES, PriceSettings
from meter.config.stored.address import EXAMPLE, Documents, Unread, is_address
from meter.errors import InvalidInput
from meter.reports.capacity.entries import Capacity
from meter.reports.capacity.read import read_capacity
from meter.reports.pricing.book import Price, PriceBook, book_in
from meter.reports.pricing.read import BookReader


def read_price_book(paths: Sequence[Path], currency: str | None = None) -> PriceBook:
    """The book of all files together, in one currency. Raises InvalidInput with every problem."""
    return book_in(read_prices(paths), currency)


def configured_book(
    settings: PriceSettings, documents: Documents = MappingProxyType({})
) -> PriceBook | None:
    """The book that METER_PRICES names, None where it names none. Raises InvalidInput.

    `documents` are those that were read already, by path or address.

    Reading a large one takes a second or two, and the files may be anywhere.
    """
    if settings.problems:
        raise InvalidInput(settings.problems)
    if not settings.files:
        return None
    try:
        prices = _configured_prices(settings.files, documents)
        return book_in(prices, settings.currency, choice=CURRENCY)
    except InvalidInput as exc:
        raise InvalidInput([f"{FILES}: {problem}" for problem in exc.problems]) from None


def book_problems(settings: PriceSettings, documents: Documents) -> Sequence[str]:
    """What is wrong with that book."""
    try:
        configured_book(settings, documents)
    except InvalidInput as exc:
        return exc.problems
    return ()


def _configured_prices(names: Sequence[str], documents: Documents) -> list[Price]:
    reader = BookReader()
    for name in names:
        match documents.get(name):
            case str() as text:
                reader.read(name, io.StringIO(text, newline=""))
            case Unread(reason):
                reader.refuse(name, f"cannot be read: {reason}")
            case None if is_address(name):
                shown = name.partition("?")[0]
                reader.refuse(
                    shown, f"must be a blob's address without a signature, such as {EXAMPLE}"
                )
            case None:
                _read_file(reader, Path(name))
    return reader.prices()


def read_prices(paths: Sequence[Path]) -> list[Price]:
    """The prices of all files, in any currencies. Raises InvalidInput with every problem."""
    reader = BookReader()
    for path in paths:
        _read_file(reader, path)
    return reader.prices()


def _read_file(reader: BookReader, path: Path) -> None:
    try:
        # What is not UTF-8 is decoded to code points that the reader refuses with their line.
        with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
            reader.read(str(path), lines)
    except OSError as exc:
        reader.refuse(str(path), f"cannot be read: {exc.strerror or exc}")


def read_capacity_file(path: Path) -> Capacity:
    """The entries of a file. Raises InvalidInput with every problem."""
    try:
        data = path.read_bytes()
    except OSError as exc:
        raise InvalidInput([f"{path}: cannot be read: {exc.strerror or exc}"]) from None
    return read_capacity(data, str(path))
