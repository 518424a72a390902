"""Reads what a call's own text asks its answer to report: the words of the form `NAME=VALUE`.

| name | effect |
|---|---|
| a count of COUNTS | used in place of the rule's number, where the answer has a place for it |
| `tool_` and a count | the same for the tokens of the image tool |
| `service_tier` | the tier that serves the call, whichever the body asks for |
| one of TOOL_CALLS | this many items of hosted tools, which only Responses have |
| `containers` | in how many containers the code runs (default 1) |
| `web_search_requests` | the searches that `tool_usage` tells (default: the items) |

A whole number from 0 to MOST is used, answered and billed; so are fractions of `seconds`. Any other
value (`-5`, `1e30`, `null`, `[]`, `many`) is answered in its place, and the rule's own number is
billed. A value is JSON without spaces, else text. The last word of a name counts.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

COUNTS = frozenset(
    {
        *("prompt_tokens", "completion_tokens", "total_tokens"),
        *("cached_tokens", "cache_write_tokens", "reasoning_tokens"),
        *("audio_prompt_tokens", "audio_cached_tokens", "audio_completion_tokens"),
        *("image_prompt_tokens", "image_cached_tokens", "image_completion_tokens"),
        "seconds",
    }
)
TOOL_CALLS = (
    *("web_searches", "page_opens", "page_finds"),
    *("file_searches", "code_runs", "image_calls", "untyped_items"),
)
MOST = 10**9
_TOOL_PREFIX = "tool_"
_NAMES = (
    COUNTS
    | {_TOOL_PREFIX + name for name in COUNTS}
    | {*TOOL_CALLS, "service_tier", "containers", "web_search_requests"}
)
_WORD = re.compile(r"([a-z_]{5,40})=(\S{1,200})", re.ASCII)
_NOTHING: Mapping[str, object] = MappingProxyType({})


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """The values that a call asked for, by name."""

    values: Mapping[str, object] = field(default_factory=lambda: _NOTHING)

    def number(self, name: str, otherwise: int) -> int:
        """The number that was asked for, if it can be used."""
        value = self.values.get(name)
        return value if _is_usable(value) and isinstance(value, int) else otherwise

    def counts(self) -> dict[str, float]:
        """The counts that can be used."""
        return {
            name: value
            for name, value in self.values.items()
            if name in COUNTS
            and isinstance(value, int | float)
            and (_is_usable(value) or (name == "seconds" and 0 <= value <= MOST))
        }

    @property
    def of_tool(self) -> "Asked":
        """What was asked of the image tool, under the names of a call's counts."""
        values = {
            name.removeprefix(_TOOL_PREFIX): value
            for name, value in self.values.items()
            if name.startswith(_TOOL_PREFIX)
        }
        return Asked(values=values)


NOTHING_ASKED = Asked()


def read_asked(texts: Iterable[str]) -> Asked:
    """What the words of some texts ask for; other words are only counted."""
    values: dict[str, object] = {}
    for text in texts:
        if "=" in text:
            found = (_WORD.fullmatch(word) for word in text.split())
            values |= {word[1]: _value(word[2]) for word in found if word and word[1] in _NAMES}
    return Asked(values=values) if values else NOTHING_ASKED


def _value(text: str) -> object:
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return value


def _is_usable(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST
