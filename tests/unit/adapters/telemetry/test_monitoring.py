"""Publishing, counting and gauges: what is observed besides calls."""

from datetime import timedelta

import pytest

from meter.adapters.telemetry import conventions as names
from meter.adapters.telemetry.gauges import Gauge
from meter.errors import PublishFailed, StorageUnavailable
from meter.ports import Backlog
from meter.wiring.readings import gauges_of, url_of
from tests.fakes.gateway import FakeAnswer, FakeClock, json_answer
from tests.fakes.publishing import FakeHub, FakeOutbox
from tests.support.events import NOW, usage_event
from tests.support.gateway import SERVED, door
from tests.support.telemetry import Exported


async def test_publishing_is_timed_by_destination_and_failure() -> None:
    """The hub and the outbox are what calls wait for; what they raise is raised."""
    made, hub, outbox = Exported(), FakeHub(), FakeOutbox()
    timed_hub, timed_outbox = made.monitoring.hub(hub), made.monitoring.outbox(outbox)

    await timed_hub.send("alice", [b"1"])
    await timed_outbox.keep([usage_event()])
    hub.refuse()
    outbox.is_down = True
    with pytest.raises(PublishFailed):
        await timed_hub.send("alice", [b"2"])
    with pytest.raises(StorageUnavailable):
        await timed_outbox.keep([usage_event()])

    assert (hub.took, len(outbox.kept)) == ([b"1"], 1)
    assert [attributes for attributes, _ in made.points(names.PUBLISH_DURATION)] == [
        {"aoai_meter.destination": "hub"},
        {"aoai_meter.destination": "outbox"},
        {"aoai_meter.destination": "hub", "error.type": "PublishFailed"},
        {"aoai_meter.destination": "outbox", "error.type": "StorageUnavailable"},
    ]


async def test_publishing_is_exported_without_any_call() -> None:
    """What an outbox of earlier calls takes is seen, too: there is always a metric of the SDK's beside."""
    made = Exported()
    await made.monitoring.outbox(FakeOutbox()).keep([usage_event()])

    assert [metric.name for metric in made.metrics()] == [names.JOINED, names.PUBLISH_DURATION]
    assert made.points(names.JOINED) == [({}, 0)]


def test_counting_is_told_with_the_age_of_the_oldest_call() -> None:
    """One measure per batch; batches of repeats alone have none."""
    made = Exported(clock=FakeClock(NOW + timedelta(seconds=9)))
    [counting] = made.monitoring.counting

    counting.counted([usage_event(1), usage_event(2, time=NOW + timedelta(seconds=5))], repeats=1)
    counting.counted([], repeats=2)
    counting.dead_lettered(3)

    assert made.points(names.COUNTED) == [({}, 2)]
    assert made.points(names.REPEATS) == [({}, 3)]
    assert made.points(names.DEAD_LETTERS) == [({}, 3)]
    assert made.points(names.LAG) == [({}, 9.0)]


def test_the_backlog_is_told_while_it_is_news() -> None:
    """The outbox timer may move to another instance: what this one knew is then no longer so."""
    clock = FakeClock()
    made = Exported(clock=clock)
    before = made.points(names.OUTBOX_EVENTS)

    made.monitoring.backlog(Backlog(events=3, oldest_seconds=90.0))
    made.monitoring.backlog(Backlog(events=4, oldest_seconds=150.0))
    known = made.points(names.OUTBOX_EVENTS) + made.points(names.OUTBOX_AGE)
    clock.advance(150)

    assert before == []
    assert known == [({}, 4), ({}, 150.0)]
    assert made.points(names.OUTBOX_EVENTS) == []


def test_a_gauge_is_read_with_each_export() -> None:
    """Nothing is kept of it in between."""
    made, values = Exported(), [1.0, 2.0]
    gauge = Gauge("x", "1", lambda: [(values.pop(0), {"a": "b"})])
    made.monitoring.watch([gauge], lambda _backend: None)

    assert [made.points("x"), made.points("x")] == [[({"a": "b"}, 1.0)], [({"a": "b"}, 2.0)]]


async def test_a_front_doors_state_is_read_where_it_is() -> None:
    """Circuits and calls by backend and deployment; slots, drains, bodies; what is being published."""
    throttled = FakeAnswer(429, (("retry-after", "30"),), [b"{}"])
    made, front = Exported(), door(throttled)
    await front.call()
    made.monitoring.watch(gauges_of(front.front_door, FakeSinkState()), lambda _backend: None)  # type: ignore[arg-type]  # what gauges read of it

    place = {"aoai_meter.backend": "a", "aoai_meter.deployment": "gpt"}
    assert made.points(names.CIRCUIT_OPEN) == [(place, 1)]
    assert made.points(names.ACTIVE_CALLS) == [(place, 0)]
    assert made.points(f"{names.SLOTS}.used") == [({}, 0)]
    assert made.points(f"{names.SLOTS}.limit") == [({}, 100)]
    assert made.points(f"{names.DRAINS}.limit") == [({}, 10)]
    assert made.points(f"{names.BODY_BUDGET}.limit") == [({}, 1_000_000_000)]
    assert made.points(names.PENDING) == [({}, 7)]
    assert made.points(names.UNPUBLISHED) == [({}, 2)]
    assert made.points(names.HUB_CIRCUIT_OPEN) == [({}, 1)]


async def test_a_circuit_that_has_closed_reads_0() -> None:
    """It never opened, or its cooldown is over."""
    made, front = Exported(), door(json_answer(200, SERVED))
    await front.call()
    made.monitoring.watch(gauges_of(front.front_door, FakeSinkState()), lambda _backend: None)  # type: ignore[arg-type]  # what gauges read of it

    assert [value for _, value in made.points(names.CIRCUIT_OPEN)] == [0]


def test_a_backend_has_an_address_as_long_as_it_is_configured() -> None:
    """Backends may change while the app runs."""
    front = door().front_door

    assert url_of(front, "a") == "https://a.example"
    assert url_of(front, "gone") is None


class FakeSinkState:
    """What gauges read of a sink."""

    pending = 7
    unpublished = 2
    is_hub_circuit_open = True
