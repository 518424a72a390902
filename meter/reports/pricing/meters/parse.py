"""Reads the name of one of Azure's meters. A word that is not known is never passed over."""

from collections.abc import Mapping
from typing import NamedTuple

from meter.reports.pricing.book import ANY
from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Meter, Reason, Skipped
from meter.reports.pricing.meters.models import Family, family_of
from meter.reports.pricing.meters.unit import parse_measure
from meter.reports.pricing.meters.words import (
    DEPLOYMENT_TYPES,
    FINE_TUNING,
    PROVISIONED,
    STANDARD,
    Contradiction,
    Marks,
    marks_of,
    words_of,
)

_PRODUCT = "azure openai"
_KINDS: Mapping[tuple[str, str, bool], Kind] = {  # by modality, direction, and whether it is cached
    ("text", "input", False): Kind.INPUT,
    ("text", "input", True): Kind.CACHED_INPUT,
    ("text", "output", False): Kind.OUTPUT,
    ("audio", "input", False): Kind.AUDIO_INPUT,
    ("audio", "input", True): Kind.AUDIO_CACHED_INPUT,
    ("audio", "output", False): Kind.AUDIO_OUTPUT,
    ("image", "input", False): Kind.IMAGE_INPUT,
    ("image", "input", True): Kind.IMAGE_CACHED_INPUT,
    ("image", "output", False): Kind.IMAGE_OUTPUT,
}


class _Measured(NamedTuple):
    """The noun at the end of a meter's name, and how many of its kind a unit of measure is."""

    noun: str
    units: Mapping[str, int]


_TOKENS = _Measured("token", {"": 1, "token": 1})
_MEASURED: Mapping[Kind, _Measured] = {
    Kind.SECOND: _Measured("unit", {"hour": 3600, "minute": 60, "second": 1}),
    Kind.PTU_HOUR: _Measured("unit", {"hour": 1}),
    Kind.IMAGE: _Measured("image", {"": 1, "image": 1}),
    Kind.CHARACTER: _Measured("character", {"": 1, "character": 1}),
    Kind.FILE_SEARCH: _Measured("call", {"": 1, "call": 1}),
    Kind.CODE_INTERPRETER: _Measured("session", {"": 1, "session": 1}),
}


def parse_meter(product: str, name: str, unit: str) -> Meter | Skipped:
    """What a meter charges for, by its product, its name and its unit of measure.

    The product is `productName` of the retail prices, `MeterSubCategory` of a cost export; the unit is
    `unitOfMeasure`, `UnitOfMeasure`. Case is ignored everywhere.
    """
    if not product.strip().lower().startswith(_PRODUCT):
        return Skipped(Reason.NOT_AZURE_OPENAI, product.strip())
    words = words_of(name)
    left_out = _left_out(words)
    if left_out is not None:
        return left_out
    marks = marks_of(words)
    if isinstance(marks, Contradiction):
        return Skipped(Reason.UNCLEAR_KIND, f"both {marks.one} and {marks.other}")
    family = family_of(marks.rest, is_gpt_product="gpt" in product.lower())
    if isinstance(family, Skipped):
        return family
    kind = _kind(family, marks)
    if isinstance(kind, Skipped):
        return kind
    place = marks.deployment_type or _place(product)
    if not place:
        return Skipped(Reason.NO_DEPLOYMENT_TYPE)
    count = _count(kind, unit)
    if isinstance(count, Skipped):
        return count
    return Meter(
        model=family.model,
        kind=kind,
        deployment_type=place,
        tier=_tier(kind, marks),
        context=marks.context,
        unit=count,
    )


def _place(product: str) -> str:
    """The deployment type that a product's name has for all its meters, if any."""
    places = {DEPLOYMENT_TYPES[word] for word in words_of(product) if word in DEPLOYMENT_TYPES}
    return places.pop() if len(places) == 1 else ""


def _left_out(words: list[str]) -> Skipped | None:
    """Why a meter of Azure OpenAI is of nothing that the meter of this project counts."""
    if not FINE_TUNING.isdisjoint(words):
        return Skipped(Reason.FINE_TUNING)
    if "sora" in words:
        return Skipped(Reason.VIDEO)
    if "assistants" in words and "gb" in words:
        return Skipped(Reason.STORAGE)
    if "dall" in words and "3" in words:
        return Skipped(Reason.IMAGE_QUALITY)
    if "base" in words:
        return Skipped(Reason.BOTH_DIRECTIONS)
    if words[:1] == ["az"]:
        return Skipped(Reason.NO_DEPLOYMENT_TYPE)
    if words[:2] == ["provisioned", "throughput"]:
        return Skipped(Reason.COMMITMENT)
    if words == ["standard", "unit"]:
        return Skipped(Reason.FREE)
    return None


def _kind(family: Family, marks: Marks) -> Kind | Skipped:
    if family.direction and marks.direction not in ("", family.direction):
        return Skipped(Reason.UNCLEAR_KIND, f"{marks.direction} of {family.model}")
    kind = _counted_kind(family.kind, family, marks) if family.kind else _token_kind(family, marks)
    if isinstance(kind, Kind) and marks.noun not in ("", _MEASURED.get(kind, _TOKENS).noun):
        return Skipped(Reason.UNCLEAR_KIND, f"{kind} by the {marks.noun}")
    return kind


def _counted_kind(kind: Kind, family: Family, marks: Marks) -> Kind | Skipped:
    is_plain = (
        not (marks.is_cached or marks.is_write)
        and marks.direction in ("", family.direction)
        and marks.context == ANY
        and marks.tier in (STANDARD, family.tier)
    )
    return kind if is_plain else Skipped(Reason.UNCLEAR_KIND, f"{kind} with a mark of tokens")


def _token_kind(family: Family, marks: Marks) -> Kind | Skipped:
    modality, direction = family.modality, marks.direction or family.direction
    if not modality:
        return Skipped(Reason.UNCLEAR_KIND, "neither text nor audio nor image")
    if marks.is_write:
        is_clear = modality == "text" and direction in ("", "input")
        return Kind.CACHE_WRITE if is_clear else Skipped(Reason.UNCLEAR_KIND, "a cache write")
    if not direction:
        return Skipped(Reason.UNCLEAR_KIND, "neither input nor output")
    kind = _KINDS.get((modality, direction, marks.is_cached))
    return kind or Skipped(Reason.UNCLEAR_KIND, "cached output")


def _tier(kind: Kind, marks: Marks) -> str:
    match kind:
        case Kind.PTU_HOUR:
            return PROVISIONED
        case Kind.SECOND:  # "Speech-to-Text-Batch-Whisper" is the service's name
            return STANDARD
        case _:
            return marks.tier


def _count(kind: Kind, unit: str) -> int | Skipped:
    """How many of the kind the price is for."""
    measure = parse_measure(unit)
    factor = _MEASURED.get(kind, _TOKENS).units.get(measure.noun) if measure else None
    if measure is None or factor is None:
        return Skipped(Reason.UNCLEAR_UNIT, f"{unit} of {kind}")
    return measure.count * factor
