"""The call log: one line per call that was counted, which no value of a caller can forge."""

import logging
import re
from collections.abc import Iterator
from datetime import timedelta
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings

from meter.adapters.functions.call_log import LOGGER, CallLog
from meter.usage import COUNT_NAMES, Attempt, TokenUsage, UsageEvent
from tests.fakes.gateway import FakeClock
from tests.support.events import NOW, usage_event, usage_events

TEXTS = ["event_id", "subject", "client_app", "deployment", "model", "backend", "region"]
TEXTS += ["tier", "context", "operation", "outcome", "status", "streaming", "source"]
NUMBERS = ["attempts", "duration_ms", "time_to_first_byte_ms", "lag_ms"]


class Lines(logging.Handler):
    """The lines that the host would get."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def lines() -> Iterator[list[str]]:
    handler = Lines()
    logging.getLogger().addHandler(handler)
    yield handler.lines
    logging.getLogger().removeHandler(handler)


def log_of(lines: list[str], *calls: UsageEvent) -> list[dict[str, str]]:
    """The fields of the lines that these calls make."""
    lines.clear()
    CallLog(FakeClock(NOW + timedelta(seconds=2))).counted(calls, repeats=0)
    assert all(line.startswith("call_counted ") for line in lines)
    return [dict(re.findall(r"(\w+)=(\S*)", line)) for line in lines]


def test_a_line_tells_what_is_counted_of_the_call(lines: list[str]) -> None:
    """Who, where, how much of each kind, how it ended, how long it took, and how late it is counted."""
    usage = TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15, cached_tokens=4)
    attempts = (Attempt(backend="west", status=429, duration_ms=3),) * 2
    call = usage_event(region="westeurope", streaming=True, usage=usage, attempts=attempts)

    [found] = log_of(lines, call)

    counts = dict.fromkeys(COUNT_NAMES, "0")
    assert found == {
        "event_id": str(call.id),
        "subject": "alice",
        "client_app": "app",
        "deployment": "gpt-4o",
        "model": "gpt-4o-2024-11-20",
        "backend": "east",
        "region": "westeurope",
        "tier": "standard",
        "context": "short",
        "operation": "chat",
        "outcome": "served",
        "status": "200",
        "streaming": "true",
        "source": "reported",
        **counts,
        "prompt_tokens": "10",
        "completion_tokens": "5",
        "total_tokens": "15",
        "cached_tokens": "4",
        "attempts": "2",
        "duration_ms": "1000",
        "time_to_first_byte_ms": "200",
        "lag_ms": "2000",
    }


def test_what_is_not_known_is_a_hyphen_or_zero(lines: list[str]) -> None:
    """Each field is always there."""
    call = usage_event(model=None, backend=None, time_to_first_byte_ms=None, attempts=())

    [found] = log_of(lines, call)

    assert [found[n] for n in ("model", "backend", "region", "time_to_first_byte_ms")] == [
        "-",
        "-",
        "-",
        "0",
    ]


def test_a_clock_that_is_behind_makes_no_negative_lag(lines: list[str]) -> None:
    """The instance that counts need not agree with the one that answered."""
    [found] = log_of(lines, usage_event(time=NOW + timedelta(minutes=1)))

    assert found["lag_ms"] == "0"


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(usage_events())
def test_no_value_ends_a_field_or_makes_one(lines: list[str], call: UsageEvent) -> None:
    """Values of callers are percent-encoded, on one line; decoding gives them back."""
    [found] = log_of(lines, call)

    assert list(found) == [*TEXTS, *COUNT_NAMES, *NUMBERS]
    assert len(lines[0].split(" ")) == 1 + len(found)
    assert not set(lines[0]) & set("\r\n\"'")
    assert unquote(found["subject"]) == call.subject
    assert unquote(found["deployment"]) == call.deployment


def test_the_line_is_the_hosts_and_not_the_apps(lines: list[str]) -> None:
    """The app's records go to the console alone; these go to the root logger, which the worker reads."""
    app = logging.getLogger("meter")
    was = app.propagate
    app.propagate = False
    try:
        log_of(lines, usage_event())
    finally:
        app.propagate = was

    assert len(lines) == 1
    assert not LOGGER.startswith("meter")
