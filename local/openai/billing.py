"""What an account bills for a call, and the `usage` object in which its answer tells it.

A shape is the JSON of one API with the names of counts in place of numbers: the names are those of
the usage event. A count that a call does not have is left out of the object.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from local.openai.asked import Asked
from local.openai.call import Call, JsonObject

type Shape = Mapping[str, "str | int | Shape"]

_CACHED_BY_KIND: Shape = {
    "audio_tokens": "audio_cached_tokens",
    "image_tokens": "image_cached_tokens",
}
CHAT: Shape = {
    "completion_tokens": "completion_tokens",
    "completion_tokens_details": {
        "accepted_prediction_tokens": 0,
        "audio_tokens": "audio_completion_tokens",
        "image_tokens": "image_completion_tokens",
        "reasoning_tokens": "reasoning_tokens",
        "rejected_prediction_tokens": 0,
    },
    "prompt_tokens": "prompt_tokens",
    "prompt_tokens_details": {
        "audio_tokens": "audio_prompt_tokens",
        "cache_write_tokens": "cache_write_tokens",
        "cached_tokens": "cached_tokens",
        "cached_tokens_details": _CACHED_BY_KIND,
        "image_tokens": "image_prompt_tokens",
    },
    "total_tokens": "total_tokens",
}
EMBEDDINGS: Shape = {"prompt_tokens": "prompt_tokens", "total_tokens": "total_tokens"}
RESPONSES: Shape = {
    "input_tokens": "prompt_tokens",
    "input_tokens_details": {
        "audio_tokens": "audio_prompt_tokens",
        "cache_write_tokens": "cache_write_tokens",
        "cached_tokens": "cached_tokens",
        "cached_tokens_details": _CACHED_BY_KIND,
        "image_tokens": "image_prompt_tokens",
    },
    "output_tokens": "completion_tokens",
    "output_tokens_details": {
        "audio_tokens": "audio_completion_tokens",
        "image_tokens": "image_completion_tokens",
        "reasoning_tokens": "reasoning_tokens",
    },
    "total_tokens": "total_tokens",
}
_TOTALS: Shape = {
    "input_tokens": "prompt_tokens",
    "output_tokens": "completion_tokens",
    "total_tokens": "total_tokens",
}
IMAGES: Shape = {
    **_TOTALS,
    "input_tokens_details": {
        "cached_tokens": "cached_tokens",
        "cached_tokens_details": {"image_tokens": "image_cached_tokens"},
        "image_tokens": "image_prompt_tokens",
        "text_tokens": "text_prompt_tokens",
    },
    "output_tokens_details": {
        "image_tokens": "image_completion_tokens",
        "text_tokens": "text_completion_tokens",
    },
}
IMAGE_TOOL: Shape = {
    **_TOTALS,
    "cached_tokens": "cached_tokens",
    "cached_tokens_details": {
        "cached_image_tokens": "image_cached_tokens",
        "cached_text_tokens": "text_cached_tokens",
    },
    "input_tokens_details": {
        "image_tokens": "image_prompt_tokens",
        "text_tokens": "text_prompt_tokens",
    },
    "output_tokens_details": {
        "image_tokens": "image_completion_tokens",
        "text_tokens": "text_completion_tokens",
    },
}
TRANSCRIPT: Shape = {
    **_TOTALS,
    "input_token_details": {
        "audio_tokens": "audio_prompt_tokens",
        "text_tokens": "text_prompt_tokens",
    },
}
SPEECH: Shape = _TOTALS
DURATION: Shape = {"seconds": "seconds"}

# Text is what the other kinds leave of a count.
_TEXT_COUNTS = {
    "text_prompt_tokens": ("prompt_tokens", "audio_prompt_tokens", "image_prompt_tokens"),
    "text_cached_tokens": ("cached_tokens", "audio_cached_tokens", "image_cached_tokens"),
    "text_completion_tokens": (
        *("completion_tokens", "audio_completion_tokens", "image_completion_tokens"),
    ),
}
_TIERS = {"flex": "flex", "priority": "priority", "fast": "priority"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolBill:
    """What another deployment bills for its part in a call."""

    deployment: str
    model: str
    counts: Mapping[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bill:
    """What a call used.

    `usage` is the object that tells it; `counts` has it by the names of the usage event, without the
    zeros, and with what no answer tells: images and characters. `service_tier` is the answer's word.
    """

    usage: JsonObject | None = None
    counts: Mapping[str, int]
    service_tier: object = None
    tools: tuple[ToolBill, ...] = ()


def make_bill(
    shape: Shape,
    rule: Mapping[str, int],
    asked: Asked,
    *,
    output_kind: str | None = None,
    service_tier: object = None,
) -> Bill:
    """The bill of a call: the rule's counts, unless the call asked for others that the shape tells.

    `output_kind` is what all output is, where the answer does not say what it is.
    """
    names = set(_names(shape))
    used: dict[str, float] = dict(rule)
    used |= {name: count for name, count in asked.counts().items() if name in names}
    if "prompt_tokens" in used:
        used.setdefault("total_tokens", used["prompt_tokens"] + used.get("completion_tokens", 0))
    answered = dict(_with_text(used)) | {
        name: value for name, value in asked.values.items() if name in names
    }
    if output_kind is not None:
        used.setdefault(output_kind, used["completion_tokens"])
    return Bill(usage=_fill(shape, answered), counts=_counts(used), service_tier=service_tier)


def requested_tier(call: Call) -> str | None:
    """The tier that the body of a call asks for."""
    asked = call.body.get("service_tier")
    return asked if isinstance(asked, str) else None


def served_tier(call: Call) -> object:
    """The tier that serves a call, as its answer tells it; `auto` is the deployment's: default."""
    served: object = _TIERS.get(requested_tier(call) or "", "default")
    return call.asked.values.get("service_tier", served)


def told_tier(call: Call) -> JsonObject:
    """The `service_tier` of an answer that has it only when the body of the call asked for one."""
    is_told = "service_tier" in call.body or "service_tier" in call.asked.values
    return {"service_tier": served_tier(call)} if is_told else {}


def _names(shape: Shape) -> Iterator[str]:
    for entry in shape.values():
        if isinstance(entry, str):
            yield entry
        elif not isinstance(entry, int):
            yield from _names(entry)


def _fill(shape: Shape, values: Mapping[str, object]) -> JsonObject:
    filled: JsonObject = {}
    for name, entry in shape.items():
        if isinstance(entry, str):
            if entry in values:
                filled[name] = values[entry]
        elif isinstance(entry, int):
            filled[name] = entry
        elif inner := _fill(entry, values):
            filled[name] = inner
    return filled


def _with_text(used: Mapping[str, float]) -> Mapping[str, float]:
    """The counts with those of text, each where the answer splits the count that it is a part of."""
    text = {
        name: used[whole] - sum(used.get(kind, 0) for kind in kinds)
        for name, (whole, *kinds) in _TEXT_COUNTS.items()
        if whole in used and any(kind in used for kind in kinds)
    }
    return {**used, **text}


def _counts(used: Mapping[str, float]) -> dict[str, int]:
    counts = {name: math.ceil(count) for name, count in used.items() if count}
    for kind in ("audio", "image"):
        both = sum(counts.get(f"{kind}_{side}_tokens", 0) for side in ("prompt", "completion"))
        if both:
            counts[f"{kind}_tokens"] = both
    return counts
