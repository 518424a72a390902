"""A charge as FOCUS has one per row, whatever its version: what was sold, when, where, and for whom."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from enum import StrEnum
from fractions import Fraction
from typing import NamedTuple

from meter.reports.columns import Value
from meter.reports.focus.units import block_of
from meter.reports.pricing.money import exact_decimal
from meter.reports.query import Grouping
from meter.window import Window


class Category(StrEnum):
    """What a charge is, in FOCUS's words (ChargeCategory)."""

    USAGE = "Usage"
    PURCHASE = "Purchase"
    TAX = "Tax"
    CREDIT = "Credit"
    ADJUSTMENT = "Adjustment"


class Service(NamedTuple):
    """A service of Azure and its place among FOCUS's subcategories of AI."""

    name: str
    subcategory: str


OPENAI = Service("Azure OpenAI", "Generative AI")
OTHER_AI = Service("Azure AI services", "AI Platforms")
"""What an account bills beside, such as speech."""


class Sold(NamedTuple):
    """A quantity at a price: `unit_price` is for `size` of the unit. `sku` names the price."""

    quantity: Decimal
    unit: str
    size: int
    unit_price: Decimal
    sku: str
    meter: str

    @property
    def priced_quantity(self) -> Decimal:
        """The quantity in units of the price."""
        return exact_decimal(Fraction(self.quantity) / self.size)

    @property
    def priced_unit(self) -> str:
        """The unit of the price."""
        return block_of(self.size, self.unit)


class Resource(NamedTuple):
    """An account in Azure by its resource id, and its region; empty where they are not known."""

    id: str = ""
    region: str = ""

    @property
    def subscription(self) -> str:
        """The id of its subscription."""
        return self._part(2)

    @property
    def name(self) -> str:
        """The account's own name."""
        return self._part(-1)

    @property
    def type(self) -> str:
        """Its type, such as `Microsoft.CognitiveServices/accounts`."""
        return "/".join(filter(None, (self._part(6), self._part(7))))

    def _part(self, place: int) -> str:
        parts = self.id.split("/")
        return parts[place] if len(parts) > max(place, 0) else ""


NOWHERE = Resource()


class Method(StrEnum):
    """How an account's charge is divided (AllocatedMethodId); docs/focus.md describes each."""

    USE = "counted-use"
    CAPACITY = "capacity-use"


class Allocation(NamedTuple):
    """A charge's part of what the account was charged: of all such charges, `ratio` sums to 1.

    `quantity` is what the part was measured by, where the charge itself has it. The `payer` is empty
    for what nobody used.
    """

    method: Method
    payer: str
    ratio: Decimal | None
    quantity: Decimal | None
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FocusCharge:
    """One row. `cost` is exact; without `sold` it is no quantity at a price.

    `month` is when it is billed, `start` and `end` what it is for. `names` are the values of what rows
    are grouped by, `own` those of the project's own columns by their names.
    """

    month: Window
    start: datetime
    end: datetime
    cost: Decimal
    currency: str
    description: str
    category: Category = Category.USAGE
    service: Service = OPENAI
    is_correction: bool = False
    sold: Sold | None = None
    resource: Resource = NOWHERE
    names: Mapping[Grouping, str] = field(default_factory=dict)
    own: Mapping[str, Value] = field(default_factory=dict)
    allocation: Allocation | None = None


# Whom a charge is for: the first of these that rows are grouped by.
_PAYERS = (
    Grouping.SUBJECT,
    Grouping.NAME,
    Grouping.TEAM,
    Grouping.COST_CENTRE,
    Grouping.CLIENT_APP,
)


def payer_of(names: Mapping[Grouping, str]) -> str:
    """Whom the charge is for, by the narrowest group; empty where no group says it."""
    return next((names[group] for group in _PAYERS if group in names), "")
