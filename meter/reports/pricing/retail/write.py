"""Writes a price book: CSV with a header line and one price per line."""

import csv
from collections.abc import Sequence
from typing import TextIO

from meter.errors import InvalidInput
from meter.reports.pricing.book import Price
from meter.reports.pricing.cells import COLUMNS
from meter.reports.pricing.read import MOST_ROWS


def write_book(prices: Sequence[Price], out: TextIO) -> None:
    """Write the prices in their order; amounts with all their digits and without an exponent.

    Raises InvalidInput for more than can be read again.
    """
    if len(prices) > MOST_ROWS:
        raise InvalidInput(
            [
                f"the book would have {len(prices):,} rows, and may have {MOST_ROWS:,}: take fewer "
                "regions; it stays as it is"
            ]
        )
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for price in prices:
        cells = {
            **{column: getattr(price, column) for column in COLUMNS},
            "price": f"{price.price:f}",
            "effective_to": price.effective_to or "",
        }
        writer.writerow(cells.values())
