"""Reads the spellings that clients make of an address as one canonical address.

| as it was sent                                      | canonical                                           |
|-----------------------------------------------------|-----------------------------------------------------|
| `PREFIX/openai/...`, `PREFIX//openai/...`           | `/openai/...`, for each configured prefix           |
| `/openai//...`, `/openai/v1//...`                   | with one slash                                      |
| one trailing slash                                  | without it                                          |
| `/openai/OPERATION` without `api-version`           | `/openai/v1/OPERATION`                              |
| the same with `api-version=v1`, `preview`, `latest` | the same, of an operation that is by deployment     |
| `/openai/deployments/NAME/responses?...`            | `/openai/v1/responses`; NAME is the body's `model`  |
| `/responses/compact`, `/responses/input_tokens`     | `/openai/v1/responses/...` (Azure.AI.OpenAI 2.9)    |

Nothing is decoded, and all else stays as it is, for `route.py` to judge: what is not written here is no
other spelling of anything.
"""

import re
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from msgspec import Struct

from meter.gateway.request.operations import Place, rows_of
from meter.gateway.request.unserved import not_served
from meter.patterns import lazy_pattern

_ADDRESS = (
    r"(?:(?:{prefix}/?)?(?P<openai>/openai)//?(?P<v1>v1//?)?"
    r"|{prefix}?/(?=responses/(?:compact|input_tokens)/?\Z))"
    r"(?P<tail>[A-Za-z0-9._-]+(?:/[A-Za-z0-9._-]+)*)/?"
)
_RESPONSES = lazy_pattern(
    r"deployments/(?P<name>(?=[^/]*[A-Za-z0-9])[A-Za-z0-9._-]{1,64})/responses", re.ASCII
)
# Versions of the v1 API: all others are dates.
_OF_V1 = frozenset({"v1", "preview", "latest"})


class Address(Struct, frozen=True, kw_only=True):
    """A canonical address. `asked` is the path as it was sent.

    `model` is the deployment that the body must name, where the address named it and the canonical one
    cannot.
    """

    asked: str
    path: str
    query: str
    model: str | None = None

    @property
    def api_version(self) -> str | None:
        """The first `api-version` in the query; None where there is none, or an empty one."""
        return api_version_in(self.query)


@dataclass(frozen=True, slots=True)
class Spellings:
    """The spellings that are read, under no prefix and under each of the prefixes, as `/corp/team`."""

    prefixes: tuple[str, ...] = ()
    _pattern: re.Pattern[str] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        # The longest first, and each is tried: what is below `/corp/openai` may be below `/corp`.
        longest = sorted(self.prefixes, key=len, reverse=True)
        either = "|".join(map(re.escape, longest)) or r"(?!)"
        pattern = re.compile(_ADDRESS.replace("{prefix}", f"(?:{either})"), re.ASCII)
        object.__setattr__(self, "_pattern", pattern)

    def read(self, raw_path: str, query: str) -> Address:
        """The canonical address. Raises NotServed (404)."""
        match = self._pattern.fullmatch(raw_path)
        if match is None:
            raise not_served(raw_path)
        tail, says_v1 = match["tail"], bool(match["v1"] or not match["openai"])
        if not says_v1 and (named := _RESPONSES.fullmatch(tail)) is not None:
            path = "/openai/v1/responses"
            return Address(asked=raw_path, path=path, query="", model=named["name"])
        style = "v1/" if says_v1 or _is_v1(tail, query) else ""
        return Address(asked=raw_path, path=f"/openai/{style}{tail}", query=query)


def api_version_in(query: str) -> str | None:
    """The first `api-version` of a query, whose names Azure reads in any case of letters."""
    pairs = parse_qsl(query) if "ersion" in query.lower() else []
    return next((value for name, value in pairs if name.lower() == "api-version"), None)


def _is_v1(tail: str, query: str) -> bool:
    """Whether an address right below `/openai/` is one of v1 that lacks the `v1`."""
    if tail.startswith("deployments/"):
        return False
    version = api_version_in(query)
    if version is None:
        return True
    rows, _ = rows_of(tail)
    is_by_deployment = any(row.place is Place.BY_DEPLOYMENT for row in rows)
    return is_by_deployment and version.lower() in _OF_V1
