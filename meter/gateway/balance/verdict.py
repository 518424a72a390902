"""Decides what a backend's answer means: relay it, or fail over to the next backend.

| answer                           | the caller gets   | the backend cools down for             |
|----------------------------------|-------------------|----------------------------------------|
| 2xx                              | this answer       | no time                                |
| 400 404 405 409 413 415 422 ...  | this answer       | no time (the caller's own mistake)     |
| 400, 404: no such deployment     | the next backend  | 60 s (our configuration; logs an error)|
| 401, 403                         | the next backend  | 30 s (our credentials; logs an error)  |
| 1xx, 3xx, 408, 5xx               | the next backend  | its Retry-After, else 1 s and doubling |
| 429                              | the next backend  | the wait it names, else 10 s           |
| no connection, cut before the end| the next backend  | 1 s and doubling up to 30 s            |
| no first byte in time            | the next backend  | 10 s and doubling up to 60 s           |

An error that begins an event stream is judged by the status that it names. A cooldown lasts between
0.5 s and 60 s, then one call probes; which calls it holds back, and what is tried where every
backend is cooling down, is decided by what failed and how (`breaker.py`). Waits come from
`retry-after-ms`, `retry-after` (seconds or an HTTP date), the error's message, and the rate-limit
resets (seconds, `1m30s`, `250ms`).
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import StrEnum

from meter.gateway.answer.stated_error import StatedError
from meter.gateway.headers import header
from meter.ports import Headers

DEFAULT_THROTTLE_SECONDS = 10.0
CREDENTIALS_COOLDOWN_SECONDS = 30.0
NO_DEPLOYMENT_COOLDOWN_SECONDS = 60.0
MAX_WAIT_SECONDS = 86_400.0

_RESETS = (
    "x-ratelimit-reset-requests",
    "x-ratelimit-reset-tokens",
    "x-rate-limit-reset-tokens",
)
_UNIT_SECONDS = {"h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_DURATION_PART = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,9})?)(ms|h|m|s)", re.ASCII)
_DURATION = re.compile(f"(?:{_DURATION_PART.pattern})+", re.ASCII)


class Fault(StrEnum):
    """Why a call fails over to the next backend."""

    THROTTLED = "throttled"
    ERROR = "error"
    CREDENTIALS = "credentials"
    NO_DEPLOYMENT = "no_deployment"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"


@dataclass(frozen=True, slots=True)
class Failover:
    """The next backend is tried.

    `wait_seconds` is the wait that this one named, if any; `error` and `should_retry` are what it
    said, for the caller, where no other backend can serve.
    """

    fault: Fault
    status: int | None = None
    wait_seconds: float | None = None
    error: StatedError | None = None
    should_retry: str | None = None


def judge(
    status: int, headers: Headers, now: datetime, error: StatedError | None = None
) -> Failover | None:
    """Why the next backend is tried; None when the answer is the caller's.

    `error` is the one that the answer states, where it is known.
    """
    if 200 <= status < 300 and error is None:
        return None  # nearly every answer
    wait = named_wait_seconds(headers, now, error)
    said = error, _should_retry(headers)
    match status:
        case 429:
            wait = DEFAULT_THROTTLE_SECONDS if wait is None else wait
            return Failover(Fault.THROTTLED, status, wait, *said)
        case 401 | 403:
            # Its words are about the gateway's key, and not for the caller.
            return Failover(Fault.CREDENTIALS, status, CREDENTIALS_COOLDOWN_SECONDS)
        case 400 | 404 if error is not None and error.names_no_deployment:
            return Failover(Fault.NO_DEPLOYMENT, status, NO_DEPLOYMENT_COOLDOWN_SECONDS, *said)
        case _ if 200 <= status < 300 or (400 <= status < 500 and status != 408):
            return None
        case _:
            return Failover(Fault.ERROR, status, wait, *said)


def telling(failovers: Sequence[Failover], *, is_throttled: bool) -> Failover | None:
    """The failover whose words the caller gets when no backend is left: the last that has any.

    Where the answer is 429, only a throttle's words explain it.
    """
    for failover in reversed(failovers):
        has_words = failover.error is not None and not failover.error.is_empty
        is_fit = (failover.fault is Fault.THROTTLED) is is_throttled
        if is_fit and (has_words or failover.should_retry is not None):
            return failover
    return None


def named_wait_seconds(
    headers: Headers, now: datetime, error: StatedError | None = None
) -> float | None:
    """The wait that an answer names, in seconds, at most a day; None when it names none above 0."""
    values: Mapping[str, str] = dict(headers)
    milliseconds = _seconds(values.get("retry-after-ms", ""))
    retry_after = values.get("retry-after", "")
    resets = [_duration(values.get(name, "").strip()) for name in _RESETS]
    wait = (
        (milliseconds / 1000 if milliseconds else None)
        or _seconds(retry_after)
        or _until(retry_after, now)
        or (None if error is None else error.wait_seconds)
        or max((reset for reset in resets if reset), default=None)
    )
    return None if wait is None else min(wait, MAX_WAIT_SECONDS)


def _should_retry(headers: Headers) -> str | None:
    value = (header(headers, "x-should-retry") or "").strip().lower()
    return value if value in {"true", "false"} else None


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) and value > 0 else None


def _duration(text: str) -> float | None:
    """Seconds as a number, or in the forms `1m30s` and `250ms` of rate-limit resets."""
    if not _DURATION.fullmatch(text):
        return _seconds(text)
    return sum(float(n) * _UNIT_SECONDS[unit] for n, unit in _DURATION_PART.findall(text)) or None


def _until(text: str, now: datetime) -> float | None:
    try:
        moment = parsedate_to_datetime(text)
        aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
        seconds = (aware - now).total_seconds()
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    return seconds if seconds > 0 else None
