"""Decoding: encoded events are read back unchanged, and no input raises."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from meter.ledger.decode import decode, read_event
from meter.usage import COUNT_NAMES, UsageEvent, encode_batch, encode_event
from tests.support.events import (
    EVENT,
    NOW,
    RETENTION,
    document,
    json_message,
    raw_message,
    usage_events,
)

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
PATHS = [
    *((name,) for name in document()),
    *(("data", name) for name in document()["data"]),
    *(("data", "usage", name) for name in COUNT_NAMES),
    *(("data", "principal", name) for name in document()["data"]["principal"]),
]


@given(usage_events())
def test_an_encoded_event_reads_back_as_it_was(event: UsageEvent) -> None:
    """The wire form keeps every field of every event."""
    (found,) = decode(
        [raw_message(encode_event(event))],
        now=datetime(2100, 1, 2, tzinfo=UTC),
        retention=timedelta(days=40_000),
    ).events

    assert found == event


@given(st.lists(usage_events(), min_size=1, max_size=4))
def test_a_batch_reads_back_as_its_events(events: list[UsageEvent]) -> None:
    """Joining encoded events is the same as encoding a list of them."""
    found = decode(
        [raw_message(encode_batch(map(encode_event, events)))],
        now=datetime(2100, 1, 2, tzinfo=UTC),
        retention=timedelta(days=40_000),
    )

    assert list(found.events) == events
    assert found.dead_letters == ()


@given(st.binary(max_size=200))
def test_any_bytes_are_an_event_or_a_dead_letter(body: bytes) -> None:
    """No input stops the aggregator, and none of it is lost."""
    found = decode([raw_message(body)], now=NOW, retention=RETENTION)

    assert len(found.events) + len(found.dead_letters) >= 1


@given(st.sampled_from(PATHS), ANY_JSON)
@example(("time",), "9999-12-31T23:59:59Z")
def test_an_event_with_any_one_member_changed_is_read_or_refused(
    path: tuple[str, ...], value: Any
) -> None:
    """Each member is checked before it is used."""
    changed = document()
    place = changed
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    found = decode([json_message([changed, document()])], now=NOW, retention=RETENTION)

    assert EVENT in found.events
    assert len(found.events) + len(found.dead_letters) == 2


@given(usage_events())
def test_read_event_is_the_inverse_of_the_document(event: UsageEvent) -> None:
    """The document of an event determines it fully."""
    found = read_event(document(event))

    assert found == event
