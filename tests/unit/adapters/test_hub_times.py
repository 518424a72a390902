"""Times of hub messages: what Microsoft's library makes of them, without the garbage that it makes."""

import gc
import json
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from azure.functions import eventhub
from azure.functions.eventhub import EventHubTriggerConverter
from azure.functions.meta import Datum

from meter.adapters.functions import hub_times
from meter.adapters.functions.hub_times import READ, replace_time_reading

OF_THE_HOST = "2026-11-28T03:16:38.352Z"


INHERITED: Any = getattr(super(EventHubTriggerConverter, EventHubTriggerConverter), READ)


@pytest.fixture(name="ours")
def _ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EventHubTriggerConverter, READ, INHERITED)  # as it is afterwards, too
    assert replace_time_reading()


def decoded(time: str | None) -> Any:
    """A batch of one event, as the runtime decodes it."""
    properties = json.dumps([{"SequenceNumber": 1, "Offset": "2", "EnqueuedTimeUtc": time}])
    data = Datum(SimpleNamespace(bytes=[b"{}"]), "collection_bytes")
    metadata = {"SystemPropertiesArray": Datum(properties, "json")}
    events: Any = EventHubTriggerConverter.decode(data, trigger_metadata=metadata)
    return events[0]


def garbage_of(batches: int) -> int:
    """What batches leave for a garbage collection."""
    decoded(OF_THE_HOST)
    gc.collect()
    gc.disable()
    try:
        for _ in range(batches):
            decoded(OF_THE_HOST)
        return gc.collect()
    finally:
        gc.enable()


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize(
    ("text", "time"),
    [
        (OF_THE_HOST, datetime(2026, 11, 28, 3, 16, 38, 352_000, UTC)),
        ("2026-11-28T03:16:38Z", datetime(2026, 11, 28, 3, 16, 38, 0, UTC)),
        ("2026-11-28T03:16:38.1234567Z", datetime(2026, 11, 28, 3, 16, 38, 123_456, UTC)),
        ("2026-11-28T03:16:38.5+00:00", datetime(2026, 11, 28, 3, 16, 38, 500_000, UTC)),
        ("11/28/2026 03:16:38Z", datetime(2026, 11, 28, 3, 16, 38, 0, UTC)),
        ("2026-11-28T03:16:38", datetime(2026, 11, 28, 3, 16, 38)),  # noqa: DTZ001  # as the library
        ("", None),
        (None, None),
    ],
)
def test_a_time_is_what_the_library_makes_of_it(text: str | None, time: datetime | None) -> None:
    """Also in the forms that the library still reads itself."""
    assert decoded(text).enqueued_time == time
    assert INHERITED(text) == time


@pytest.mark.usefixtures("ours")
@pytest.mark.parametrize("text", ["yesterday", "2026-11-28T03:16:60Z", "Z"])
def test_what_is_no_time_is_refused(text: str) -> None:
    """The batch fails, as with the library alone."""
    with pytest.raises(ValueError, match="does not match"):
        decoded(text)


@pytest.mark.usefixtures("ours")
def test_reading_times_leaves_no_garbage() -> None:
    """A cycle for each message holds its batch until a collection, which is rare."""
    assert garbage_of(100) == 0


def test_the_library_alone_leaves_garbage(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the test above can fail; when this one does, `hub_times` can go."""
    monkeypatch.setattr(EventHubTriggerConverter, READ, INHERITED)

    assert garbage_of(100) >= 100


def test_a_library_without_its_parts_is_left_alone(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It may have been changed for the better; the app starts, and says so."""
    monkeypatch.delattr(eventhub, hub_times.CONVERTER)

    assert not replace_time_reading()
    assert caplog.messages == [
        "runtime_changed missing=azure.functions.eventhub.EventHubTriggerConverter"
    ]
