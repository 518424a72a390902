"""Reads saved retail prices: pages of the API as JSON, or a table of them as CSV.

| text | read as |
|---|---|
| an object with `Items` | one page |
| a list of such objects, or of items; or one after the other | pages, or items |
| anything else | CSV with a header line, one item per line |
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal

from meter.errors import InvalidInput
from meter.reports.pricing.retail.price import RetailPrice, retail_prices

MOST_PROBLEMS = 20
_COLUMNS = ("productName", "meterName", "unitOfMeasure", "retailPrice", "effectiveStartDate")


def saved_prices(name: str, data: bytes, currency: str) -> list[RetailPrice]:
    """The prices in the bytes of a file; `name` is what people know it by.

    `currency` is that of items without their own. Raises InvalidInput with every problem.
    """
    problems: list[str] = []
    prices: list[RetailPrice] = []
    try:
        text = data.decode("utf-8-sig")
        for place, item in _items(text):
            try:
                prices += retail_prices(item, currency)
            except ValueError as exc:
                problems.append(f"{name}, {place}: {exc}")
                if len(problems) == MOST_PROBLEMS:
                    break
    except UnicodeDecodeError as exc:
        raise InvalidInput([f"{name}: is not UTF-8 (byte {exc.start + 1})"]) from None
    except (ValueError, csv.Error, RecursionError) as exc:
        raise InvalidInput([*problems, f"{name}: {exc}"]) from None
    if problems:
        raise InvalidInput(problems)
    if not prices:
        raise InvalidInput([f"{name}: has no prices"])
    return prices


def items_of(document: object) -> Iterator[Mapping[str, object]]:
    """The items of a page, of pages, or of a list of items. Raises ValueError."""
    if isinstance(document, list):
        for each in document:
            yield from items_of(each)
        return
    if not isinstance(document, Mapping):
        raise ValueError("a page or an item must be a JSON object")
    items = next((value for key, value in document.items() if key.lower() == "items"), None)
    if items is None:
        yield document
    elif isinstance(items, list):
        yield from items_of(items)
    else:
        raise ValueError("Items must be a list")


def _items(text: str) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The items with their places in the file."""
    if text.lstrip()[:1] in ("{", "["):
        for number, item in enumerate(items_of(_documents(text)), 1):
            yield f"item {number}", item
    else:
        yield from _rows(text.splitlines(keepends=True))


def _documents(text: str) -> list[object]:
    """One document, or several, as a download of page after page leaves them."""
    decoder = json.JSONDecoder(parse_float=Decimal)
    found: list[object] = []
    rest = text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        found.append(document)
        rest = rest[end:].lstrip()
    return found


def _rows(lines: Iterable[str]) -> Iterator[tuple[str, Mapping[str, object]]]:
    reader = csv.reader(lines, strict=True)
    header = next(reader, [])
    _check_header(header)
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if len(row) != len(header):
            raise ValueError(
                f"line {reader.line_num} has {len(row)} columns, the header {len(header)}"
            )
        yield f"line {reader.line_num}", dict(zip(header, row, strict=True))


def _check_header(header: list[str]) -> None:
    """Refuse a table whose columns cannot be told."""
    names = [name.strip().replace("_", "").lower() for name in header]
    doubled = sorted({name for name in names if names.count(name) > 1})
    if doubled:
        raise ValueError(f"column {doubled[0]} is there twice")
    if "retailpriceusd" in names:
        names.append("retailprice")
    missing = [name for name in _COLUMNS if name.lower() not in names]
    if len(header) == 1 and (other := next((each for each in ";\t|" if each in header[0]), None)):
        raise ValueError(f"separates columns by {other!r}: commas are expected")
    if missing:
        raise ValueError(
            f"is neither JSON nor CSV with the columns {', '.join(_COLUMNS)}: "
            f"{', '.join(missing)} missing"
        )
