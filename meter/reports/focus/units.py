"""Units of measure as FOCUS writes them: `Tokens`, `1000 Tokens`, `PTU-Hours`."""

from collections.abc import Mapping

from meter.reports.pricing.kinds import Kind

UNITS = "Units"
"""What is not known better."""

_NAMES: Mapping[Kind, str] = {
    Kind.SECOND: "Seconds",
    Kind.IMAGE: "Images",
    Kind.CHARACTER: "Characters",
    Kind.WEB_SEARCH: "Requests",
    Kind.FILE_SEARCH: "Requests",
    Kind.CODE_INTERPRETER: "Sessions",
    Kind.PTU_HOUR: "PTU-Hours",
}


def unit_of(kind: Kind) -> str:
    """What one of the kind is counted in."""
    return _NAMES.get(kind, "Tokens")


def block_of(size: int, unit: str) -> str:
    """So many as the unit of a price."""
    return unit if size == 1 else f"{size} {unit}"
