"""The outbox timer as in a separate function app: with only hub and storage."""

import logging

import pytest

from meter.adapters.clients import build_store
from meter.adapters.clock import SystemClock
from meter.bootstrap import App
from meter.config.environment import load_storage_settings
from meter.publishing.outbox import TableOutbox
from meter.usage import new_event_id
from tests.support.events import usage_event
from tests.support.running import RunningStack, new_subject


async def test_the_timer_publishes_without_any_setting_of_the_front_door(
    stack: RunningStack, caplog: pytest.LogCaptureFixture
) -> None:
    """It logs the backlogs of outbox and hub and sends the first; the events are counted."""
    caplog.set_level(logging.INFO, "meter")
    subject = new_subject("timer")
    environment = {
        "EventHubConnection": stack.description["event_hub_connection_string"],
        "MeterStorage": stack.description["storage_connection_string"],
    }
    clock = SystemClock()
    store = build_store(load_storage_settings(environment))
    event_id = new_event_id(clock.now(), bytes(10))
    await TableOutbox(store, clock).keep(
        [usage_event(subject=subject, id=event_id, time=clock.now(), started_at=clock.now())]
    )
    await store.close()

    app = App(lambda: environment)
    try:
        await app.republish()
    finally:
        await app.close()

    backlogs = [m for m in caplog.messages if m.startswith("outbox_backlog events=")]
    assert len(backlogs) == 1
    assert [m for m in caplog.messages if m.startswith("hub_backlog messages=")]
    assert stack.wait_until_counted(subject, 1)
    assert str(event_id) not in {row["RowKey"] for row in stack.rows("Outbox")}
