"""Faults that tests queue for later calls, and the choice of a fault for a call.

A fault is a JSON object; every key is optional:

| key | effect |
|---|---|
| `count` | the number of calls it strikes (default 1); `null`: all until faults are cleared |
| `deployment` | strikes only calls to this deployment |
| `status`, `body` | answered instead; a text body is sent unchanged, anything else as JSON |
| `headers` | added to any answer |
| `delay_ms` | wait before the first byte |
| `hang` | never answers |
| `reset` | the connection is reset before the first byte |
| `cut_after_bytes` | the connection is reset after this many bytes of the body |
| `chunk_delay_ms` | wait between two writes of a stream |
| `split_bytes` | the body is written in pieces of this size, regardless of frames |
| `gzip` | the body, whole or streamed, is gzip-encoded, whatever the caller accepts |
| `no_usage` | the answer has no usage (the record still does) |
| `asks` | words that are read as if the call's text had them (local/openai/asked.py) |
| `async_filter` | streams carry an asynchronous content filter's chunk |
| `reject_stream_options` | strikes only calls with `stream_options`, with a 400 |

The first fault in the queue that matches an accepted call strikes it; a call gets at most one
fault. Calls refused for their key, address, deployment or body use none up. Calls by a response's id
have no deployment; they are struck before the id is looked up.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault of a call; by default none."""

    count: int | None = 1
    deployment: str | None = None
    status: int | None = None
    body: object = None
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_ms: int = 0
    hang: bool = False
    reset: bool = False
    cut_after_bytes: int | None = None
    chunk_delay_ms: int = 0
    split_bytes: int | None = None
    gzip: bool = False
    no_usage: bool = False
    asks: str = ""
    async_filter: bool = False
    reject_stream_options: bool = False

    def fits(self, deployment: str | None, *, has_stream_options: bool) -> bool:
        """True when the fault may strike such a call."""
        if self.reject_stream_options and not has_stream_options:
            return False
        return self.deployment is None or self.deployment == deployment


NO_FAULT = Fault()


class FaultQueue:
    """The queued faults, oldest first."""

    def __init__(self) -> None:
        self._waiting: list[Fault] = []

    def add(self, fault: Fault) -> None:
        """Queues a fault behind those already waiting."""
        self._waiting.append(fault)

    def clear(self) -> None:
        """Removes every fault."""
        self._waiting.clear()

    def take(self, deployment: str | None, *, has_stream_options: bool) -> Fault:
        """The fault that strikes this call, counted as used once; NO_FAULT when none matches."""
        for index, fault in enumerate(self._waiting):
            if fault.fits(deployment, has_stream_options=has_stream_options):
                self._use_up(index, fault)
                return fault
        return NO_FAULT

    def _use_up(self, index: int, fault: Fault) -> None:
        if fault.count is None:
            return
        if fault.count > 1:
            self._waiting[index] = replace(fault, count=fault.count - 1)
        else:
            del self._waiting[index]


def parse_fault(body: Mapping[str, object]) -> Fault:
    """A fault from its JSON object; raises ValueError that names every bad key."""
    problems = [problem for name, value in body.items() if (problem := _problem(name, value))]
    if problems:
        raise ValueError("; ".join(problems))
    present = dict(body)
    headers = present.pop("headers", None) or {}
    assert isinstance(headers, dict)
    lower = {str(name).lower(): str(value) for name, value in headers.items()}
    return replace(NO_FAULT, headers=lower, **present)  # type: ignore[arg-type] # _problem checked


def _problem(name: str, value: object) -> str | None:
    match name:
        case "count":
            expected, is_right = "1 or more, or null", value is None or _is_whole(value, least=1)
        case "status":
            expected, is_right = (
                "200-599 or null",
                value is None or _is_whole(value, least=200, most=599),
            )
        case "cut_after_bytes" | "split_bytes":
            expected, is_right = "a whole number or null", value is None or _is_whole(value)
        case "delay_ms" | "chunk_delay_ms":
            expected, is_right = "a whole number", _is_whole(value)
        case "hang" | "reset" | "gzip" | "no_usage" | "async_filter" | "reject_stream_options":
            expected, is_right = "true or false", isinstance(value, bool)
        case "headers":
            expected, is_right = "an object", value is None or isinstance(value, dict)
        case "deployment":
            expected, is_right = "a name or null", value is None or isinstance(value, str)
        case "asks":
            expected, is_right = "a text", isinstance(value, str)
        case "body":
            return None
        case _:
            accepted = ", ".join(entry.name for entry in fields(Fault))
            return f"a fault's keys are {accepted}, got {name!r}"
    return None if is_right else f"{name} must be {expected}, got {value!r}"


def _is_whole(value: object, *, least: int = 0, most: int | None = None) -> bool:
    if not isinstance(value, int) or isinstance(value, bool):
        return False
    return value >= least and (most is None or value <= most)
