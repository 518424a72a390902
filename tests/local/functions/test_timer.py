"""The local host's timers run as often as the app's schedules say."""

import pytest

from local.functions.timer import interval_seconds
from local.functions.worker import Function


def timer(name: str, schedule: str) -> Function:
    trigger = {"type": "timerTrigger", "name": "timer", "schedule": schedule}
    return Function(id="1", name=name, trigger=trigger, retry=None)


@pytest.mark.parametrize(
    ("schedule", "seconds"),
    [("0 * * * * *", 60), ("0 */10 * * * *", 600), ("0 30 3 * * *", 86_400)],
)
def test_a_function_runs_as_often_as_its_schedule_says(schedule: str, seconds: float) -> None:
    """Every minute, every few minutes, or once per day."""
    assert interval_seconds(timer("sweep", schedule)) == seconds


def test_only_the_outbox_follows_its_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests shorten it; a more frequent sweep would disturb them."""
    monkeypatch.setenv("METER_OUTBOX_INTERVAL_SECONDS", "2")

    assert interval_seconds(timer("outbox", "0 * * * * *")) == 2
    assert interval_seconds(timer("sweep", "0 */10 * * * *")) == 600
