"""What FOCUS 1.2 and 1.4 ask of a Cost and Usage file, as a table: columns, types, nulls and values.

Written from the column pages of https://focus.finops.org/focus-specification (CC BY 4.0), of which it is a
part: what the official validator checks of the columns that have values here, and the columns that are
new in 1.4. `make focus-validate` runs the validator itself, to which a column's values are allowed if one
of them is.
"""

import csv
import io
import json
import re
from collections.abc import Iterator, Sequence
from decimal import Decimal

from meter.reports.focus.version import FocusVersion

# Type and nullability: S text, D decimal, T time, J JSON; `!` never null, `?` may be null, `0` always here.
_BOTH = """
AvailabilityZone S0
BilledCost D!
BillingAccountId S!
BillingAccountName S!
BillingAccountType S!
BillingCurrency S!
BillingPeriodEnd T!
BillingPeriodStart T!
CapacityReservationId S0
CapacityReservationStatus S0
ChargeCategory S!
ChargeClass S?
ChargeDescription S!
ChargeFrequency S!
ChargePeriodEnd T!
ChargePeriodStart T!
CommitmentDiscountCategory S0
CommitmentDiscountId S0
CommitmentDiscountName S0
CommitmentDiscountQuantity D0
CommitmentDiscountStatus S0
CommitmentDiscountType S0
CommitmentDiscountUnit S0
ConsumedQuantity D?
ConsumedUnit S?
ContractedCost D!
ContractedUnitPrice D?
EffectiveCost D!
InvoiceId S0
InvoiceIssuerName S!
ListCost D!
ListUnitPrice D?
PricingCategory S?
PricingCurrency S!
PricingCurrencyContractedUnitPrice D?
PricingCurrencyEffectiveCost D!
PricingCurrencyListUnitPrice D?
PricingQuantity D?
PricingUnit S?
RegionId S?
RegionName S?
ResourceId S?
ResourceName S?
ResourceType S?
ServiceCategory S!
ServiceName S!
ServiceSubcategory S!
SkuId S?
SkuMeter S?
SkuPriceDetails J0
SkuPriceId S?
SubAccountId S?
SubAccountName S?
SubAccountType S?
Tags J?
"""
_OF_VERSION = {
    FocusVersion.V1_2: "ProviderName S!\nPublisherName S!",
    FocusVersion.V1_4: """
AllocatedMethodDetails J?
AllocatedMethodId S?
AllocatedResourceId S?
AllocatedResourceName S?
AllocatedTags J?
CommitmentProgramEligibilityDetails J0
ContractApplied J0
HostProviderName S!
InvoiceDetailId S0
ServiceProviderName S!
""",
}
COLUMNS = {
    version: dict(sorted(line.split() for line in (_BOTH + own).splitlines() if line))
    for version, own in _OF_VERSION.items()
}
"""The columns of each version in order, with type and nullability."""
_VALUES = {
    "ChargeCategory": {"Usage", "Purchase", "Tax", "Credit", "Adjustment"},
    "ChargeClass": {"Correction"},
    "ChargeFrequency": {"One-Time", "Recurring", "Usage-Based"},
    "PricingCategory": {"Standard", "Dynamic", "Committed", "Other"},
    "ServiceCategory": {"AI and Machine Learning"},
    "ServiceSubcategory": {"Generative AI", "AI Platforms"},
}
# Null exactly where the other one is.
_TOGETHER = (
    ("ConsumedUnit", "ConsumedQuantity"),
    ("PricingUnit", "PricingQuantity"),
    ("RegionName", "RegionId"),
    ("ResourceName", "ResourceId"),
    ("ResourceType", "ResourceId"),
    ("SkuMeter", "SkuId"),
    ("SkuPriceId", "SkuId"),
    ("SubAccountName", "SubAccountId"),
    ("SubAccountType", "SubAccountId"),
)
_OF_SALES = (
    "ContractedUnitPrice",
    "ListUnitPrice",
    "PricingCategory",
    "PricingQuantity",
    "SkuId",
    "SkuPriceId",
)
_UNIT = re.compile(r"([1-9][0-9]* )?[A-Z][A-Za-z]*|[A-Z][A-Za-z]*-Hours")
_FORMS = {
    "S": re.compile(r".*\S.*", re.DOTALL),
    "D": re.compile(r"-?[0-9]+(\.[0-9]+)?"),
    "T": re.compile(r"\d{4}-\d\d-\d\dT\d\d:00:00Z"),
    "J": re.compile(r"\{.*\}", re.DOTALL),
}
_CLOSE = Decimal("1e-9")

