"""What a meter of Azure's charges for, or why its name does not say."""

from dataclasses import dataclass
from enum import StrEnum

from meter.reports.pricing.kinds import Kind


class Reason(StrEnum):
    """Why a meter is skipped: few, so that skipped meters can be counted by them."""

    NOT_AZURE_OPENAI = "not Azure OpenAI"
    FINE_TUNING = "fine-tuning"
    STORAGE = "storage"
    VIDEO = "video"
    IMAGE_QUALITY = "priced by image quality"
    BOTH_DIRECTIONS = "one price for input and output"
    COMMITMENT = "provisioned throughput of the earlier kind"
    FREE = "free of charge"
    RETIRED = "retired model whose answers do not tell its prices apart"
    UNKNOWN_WORD = "unknown word"
    UNKNOWN_MODEL = "unknown model"
    UNKNOWN_DATE = "unknown model version"
    UNCLEAR_KIND = "unclear kind"
    UNCLEAR_UNIT = "unclear unit"
    NO_DEPLOYMENT_TYPE = "no deployment type"
    NOT_PAY_AS_YOU_GO = "not pay-as-you-go"
    VOLUME = "price from a volume on"
    NOT_A_PRICE = "not a price that a book can hold"
    OTHER_CURRENCY = "in another currency"
    HAS_OWN_ROW = "has a row that somebody added"
    CONFLICT = "two meters have different prices for the same"


@dataclass(frozen=True, slots=True, kw_only=True)
class Meter:
    """What one meter charges for, in the words of a price book.

    `model` is `*` where the meter is of no model (tools, provisioned capacity), `context` is `*` where
    the name has no mark of it. `unit` is how many of the kind the price is for.
    """

    model: str
    kind: Kind
    deployment_type: str
    tier: str
    context: str
    unit: int


@dataclass(frozen=True, slots=True)
class Skipped:
    """A meter that is not priced; `detail` names the word or figure that decided it."""

    reason: Reason
    detail: str = ""

    def __str__(self) -> str:
        return f"{self.reason}: {self.detail}" if self.detail else str(self.reason)
