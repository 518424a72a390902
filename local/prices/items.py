"""Items of the Retail Prices API, made of a table of meters that has a row for several regions."""

import csv
from collections.abc import Iterable, Iterator
from decimal import Decimal
from uuid import NAMESPACE_URL, uuid5

from local.openai.call import JsonObject

# What a stand-in's US dollar costs. They are nobody's rates.
RATES = {"USD": Decimal(1), "EUR": Decimal("0.9"), "SEK": Decimal("9.5"), "JPY": Decimal(150)}


def items_of_table(lines: Iterable[str]) -> Iterator[JsonObject]:
    """One item per region of each row: product_name, meter_name, regions, unit_of_measure,
    retail_price_usd, effective_start_date. Prices are texts, so that no digit is lost."""
    for row in csv.DictReader(lines):
        for region in row["regions"].split() or [""]:
            yield _item(row, region)


def in_currency(item: JsonObject, currency: str) -> JsonObject:
    """The item with its price in that currency."""
    price = Decimal(str(item["retailPrice"])) * RATES[currency]
    number = float(price)
    return {**item, "currencyCode": currency, "retailPrice": number, "unitPrice": number}


def _item(row: dict[str, str], region: str) -> JsonObject:
    product, meter = row["product_name"], row["meter_name"]
    sku = meter.rpartition(" ")[0]
    return {
        "currencyCode": "USD",
        "tierMinimumUnits": 0.0,
        "retailPrice": row["retail_price_usd"],
        "unitPrice": row["retail_price_usd"],
        "armRegionName": region,
        "location": region,
        "effectiveStartDate": f"{row['effective_start_date']}T00:00:00Z",
        "meterId": str(uuid5(NAMESPACE_URL, f"{product}/{meter}")),
        "meterName": meter,
        "productId": f"DZH318Z0{uuid5(NAMESPACE_URL, product).hex[:4].upper()}",
        "skuId": f"DZH318Z0{uuid5(NAMESPACE_URL, product + sku).hex[:8].upper()}",
        "productName": product,
        "skuName": sku,
        "serviceName": "Foundry Models",
        "serviceId": "DZH314HC0WV9",
        "serviceFamily": "AI + Machine Learning",
        "unitOfMeasure": row["unit_of_measure"],
        "type": "Consumption",
        "isPrimaryMeterRegion": True,
        "armSkuName": sku,
    }
