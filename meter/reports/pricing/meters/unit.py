"""Units of measure as Azure writes them: `1K`, `1M`, `100`, `1 Hour`, `1/Hour`, `1M Tokens`."""

import re
from dataclasses import dataclass

_UNIT = re.compile(
    r"(?P<count>\d{1,3}(?:,\d{3})+|\d{1,12})\s*"
    r"(?:(?P<scale>[KM]|Thousand|Million)(?![a-z]))?\s*/?\s*(?P<noun>[a-z ]*)",
    re.ASCII | re.IGNORECASE,
)
_SCALES = {"": 1, "k": 1_000, "thousand": 1_000, "m": 1_000_000, "million": 1_000_000}


@dataclass(frozen=True, slots=True)
class Measure:
    """A whole number of something; `noun` is in the singular and may be empty."""

    count: int
    noun: str


def parse_measure(text: str) -> Measure | None:
    """The unit of measure; None where it is not written so, or counts nothing."""
    match = _UNIT.fullmatch(text.strip())
    if match is None:
        return None
    count = int(match["count"].replace(",", "")) * _SCALES[(match["scale"] or "").lower()]
    noun = match["noun"].strip().lower().removesuffix("s")
    return Measure(count, noun) if count else None
