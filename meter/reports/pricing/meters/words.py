"""Splits a meter's name into words, and knows what those that every family shares mean.

The spellings are those of Azure's retail prices of 2026-08-11, and of the flex and GPT-6 meters that came
after them (`56sol ShCo Inp Fl Gl`, `6-astra ShortCo Inp Std Gl`). One idea has many: a data zone is `DZ`,
`DZn`, `DZone`, `DataZone` or `Data Zone`. A word that is not listed stays a word of the model's name.
"""

import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from meter.reports.pricing.book import ANY

_SEPARATORS = re.compile(r"[\s\-_/]+")
# Words that are written as one: `BatchOutp`, `realtimePrvwAudInp`, `mini0718`, `gpt4omini`, `turbo16K`.
_GLUED = re.compile(
    r"gpt|4o|mini|turbo|trb|realtime|prvw|aud|txt|batch|inp|outp|\d{8}|\d{4}|\d{1,3}k", re.ASCII
)
_PAIRS = {"data zone": "dz", "long co": "longco", "short co": "shortco"}

DEPLOYMENT_TYPES: Mapping[str, str] = {
    **dict.fromkeys(("gl", "glb", "glbl", "global"), "global"),
    **dict.fromkeys(("dz", "dzn", "dzone", "datazone"), "data-zone"),
    **dict.fromkeys(("rg", "regn", "regnl", "rgnl", "regional"), "regional"),
}
STANDARD, PROVISIONED = "standard", "provisioned"
TIERS: Mapping[str, str] = {
    **dict.fromkeys(("std", "standard"), STANDARD),
    **dict.fromkeys(("pp", "priority"), "priority"),  # priority processing
    **dict.fromkeys(("fl", "flex"), "flex"),
    "batch": "batch",
}
CONTEXTS: Mapping[str, str] = {
    **dict.fromkeys(("longco", "lngco", "loco"), "long"),
    **dict.fromkeys(("shortco", "shco"), "short"),
}
DIRECTIONS: Mapping[str, str] = {
    **dict.fromkeys(("in", "inp", "inpt", "input"), "input"),
    **dict.fromkeys(("opt", "out", "outp", "outpt", "output"), "output"),
}
CACHE: Mapping[str, str] = {
    **dict.fromkeys(("cd", "cchd", "ccchd", "cached"), "cached"),
    **dict.fromkeys(("wr", "write"), "write"),
}
MODALITIES: Mapping[str, str] = {
    **dict.fromkeys(("aud", "audio"), "audio"),
    **dict.fromkeys(("img", "image"), "image"),
    **dict.fromkeys(("txt", "text"), "text"),
}
NOUNS = frozenset({"token", "unit", "character", "image", "call", "session"})  # one or several
SIZES = frozenset({"1k", "1m"})
FINE_TUNING = frozenset(
    {"ft", "rft", "tuned", "tuning", "finetuned", "ftuned", "training", "trng"}
    | {"hosting", "hstng", "grader", "grdr"}
)


class Marks(NamedTuple):
    """What the shared words of a name say; `*` or empty where none does. `rest` names the model.

    `noun` is the name's last word, in the singular, where that is what Azure counts.
    """

    deployment_type: str
    tier: str
    context: str
    direction: str
    is_cached: bool
    is_write: bool
    noun: str
    rest: tuple[str, ...]


class Contradiction(NamedTuple):
    """Two words of a name that exclude each other, or one of them twice."""

    one: str
    other: str


def words_of(name: str) -> list[str]:
    """The words of a name in lower case, glued ones apart, the noun at its end included."""
    tokens = _SEPARATORS.split(name.strip().lower())
    return list(_paired([word for token in tokens for word in _cut(token)]))


def marks_of(words: list[str]) -> Marks | Contradiction:
    """Sort the words into marks and what is left; sizes are dropped."""
    found: dict[str, tuple[str, str]] = {}  # by group: the value, and the word that said so
    rest: list[str] = []
    noun = words[-1].removesuffix("s") if words else ""
    for word in words[:-1] if noun in NOUNS else words:
        if word in SIZES:
            continue
        group = next((name for name, known in _GROUPS.items() if word in known), None)
        if group is None:
            rest.append(word)
            continue
        if group in found:
            return Contradiction(found[group][1], word)
        found[group] = (_GROUPS[group][word], word)
    return Marks(
        deployment_type=found.get("deployment_type", ("",))[0],
        tier=found.get("tier", (STANDARD,))[0],
        context=found.get("context", (ANY,))[0],
        direction=found.get("direction", ("",))[0],
        is_cached="cached" in found,
        is_write="write" in found,
        noun=noun if noun in NOUNS else "",
        rest=tuple(rest),
    )


_GROUPS: Mapping[str, Mapping[str, str]] = {
    "deployment_type": DEPLOYMENT_TYPES,
    "tier": TIERS,
    "context": CONTEXTS,
    "direction": DIRECTIONS,
    "cached": {word: value for word, value in CACHE.items() if value == "cached"},
    "write": {word: value for word, value in CACHE.items() if value == "write"},
}


def _cut(token: str) -> list[str]:
    """The words of a token that is nothing but known words; else the token."""
    pieces = _GLUED.findall(token)
    return pieces if "".join(pieces) == token else [token]


def _paired(words: list[str]) -> Iterator[str]:
    at = 0
    while at < len(words):
        pair = _PAIRS.get(" ".join(words[at : at + 2]))
        yield pair or words[at]
        at += 2 if pair else 1
