"""The faults of a proxy, as values. `Rules()` has none.

Of `Rules`:

| key | effect |
|---|---|
| `up`, `down` | faults of the bytes sent to the target, and to the caller |
| `drop_answers` | everything is forwarded; at the target's first byte the caller's connection is reset |
| `blackhole` | accepts and reads, forwards nothing; connections that lost bytes stay dead afterwards |
| `freeze` | nothing is forwarded until the rules change; then all is, without loss |
| `refuse` | stops listening and drops all connections |
| `count` | how many connections `drop_answers` and `end_after_bytes` may end; null: all of them |
| `requests` | faults of single HTTP requests (`HttpFaultProxy` only) |

Of `up` and `down`: `latency_ms` (delay of each read), `bytes_per_second`, and `end_after_bytes` with
`ending` `reset` or `close`: both sides of a connection are ended after that many bytes, counted from
when the rules were set or, if later, from the connection's start.

A request fault strikes a request that matches all of `number` (1 is the first since the rules were
set), `method`, `path` and `body` (substrings); at most `count` requests, null: all. The request is
not forwarded; with `applied` it is, and the target's answer is discarded. The caller gets `status`
with the body `answer`, or, if `status` is null, a reset. With `repeats` the fault also strikes the
SDK's own retries of a struck request, which carry its `x-ms-client-request-id`.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any


class Ending(StrEnum):
    """How a connection is ended."""

    RESET = "reset"
    CLOSE = "close"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """The faults of one direction."""

    latency_ms: int = 0
    bytes_per_second: int | None = None
    end_after_bytes: int | None = None
    ending: Ending = Ending.RESET


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFault:
    """The fault of one or more HTTP requests."""

    number: int | None = None
    method: str | None = None
    path: str | None = None
    body: str | None = None
    count: int | None = 1
    repeats: bool = False
    applied: bool = False
    status: int | None = None
    answer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """All faults in force; by default none."""

    up: Flow = Flow()
    down: Flow = Flow()
    drop_answers: bool = False
    blackhole: bool = False
    freeze: bool = False
    refuse: bool = False
    count: int | None = None
    requests: tuple[RequestFault, ...] = ()


NO_RULES = Rules()


def parse_rules(document: object) -> Rules:
    """Rules from their JSON object; raises ValueError that names every bad key."""
    problems = list(_problems(document, _RULES, "rules"))
    if problems:
        raise ValueError("; ".join(problems))
    assert isinstance(document, dict)
    members: dict[str, Any] = dict(document)
    for name in members.keys() & {"up", "down"}:
        flow = members[name]
        members[name] = Flow(**{**flow, "ending": Ending(flow.get("ending", Ending.RESET))})
    members["requests"] = tuple(RequestFault(**fault) for fault in members.get("requests", ()))
    return Rules(**members)


type _Check = tuple[str, Callable[[object], bool]]


def _is_whole(value: object, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


_FLAG: _Check = ("true or false", lambda value: isinstance(value, bool))
_TEXT: _Check = ("a text", lambda value: isinstance(value, str))
_TEXT_OR_NULL: _Check = ("a text or null", lambda value: value is None or isinstance(value, str))
_WHOLE: _Check = ("a whole number", lambda value: _is_whole(value, 0))
_WHOLE_OR_NULL: _Check = ("a whole number or null", lambda v: v is None or _is_whole(v, 0))
_COUNT: _Check = ("1 or more, or null", lambda value: value is None or _is_whole(value, 1))
_STATUS: _Check = ("200-599 or null", lambda value: value is None or value in range(200, 600))
_ANYTHING: _Check = ("anything", lambda _: True)  # checked separately

_FLOW: Mapping[str, _Check] = {
    "latency_ms": _WHOLE,
    "bytes_per_second": _COUNT,
    "end_after_bytes": _WHOLE_OR_NULL,
    "ending": ("reset or close", lambda value: value in tuple(Ending)),
}
_FAULT: Mapping[str, _Check] = {
    "number": _COUNT,
    "count": _COUNT,
    "repeats": _FLAG,
    "applied": _FLAG,
    "method": _TEXT_OR_NULL,
    "path": _TEXT_OR_NULL,
    "body": _TEXT_OR_NULL,
    "status": _STATUS,
    "answer": _TEXT,
}
_RULES: Mapping[str, _Check] = {
    "drop_answers": _FLAG,
    "blackhole": _FLAG,
    "freeze": _FLAG,
    "refuse": _FLAG,
    "up": _ANYTHING,
    "down": _ANYTHING,
    "count": _COUNT,
    "requests": ("a list", lambda value: isinstance(value, list)),
}


def _problems(document: object, checks: Mapping[str, _Check], where: str) -> Iterator[str]:
    if not isinstance(document, dict):
        yield f"{where} must be an object, got {document!r}"
        return
    for name, value in document.items():
        if name not in checks:
            yield f"the keys of {where} are {', '.join(checks)}; got {name!r}"
        elif not checks[name][1](value):
            yield f"{name} must be {checks[name][0]}, got {value!r}"
        elif name in {"up", "down"}:
            yield from _problems(value, _FLOW, name)
        elif name == "requests":
            for fault in value:
                yield from _problems(fault, _FAULT, "a request fault")
