"""The columns of FOCUS 1.2 and 1.4 (Cost and Usage), and the project's own ones behind them.

Sources: the column lists of https://focus.finops.org/focus-specification. All columns of a version are
there, also those that nothing here has a value for. Empty texts are null.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

from meter.reports.columns import Value
from meter.reports.focus.charge import Category, FocusCharge
from meter.reports.focus.version import FocusVersion
from meter.reports.owners import NO_OWNER
from meter.reports.query import Grouping

MICROSOFT = "Microsoft"


type Get = Callable[[FocusCharge], Value]


class FocusColumn(NamedTuple):
    """A column's name and values."""

    name: str
    get: Get


def focus_columns(version: FocusVersion, billing_account: str) -> tuple[FocusColumn, ...]:
    """The columns of a version by name, then those of our own."""
    found = {**dict.fromkeys(_WITHOUT_VALUES, _null), **_COMMON}
    match version:
        case FocusVersion.V1_2:
            found |= {"ProviderName": _text(MICROSOFT), "PublisherName": _text(MICROSOFT)}
            found["Tags"] = _tags
        case FocusVersion.V1_4:
            found |= {**_SPLIT, **dict.fromkeys(_WITHOUT_VALUES_SINCE_1_3, _null)}
    found |= dict.fromkeys(("BillingAccountId", "BillingAccountName"), _text(billing_account))
    return (
        *(FocusColumn(name, found[name]) for name in sorted(found)),
        *(FocusColumn(name, get) for name, get in _OWN.items()),
    )


def values_of(charge: FocusCharge, columns: Sequence[FocusColumn]) -> list[Value]:
    """The values of a row."""
    return [value if (value := column.get(charge)) != "" else None for column in columns]


def _null(_charge: FocusCharge) -> Value:
    return None


def _text(text: str) -> Get:
    return lambda _: text


@lru_cache(maxsize=1_024)  # there are as many as windows
def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _cost(charge: FocusCharge) -> Value:
    return charge.cost


def _effective_cost(charge: FocusCharge) -> Value:
    """Purchases are for later usage, which has their cost."""
    return Decimal(0) if charge.category is Category.PURCHASE else charge.cost


def _sold(name: str) -> Get:
    return lambda charge: None if charge.sold is None else getattr(charge.sold, name)


def _used(name: str) -> Get:
    """What was consumed, which purchases are not."""
    get = _sold(name)
    return lambda charge: get(charge) if charge.category is Category.USAGE else None


def _resource(name: str) -> Get:
    return lambda charge: getattr(charge.resource, name)


def _tags(charge: FocusCharge) -> Value:
    found = {
        group: charge.names[group]
        for group in (Grouping.COST_CENTRE, Grouping.TEAM)
        if group in charge.names
    }
    return json.dumps(found, ensure_ascii=False) if found else None


def _frequency(charge: FocusCharge) -> Value:
    return "Usage-Based" if charge.category is Category.USAGE else "One-Time"


def _pricing_category(charge: FocusCharge) -> Value:
    return None if charge.sold is None else "Standard"


def _method(charge: FocusCharge) -> Value:
    return None if charge.allocation is None else charge.allocation.method


def _details(charge: FocusCharge) -> Value:
    """Numbers are written as they are: none is ever a binary floating point number."""
    part = charge.allocation
    if part is None or part.ratio is None:
        return None
    measured = ""
    if part.quantity is not None:
        measured = f', "UsageUnit": {json.dumps(part.unit)}, "UsageQuantity": {part.quantity:f}'
    return f'{{"Elements": [{{"AllocatedRatio": {part.ratio:f}{measured}}}]}}'


def _allocated_id(charge: FocusCharge) -> Value:
    return None if charge.allocation is None else charge.allocation.payer


def _allocated_name(charge: FocusCharge) -> Value:
    payer, name = _allocated_id(charge), charge.names.get(Grouping.NAME, NO_OWNER.name)
    return payer if name == NO_OWNER.name else payer and name


def _allocated_tags(charge: FocusCharge) -> Value:
    return _tags(charge) if _allocated_id(charge) else None


def _ratio(charge: FocusCharge) -> Value:
    return None if charge.allocation is None else charge.allocation.ratio


def _name(group: Grouping) -> Get:
    return lambda charge: charge.names.get(group)


def _own(name: str) -> Get:
    return lambda charge: charge.own.get(name)


