"""The 404 of an address that is not served: what was asked, and what was probably meant.

Suggestions are built from the table of operations; of the caller's path only a valid deployment name
is taken over.
"""

import re
from urllib.parse import unquote

from meter.errors import NotServed
from meter.gateway.http import quoted
from meter.gateway.request.operations import NOT_SERVED, TABLE, Place, rows_of
from meter.patterns import lazy_pattern

MAX_TAIL_SEGMENTS = 3

_DEPLOYMENT = lazy_pattern(r"(?=.*[A-Za-z0-9])[A-Za-z0-9._-]{1,64}", re.ASCII)


def not_served(raw_path: str) -> NotServed:
    """The error for the path. A family of operations that is not served is named as such."""
    # Twice: the Functions host encodes the percent sign of an encoded slash again.
    path = unquote(unquote(raw_path[:512]))
    segments = [part for part in re.split(r"[/\\]+", path) if part]
    asked = f"You asked for {quoted(raw_path)}"
    if meant := _meant(segments):
        text = f"{asked}; did you mean {' or '.join(meant)}? An address must match exactly."
        return NotServed(f"Resource not found. {text}")
    if family := _family(segments):
        refusal = f"{family} is not served here."
        if _FAMILY.match(raw_path):
            return NotServed(f"{refusal} {asked}. {_WHAT_IS_SERVED}")
        return NotServed(f"Resource not found. {asked}. {refusal} {_WHAT_IS_SERVED}")
    what = _RESPONSE_IDS if "responses" in segments[:-1] else _WHAT_IS_SERVED
    return NotServed(f"Resource not found. {asked}. {what}")


def _family(segments: list[str]) -> str | None:
    """The public name of what is asked for, where that is known and not served."""
    named = (NOT_SERVED[part] for part in segments if part in NOT_SERVED)
    within = (name for words, name in _WITHIN if words.search("/".join(segments)))
    return next(named, None) or next(within, None)


def _meant(segments: list[str]) -> list[str]:
    """The addresses that end like the path."""
    for length in range(min(MAX_TAIL_SEGMENTS, len(segments)), 0, -1):
        before, tail = segments[:-length], "/".join(segments[-length:])
        rows, stored_id = rows_of(tail)
        if not rows and not (rows := rows_of(tail := tail.lower())[0]):
            continue
        if stored_id is not None and rows_of(stored_id)[0]:
            continue  # `/models/embeddings` is Azure AI Inference's address of embeddings
        if any(part in NOT_SERVED for part in before):
            return []
        prefixes = {part.lower() for part in before}
        is_v1 = "v1" in prefixes or "openai" not in prefixes
        v1 = f"/openai/v1/{tail}"
        return [v1] if is_v1 else [_classic(before, tail, rows[0].place), v1]
    return []


def _classic(before: list[str], tail: str, place: Place) -> str:
    if place is Place.SHARED:
        return f"/openai/{tail}"
    named = before[-1] if "deployments" in before[:-1] else ""
    deployment = named if _DEPLOYMENT.fullmatch(named) else "{deployment}"
    return f"/openai/deployments/{deployment}/{tail}"


def _tails(place: Place) -> str:
    return ", ".join(each.tail for each in TABLE if each.place is place and each.is_charged)


# Operations beside others that are served.
_WITHIN = (
    (lazy_pattern(r"chat/completions/."), "The API of stored chat completions"),
    (lazy_pattern(r"images/generations:submit"), "The asynchronous image API"),
    (lazy_pattern(r"images/variations"), "The Image Variations API"),
)
_FAMILY = lazy_pattern(r"/openai/(?:v1/|deployments/[^/]+/)?[a-z_-]+(?:/|$)", re.ASCII)
_RESPONSE_IDS = (
    "Below responses/ are compact, input_tokens and stored responses, whose ids begin with resp_."
)
_WHAT_IS_SERVED = (
    f"This gateway serves {_tails(Place.BY_DEPLOYMENT)} under /openai/deployments/{{deployment}}/; "
    f"{_tails(Place.SHARED)}, stored responses and models under /openai/; and all of them under "
    "/openai/v1/."
)
