"""Decides what a backend's answer means: relay it, or fail over to the next backend.

| answer                           | the caller gets   | the backend cools down for             |
|----------------------------------|-------------------|----------------------------------------|
| 2xx                              | this answer       | no time                                |
| 400 404 405 409 413 415 422 ...  | this answer       | no time (the caller's own mistake)     |
| 400, 404, 410: no such deployment| the next backend  | 60 s (our configuration; logs an error)|
| 401, 403                         | the next backend  | 30 s (our credentials; logs an error)  |
| 1xx, 3xx, 408, 5xx               | the next backend  | its Retry-After, else 1 s and doubling |
| 429                              | the next backend  | the wait it names, else 10 s           |
| no connection, cut before the end| the next backend  | 1 s and doubling up to 30 s            |
| no first byte in time            | the next backend  | 10 s and doubling up to 60 s           |

An error that begins an event stream, or is the whole of a 200, is judged by the status that it
names. A cooldown lasts between 0.5 s and 60 s, then one call probes; which calls it holds back, and
what is tried where every backend is cooling down, is decided by what failed and how (`breaker.py`).
Waits come from `retry-after-ms`, `retry-after` (a duration or an HTTP date), the error's message, and
the rate-limit resets (`waits.py`).
"""

from collections.abc import Sequence
from datetime import datetime
from enum import StrEnum

from msgspec import Struct

from meter.gateway.answer.stated_error import StatedError
from meter.gateway.balance.waits import named_wait_seconds
from meter.gateway.headers import header
from meter.ports import Headers

DEFAULT_THROTTLE_SECONDS = 10.0
CREDENTIALS_COOLDOWN_SECONDS = 30.0
NO_DEPLOYMENT_COOLDOWN_SECONDS = 60.0


class Fault(StrEnum):
    """Why a call fails over to the next backend."""

    THROTTLED = "throttled"
    ERROR = "error"
    CREDENTIALS = "credentials"
    NO_DEPLOYMENT = "no_deployment"
    UNREACHABLE = "unreachable"
    TIMEOUT = "timeout"


class Failover(Struct, frozen=True):
    """The next backend is tried.

    `wait_seconds` is the wait that this one named, if any; `error` and `should_retry` are what it
    said, for the caller, where no other backend can serve. `refuses_option`: it was refused for the
    option that the gateway added.
    """

    fault: Fault
    status: int | None = None
    wait_seconds: float | None = None
    error: StatedError | None = None
    should_retry: str | None = None
    refuses_option: bool = False


def judge(
    status: int,
    headers: Headers,
    now: datetime,
    error: StatedError | None = None,
    *,
    own_name: str = "",
) -> Failover | None:
    """Why the next backend is tried; None when the answer is the caller's.

    `error` is the one that the answer states, where it is known. `own_name` is what this backend
    calls the deployment.
    """
    if 200 <= status < 300 and error is None:
        return None  # nearly every answer
    wait = named_wait_seconds(headers, now, error)
    is_secret = error is not None and error.status in {401, 403}
    said = None if is_secret else error, _should_retry(headers)
    match status:
        case 429:
            wait = DEFAULT_THROTTLE_SECONDS if wait is None else wait
            return Failover(Fault.THROTTLED, status, wait, *said)
        case 401 | 403:
            # Its words are about the gateway's key, and not for the caller.
            return Failover(Fault.CREDENTIALS, status, CREDENTIALS_COOLDOWN_SECONDS)
        case 400 | 404 | 410 if error is not None and error.names_no_deployment(own_name):
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


def _should_retry(headers: Headers) -> str | None:
    value = (header(headers, "x-should-retry") or "").strip().lower()
    return value if value in {"true", "false"} else None
