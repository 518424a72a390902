"""stand-in"""

import csv
from collections.abc import Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path

from meter.reports.pricing.book import Origin, Price, PriceBook
from meter.reports.pricing.kinds import Kind


def read_book(paths: Sequence[Path], currency: str | None) -> PriceBook:
    """The prices of these files in one currency: that of the first, unless another is named."""
    prices = []
    for number, path in enumerate(paths):
        with path.open(encoding="utf-8", newline="") as lines:
            for row in csv.DictReader(lines):
                prices.append(
                    Price(
                        model=row["model"],
                        kind=Kind(row["kind"]),
                        deployment_type=row["deployment_type"],
                        region=row["region"],
                        tier=row["tier"],
                        context=row["context"],
                        unit=int(row["unit"]),
                        price=Decimal(row["price"]),
                        currency=row["currency"],
                        effective_from=date.fromisoformat(row["effective_from"]),
                        effective_to=date.fromisoformat(row["effective_to"])
                        if row["effective_to"]
                        else None,
                        origin=Origin(row["origin"]),
                        file=number,
                    )
                )
    chosen = currency or prices[0].currency
    return PriceBook([p for p in prices if p.currency == chosen], chosen)