_WITHOUT_VALUES = (
    "AvailabilityZone",
    "CapacityReservationId",
    "CapacityReservationStatus",
    "CommitmentDiscountCategory",
    "CommitmentDiscountId",
    "CommitmentDiscountName",
    "CommitmentDiscountQuantity",
    "CommitmentDiscountStatus",
    "CommitmentDiscountType",
    "CommitmentDiscountUnit",
    "InvoiceId",
    "SkuPriceDetails",
    "Tags",
)
_WITHOUT_VALUES_SINCE_1_3 = (
    "CommitmentProgramEligibilityDetails",
    "ContractApplied",
    "InvoiceDetailId",
)
_COMMON: Mapping[str, Get] = {
    **dict.fromkeys(("BilledCost", "ContractedCost", "ListCost"), _cost),
    **dict.fromkeys(("EffectiveCost", "PricingCurrencyEffectiveCost"), _effective_cost),
    "BillingAccountType": _text("Billing Account"),
    "BillingCurrency": lambda charge: charge.currency,
    "BillingPeriodEnd": lambda charge: _time(charge.month.end),
    "BillingPeriodStart": lambda charge: _time(charge.month.start),
    "ChargeCategory": lambda charge: charge.category,
    "ChargeClass": lambda charge: "Correction" if charge.is_correction else None,
    "ChargeDescription": lambda charge: charge.description,
    "ChargeFrequency": _frequency,
    "ChargePeriodEnd": lambda charge: _time(charge.end),
    "ChargePeriodStart": lambda charge: _time(charge.start),
    "ConsumedQuantity": _used("quantity"),
    "ConsumedUnit": _used("unit"),
    "ContractedUnitPrice": _sold("unit_price"),
    "InvoiceIssuerName": _text(MICROSOFT),
    "ListUnitPrice": _sold("unit_price"),
    "PricingCategory": _pricing_category,
    "PricingCurrency": lambda charge: charge.currency,
    "PricingCurrencyContractedUnitPrice": _sold("unit_price"),
    "PricingCurrencyListUnitPrice": _sold("unit_price"),
    "PricingQuantity": _sold("priced_quantity"),
    "PricingUnit": _sold("priced_unit"),
    "RegionId": _resource("region"),
    "RegionName": _resource("region"),
    "ResourceId": _resource("id"),
    "ResourceName": _resource("name"),
    "ResourceType": _resource("type"),
    "ServiceCategory": _text("AI and Machine Learning"),
    "ServiceName": lambda charge: charge.service.name,
    "ServiceSubcategory": lambda charge: charge.service.subcategory,
    "SkuId": _sold("sku"),
    "SkuMeter": _sold("meter"),
    "SkuPriceId": _sold("sku"),
    "SubAccountId": _resource("subscription"),
    "SubAccountName": _resource("subscription"),
    "SubAccountType": lambda charge: "Subscription" if charge.resource.subscription else None,
}
_SPLIT: Mapping[str, Get] = {
    "AllocatedMethodDetails": _details,
    "AllocatedMethodId": _method,
    "AllocatedResourceId": _allocated_id,
    "AllocatedResourceName": _allocated_name,
    "AllocatedTags": _allocated_tags,
    "HostProviderName": _text(MICROSOFT),
    "ServiceProviderName": _text(MICROSOFT),
}
_OWN: Mapping[str, Get] = {
    "x_SubjectId": _name(Grouping.SUBJECT),
    "x_SubjectName": _name(Grouping.NAME),
    "x_Team": _name(Grouping.TEAM),
    "x_CostCentre": _name(Grouping.COST_CENTRE),
    "x_ClientAppId": _name(Grouping.CLIENT_APP),
    "x_DeploymentName": _name(Grouping.DEPLOYMENT),
    "x_ModelName": _name(Grouping.MODEL),
    "x_BackendName": _name(Grouping.BACKEND),
    "x_Tier": _name(Grouping.TIER),
    "x_Context": _name(Grouping.CONTEXT),
    "x_AllocatedRatio": _ratio,
    **{
        name: _own(name)
        for name in (
            "x_Kind",
            "x_PriceOrigin",
            "x_AdjustedQuantity",
            "x_EstimatedCallRatio",
            "x_MissingCallRatio",
            "x_UnpricedKinds",
            "x_CapacityName",
            "x_LineKind",
            "x_ChargeType",
            "x_CountedQuantity",
        )
    },
}
