"""One retail price of Azure's, read from an item of the Retail Prices API or from a row of a table of it.

Names of fields are compared without case and underscores, so that tables which others made of the API
are read, too: `retail_price_usd` gives the currency, `regions` has several, separated by spaces.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation

PAY_AS_YOU_GO = "Consumption"
_MIDNIGHT = "00:00:00"
_AMOUNT = re.compile(r"-?\d{1,15}(?:\.\d{1,30})?(?:E[+-]?\d{1,2})?", re.ASCII | re.IGNORECASE)
_MOST_TEXT_CHARS = 2_000


@dataclass(frozen=True, slots=True, kw_only=True)
class RetailPrice:
    """The price of one meter in one region from a day on. `region` is empty where there is none."""

    product: str
    meter_name: str
    meter_id: str
    region: str
    unit: str
    price: Decimal
    currency: str
    since: date
    until: date | None
    type: str
    least_units: Decimal


def retail_prices(item: Mapping[str, object], currency: str) -> Iterator[RetailPrice]:
    """The prices of an item, one per region; `currency` is that of an item without its own.

    Raises ValueError that names the field.
    """
    fields = {_plain(name): value for name, value in item.items()}
    amount = "retailpriceusd" if "retailprice" not in fields else "retailprice"
    text = _Texts(fields)
    regions = text.optional("armregionname", "region", "regions").lower().split()
    for region in regions or [""]:
        yield RetailPrice(
            product=text.required("productname"),
            meter_name=text.required("metername"),
            meter_id=text.optional("meterid"),
            region="" if region == "global" else region,
            unit=text.required("unitofmeasure"),
            price=_amount(amount, text.required(amount)),
            currency=(
                "USD"
                if amount == "retailpriceusd"
                else text.optional("currencycode").upper() or currency
            ),
            since=_day("effectivestartdate", text.required("effectivestartdate")),
            until=_end(text.optional("effectiveenddate")),
            type=text.optional("type") or PAY_AS_YOU_GO,
            least_units=_amount("tierminimumunits", text.optional("tierminimumunits") or "0"),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which prices to take: of any of the regions and products, or of all where there are none."""

    currency: str
    regions: tuple[str, ...] = ()
    products: tuple[str, ...] = ()

    def includes(self, price: RetailPrice) -> bool:
        """Whether the price is one of these, whatever its currency."""
        return (not self.regions or price.region in self.regions) and (
            not self.products or price.product in self.products
        )


class _Texts:
    """The fields of one item as texts."""

    def __init__(self, fields: Mapping[str, object]) -> None:
        self._fields = fields

    def required(self, name: str) -> str:
        text = self.optional(name)
        if not text:
            raise ValueError(f"has no {name}")
        return text

    def optional(self, *names: str) -> str:
        """The first of the fields that has text."""
        for name in names:
            value = self._fields.get(name)
            if isinstance(value, bool | Mapping | list):
                raise ValueError(f"{name} must be text or a number")
            text = "" if value is None else str(value).strip()
            if len(text) > _MOST_TEXT_CHARS or not text.isprintable():
                raise ValueError(f"{name} must be a short, printable text")
            if text:
                return text
        return ""


def _plain(name: str) -> str:
    return name.strip().lstrip("\ufeff").replace("_", "").lower()


def _amount(name: str, text: str) -> Decimal:
    try:
        if _AMOUNT.fullmatch(text):
            return Decimal(text)
    except InvalidOperation:
        pass
    raise ValueError(f"{name} must be a decimal number, got {text!r:.60}")


def _day(name: str, text: str) -> date:
    """The day of a day or a moment: `2025-08-01` or `2025-08-01T00:00:00Z`."""
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise ValueError(f"{name} must begin with a day, YYYY-MM-DD, got {text!r:.60}") from None


def _end(text: str) -> date | None:
    """The day after the last: a moment later than midnight belongs to the last."""
    if not text:
        return None
    day = _day("effectiveenddate", text)
    is_midnight = text[11:19] in ("", _MIDNIGHT)
    return day if is_midnight else day + timedelta(days=1)
