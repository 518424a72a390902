"""Azure's real meters for models, as of 2026-08-11 (tests/data/azure-retail-meters)."""

import csv
import gzip
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from pathlib import Path

FILE = Path(__file__).parents[1] / "data" / "azure-retail-meters" / "meters.csv.gz"


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
    with gzip.open(FILE, "rt", encoding="utf-8", newline="") as file:
        return tuple(
            RetailRow(product, name, tuple(regions.split()), unit, Decimal(price), since)
            for product, name, regions, unit, price, since in list(csv.reader(file))[1:]
        )


def api_item(**changes: object) -> dict[str, object]:
    """An item of the Retail Prices API."""
    return {
        "currencyCode": "EUR",
        "tierMinimumUnits": 0.0,
        "retailPrice": 2.5,
        "unitPrice": 2.5,
        "armRegionName": "swedencentral",
        "location": "SE Central",
        "effectiveStartDate": "2026-03-01T00:00:00Z",
        "meterId": "a1",
        "meterName": "5.4 inp Gl 1M Tokens",
        "productName": "Azure OpenAI GPT5",
        "skuName": "5.4 inp Gl",
        "serviceName": "Foundry Models",
        "unitOfMeasure": "1M",
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        **changes,
    }
