"""Azure's real meters for models, as of 2026-08-11 (tests/data/azure-retail-meters)."""

import csv
import gzip
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

_FILE = Path(__file__).parents[1] / "data" / "azure-retail-meters" / "meters.csv.gz"


@dataclass(frozen=True, slots=True)
class RetailRow:
    """One price of a meter, in some regions."""

    product: str
    name: str
    regions: tuple[str, ...]
    unit: str
    price: Decimal
    since: str


@cache
def retail_rows() -> tuple[RetailRow, ...]:
    """All 3,289 rows, in the order of the file."""
    with gzip.open(_FILE, "rt", encoding="utf-8", newline="") as file:
        return tuple(
            RetailRow(product, name, tuple(regions.split()), unit, Decimal(price), since)
            for product, name, regions, unit, price, since in list(csv.reader(file))[1:]
        )
