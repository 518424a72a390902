"""Reads the name of one of Azure's meters. A word that is not known is never passed over."""

from collections.abc import Mapping

from meter.reports.pricing.kinds import Kind
from meter.reports.pricing.meters.meter import Meter, Reason, Skipped
from meter.reports.pricing.meters.models import Family, family_of
from meter.reports.pricing.meters.unit import Measure, parse_measure
from meter.reports.pricing.meters.words import (
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
# What a kind is measured in, beside a plain number, and how many of the kind that is.
_MEASURES: Mapping[Kind, Mapping[str, int]] = {
    Kind.SECOND: {"hour": 3600, "minute": 60, "second": 1},
    Kind.PTU_HOUR: {"hour": 1},
    Kind.IMAGE: {"": 1, "image": 1},
    Kind.CHARACTER: {"": 1, "character": 1},
    Kind.FILE_SEARCH: {"": 1, "call": 1},
    Kind.CODE_INTERPRETER: {"": 1, "session": 1},
}
_TOKENS: Mapping[str, int] = {"": 1, "token": 1}


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
    if not marks.deployment_type:
        return Skipped(Reason.NO_DEPLOYMENT_TYPE)
    kind = family.kind or _kind(family, marks)
    if isinstance(kind, Skipped):
        return kind
    measure = parse_measure(unit)
    count = None if measure is None else _count(kind, measure)
    if count is None:
        return Skipped(Reason.UNCLEAR_UNIT, f"{unit} of {kind}")
    return Meter(
        model=family.model,
        kind=kind,
        deployment_type=marks.deployment_type,
        tier=_tier(family, marks),
        context=marks.context,
        unit=count,
    )


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


def _tier(family: Family, marks: Marks) -> str:
    match family.kind:
        case Kind.PTU_HOUR:
            return PROVISIONED
        case Kind.SECOND:  # "Speech-to-Text-Batch-Whisper" is the service's name
            return STANDARD
        case _:
            return marks.tier


def _count(kind: Kind, measure: Measure) -> int | None:
    factor = _MEASURES.get(kind, _TOKENS).get(measure.noun)
    return None if factor is None else measure.count * factor
