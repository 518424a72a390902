"""What a billed meter charges for, as far as counted usage can be compared with it."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from meter.errors import InvalidInput
from meter.reports.invoice.amounts import parse_amount, plain
from meter.reports.pricing.book import ANY, PROVISIONED, Use, undated
from meter.reports.pricing.kinds import Kind


class Meaning(NamedTuple):
    """What a meter charges for; `*` where its name does not say."""

    kind: Kind
    model: str
    deployment_type: str = ANY
    tier: str = ANY
    context: str = ANY

    def closeness(self, use: Use) -> tuple[int, int] | None:
        """How closely the meter is that of such usage, whatever its kind; None: it is not.

        A meter without a date is that of all versions. One with a date may have served usage whose
        version is not known, if no other has.
        """
        if self.tier == ANY and use.tier == PROVISIONED:
            return None
        pairs = (
            (self.deployment_type, use.deployment_type or ANY),
            (self.tier, use.tier),
            (self.context, use.context),
        )
        if any(ANY not in pair and pair[0] != pair[1] for pair in pairs):
            return None
        version = self._version(use.model.lower())
        if version is None:
            return None
        return version, sum(ANY not in pair for pair in pairs)

    def _version(self, model: str) -> int | None:
        own = self.model.lower()
        if own == ANY:
            return 0
        if own == model:
            return 3
        if own == undated(model):
            return 2
        return 1 if undated(own) == model else None


class Measured(NamedTuple):
    """A meter's meaning, and how many of its kind one unit of the export's quantity is."""

    meaning: Meaning
    size: int


class Described(NamedTuple):
    """What an export says of a meter. `group` is its subcategory."""

    meter_id: str
    name: str
    group: str
    product: str
    unit: str


@dataclass(frozen=True, slots=True)
class Unread:
    """Why a meter's meaning is not known."""

    reason: str


type ReadMeter = Callable[[Described], Measured | Unread]
"""What a meter charges for, by what the export says of it."""

_UNIT = re.compile(r"(?P<number>[0-9][0-9,]*\s*[KMB]?)?\s*(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_NO_NOUN = re.compile(r"(units?|count)\b", re.IGNORECASE)


def unit_text(text: str, block: str = "") -> str:
    """A unit of measure with its number in front: `1K`, `1000 Tokens`, `1 Hour`, `1/Hour`.

    FOCUS names distinct units, `Units` or `Hours`, and has the number in a column of its own. Empty
    where there is neither.
    """
    if not text.strip() and not block:
        return ""
    match = _UNIT.fullmatch(text.strip())
    assert match is not None  # every text matches
    number = match["number"] or _block_text(block) or "1"
    rest = _NO_NOUN.sub("", match["rest"]).strip()
    return f"{number.strip()}{rest}" if rest.startswith("/") else f"{number.strip()} {rest}".strip()


def _block_text(block: str) -> str:
    """A block size without decimals, which columns of decimal numbers have."""
    try:
        return plain(parse_amount(block))
    except ValueError:
        return block


def refuse(place: str, text: str) -> InvalidInput:
    """The refusal of what is at a place."""
    return InvalidInput([f"{place}: {text}"])