type _Row = dict[str, str]


def problems_of(text: str, version: FocusVersion) -> list[str]:
    """Where a file is not as the specification asks."""
    head, *lines = csv.reader(io.StringIO(text, newline=""))
    columns = COLUMNS[version]
    if head[: len(columns)] != list(columns):
        return [f"the columns are {head}"]
    return [*_names(head[len(columns) :]), *_texts(text), *_rows(head, lines, version)]


def _names(own: Sequence[str]) -> Iterator[str]:
    for name in own:
        if not re.fullmatch(r"x_([A-Z][a-z]+)+", name) or len(name) > 50:
            yield f"{name} is no name of an own column"


def _texts(text: str) -> Iterator[str]:
    if '""' in re.sub(r'"[^"]+(""[^"]*)*"', "", text):
        yield "an empty text stands for null"


def _rows(
    head: Sequence[str], lines: Sequence[Sequence[str]], version: FocusVersion
) -> Iterator[str]:
    for number, line in enumerate(lines, start=2):
        row = dict(zip(head, line, strict=True))
        for problem in (*_cells(row, version), *_conditions(row), *_products(row), *_split(row)):
            yield f"line {number}: {problem}"


def _cells(row: _Row, version: FocusVersion) -> Iterator[str]:
    for name, asked in COLUMNS[version].items():
        form, nulls, text = asked[0], asked[1], row[name]
        if not text:
            if nulls == "!":
                yield f"{name} is null"
        elif nulls == "0" or not _FORMS[form].fullmatch(text):
            yield f"{name} is {text!r}"
        elif name in _VALUES and text not in _VALUES[name]:
            yield f"{name} is not an allowed value: {text!r}"
        elif name.endswith("Unit") and not _UNIT.fullmatch(text):
            yield f"{name} is no unit: {text!r}"
        elif form == "J":
            json.loads(text, parse_float=Decimal)


def _conditions(row: _Row) -> Iterator[str]:
    category, is_correction = row["ChargeCategory"], bool(row["ChargeClass"])
    for one, other in _TOGETHER:
        if bool(row[one]) != bool(row[other]):
            yield f"one of {one} and {other} is null"
    if category in {"Usage", "Purchase"} and not is_correction:
        yield from (f"{name} of {category} is null" for name in _OF_SALES if not row[name])
    if category != "Usage" and row["ConsumedQuantity"]:
        yield f"{category} was consumed"
    if category == "Usage" and not is_correction and not row["ConsumedQuantity"]:
        yield "nothing was consumed"
    if category == "Tax":
        yield from (f"{name} of a tax is not null" for name in _OF_SALES if row[name])
    if (category, row["ChargeFrequency"]) == ("Purchase", "Usage-Based"):
        yield "a purchase is not usage-based"
    if row["ChargePeriodStart"] >= row["ChargePeriodEnd"]:
        yield "the charge period is empty"


def _products(row: _Row) -> Iterator[str]:
    for name, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
        if not row[name] or row["ChargeClass"]:
            continue
        price, amount = Decimal(row[name]), Decimal(row[cost])
        if price < 0:
            yield f"{name} is {price}"
        difference = price * Decimal(row["PricingQuantity"]) - amount
        if abs(difference) > _CLOSE * max(abs(amount), Decimal(1)):
            yield f"{cost} is not its unit price times the priced quantity"


def _split(row: _Row) -> Iterator[str]:
    if "AllocatedMethodId" not in row:
        return
    parts = ("AllocatedMethodDetails", "AllocatedResourceId", "AllocatedTags")
    if not row["AllocatedMethodId"]:
        yield from (f"{name} is not null" for name in parts if row[name])
    elif bool(row["AllocatedResourceId"]) != bool(row["AllocatedResourceName"]):
        yield "an allocated resource has no name"
    if row["AllocatedMethodDetails"]:
        (element,) = json.loads(row["AllocatedMethodDetails"], parse_float=Decimal)["Elements"]
        if set(element) not in (
            {"AllocatedRatio"},
            {"AllocatedRatio", "UsageUnit", "UsageQuantity"},
        ):
            yield f"the details have {sorted(element)}"
