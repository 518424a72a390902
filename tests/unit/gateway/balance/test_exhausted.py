"""Calls without a backend are logged at once, and then once a minute: a storm must not fill the log."""

import logging

import pytest

from meter.errors import CallerError, Overloaded
from meter.gateway.balance.exhausted import Exhausted
from tests.fakes.gateway import FakeClock

THROTTLED = Overloaded("No backend.", retry_after_seconds=9)
FAILED = CallerError("No backend.", status=502)


def test_the_first_is_logged_at_once_and_others_are_added_up(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A line says how many calls there were since the line before."""
    clock = FakeClock()
    exhausted = Exhausted(clock)
    for _ in range(1_000):
        exhausted.refused("gpt-4o", THROTTLED)
        clock.advance(0.125)

    assert caplog.messages == [
        "backends_exhausted deployment=gpt-4o status=429 calls=1",
        "backends_exhausted deployment=gpt-4o status=429 calls=480",
        "backends_exhausted deployment=gpt-4o status=429 calls=480",
    ]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


def test_deployments_are_apart(caplog: pytest.LogCaptureFixture) -> None:
    """One that is refused all the time hides no other; the status is the caller's."""
    exhausted = Exhausted(FakeClock())
    exhausted.refused("gpt-4o", THROTTLED)
    exhausted.refused("gpt-4o", THROTTLED)
    exhausted.refused("embed", FAILED)

    assert caplog.messages == [
        "backends_exhausted deployment=gpt-4o status=429 calls=1",
        "backends_exhausted deployment=embed status=502 calls=1",
    ]
