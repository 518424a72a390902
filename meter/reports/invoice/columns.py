"""The columns of Azure's cost exports: usage details of EA and MCA accounts, and FOCUS.

Names differ in case between account types, and in spelling between versions. Sources: "Cost and usage
details file schema" and "FOCUS cost and usage details file schema", learn.microsoft.com.
"""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from meter.errors import InvalidInput


class Metric(StrEnum):
    """Which cost of a FOCUS export is split; usage details have one."""

    BILLED = "billed"
    EFFECTIVE = "effective"


class Cells(NamedTuple):
    """The cells of one row that matter, as text; empty where the export has no such column.

    Those from `currency` on are few different ones, whatever the number of rows.
    """

    cost: str
    quantity: str
    priced_quantity: str
    currency: str
    day: str
    resource: str
    meter_id: str
    meter_name: str
    meter_group: str
    product: str
    unit: str
    priced_unit: str
    priced_unit_text: str
    block: str
    charge: str


type _Spellings = Mapping[str, tuple[str, ...]]

_USAGE_DETAILS: _Spellings = {
    "cost": ("CostInBillingCurrency", "Cost", "PreTaxCost"),
    "quantity": ("Quantity", "UsageQuantity"),
    "currency": ("BillingCurrency", "BillingCurrencyCode", "Currency"),
    "day": ("Date", "UsageDate", "UsageDateTime"),
    "resource": ("ResourceId", "InstanceId"),
    "meter_id": ("MeterId",),
    "meter_name": ("MeterName",),
    "meter_group": ("MeterSubCategory",),
    "product": ("ProductName", "Product"),
    "unit": ("UnitOfMeasure",),
    "charge": ("ChargeType",),
}
_FOCUS: _Spellings = {
    "quantity": ("ConsumedQuantity", "UsageQuantity"),
    "priced_quantity": ("PricingQuantity",),
    "currency": ("BillingCurrency",),
    "day": ("ChargePeriodStart",),
    "resource": ("ResourceId",),
    "meter_id": ("x_SkuMeterId", "SkuMeterId"),
    "meter_name": ("x_SkuMeterName", "SkuMeter"),
    "meter_group": ("x_SkuMeterSubcategory",),
    "product": ("ChargeDescription",),
    "unit": ("ConsumedUnit", "UsageUnit"),
    "priced_unit": ("PricingUnit",),
    "priced_unit_text": ("x_PricingUnitDescription",),
    "block": ("x_PricingBlockSize",),
    "charge": ("ChargeCategory",),
}
_FOCUS_COSTS = {Metric.BILLED: ("BilledCost",), Metric.EFFECTIVE: ("EffectiveCost",)}
_MANDATORY = ("cost", "quantity", "unit", "currency", "day", "resource", "meter_name")
_OPTIONAL_IN_FOCUS = frozenset({"quantity", "unit"})  # where there are priced ones


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where an export has the `Cells`: the place of each in a row, None where there is none."""

    is_focus: bool
    width: int
    places: tuple[int | None, ...]


def layout_of(header: Sequence[str], metric: Metric) -> Layout:
    """Find the columns by their names, in any case. Raises InvalidInput without the file's name."""
    names = [name.strip().lower() for name in header]
    is_focus = "chargeperiodstart" in names
    if not is_focus and metric is Metric.EFFECTIVE:
        raise InvalidInput(
            [
                "--cost effective is for FOCUS exports; usage details have one cost: export them as "
                "amortized cost instead"
            ]
        )
    spellings = {**_FOCUS, "cost": _FOCUS_COSTS[metric]} if is_focus else _USAGE_DETAILS
    places = [_place(names, spellings.get(cell, ())) for cell in Cells._fields]
    if missing := list(_missing(spellings, dict(zip(Cells._fields, places, strict=True)))):
        raise InvalidInput([f"{_reading(header)}; it has no {', no '.join(missing)}"])
    return Layout(is_focus=is_focus, width=len(names), places=tuple(places))


def _place(names: Sequence[str], spellings: Sequence[str]) -> int | None:
    for spelling in spellings:
        count = Counter(names)[spelling.lower()]
        if count > 1:
            raise InvalidInput([f"it has the column {spelling} {count} times"])
        if count:
            return names.index(spelling.lower())
    return None


def _missing(spellings: _Spellings, found: Mapping[str, int | None]) -> Iterator[str]:
    for cell in _MANDATORY:
        is_priced = cell in _OPTIONAL_IN_FOCUS and found["priced_quantity"] is not None
        if found[cell] is None and not is_priced:
            yield f"column {' or '.join(spellings[cell])}"


def _reading(header: Sequence[str]) -> str:
    """What is wrong with the header as a whole, if anything is."""
    line = ",".join(header)
    for separator, name in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if line.count(separator) > len(header):
            return f"its columns are separated by {name}, Azure's exports have commas"
    return "its first line is not the header of a cost export of Azure"
