"""Writes a price book: CSV with a header line and one price per line."""

import csv
from collections.abc import Iterable
from typing import TextIO

from meter.reports.pricing.book import Price
from meter.reports.pricing.cells import COLUMNS


def write_book(prices: Iterable[Price], out: TextIO) -> None:
    """Write the prices in their order; amounts with all their digits and without an exponent."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for price in prices:
        cells = {
            **{column: getattr(price, column) for column in COLUMNS},
            "price": f"{price.price:f}",
            "effective_to": price.effective_to or "",
        }
        writer.writerow(cells.values())
