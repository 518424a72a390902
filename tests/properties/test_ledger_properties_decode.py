"""Decoding: encoded events are read back unchanged, and no input raises."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from meter.ledger.decode import decode, read_event
from meter.ledger.reading.shortcut import read_plain
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
# JSON as it may stand on the hub, not only as `json` writes it; with a comma, it adds members.
ODD_JSON = [
    *(
        "1.0",
        "1e2",
        "-0",
        "-1",
        "01",
        "NaN",
        "Infinity",
        "1e999",
        "true",
        "null",
        "[]",
        "{}",
        "[null]",
    ),
    *("1000000000000", "1000000000001", "9" * 40, "9" * 5_000, "[" * 9 + "]" * 9, "[" * 99_999),
    *(
        '""',
        '" "',
        '"1"',
        '"\\ud800"',
        '"\\udc00\\ud83d"',
        '"\\ud83d\\ude00"',
        '"\t"',
        '"\\t"',
        '"\\u0000"',
    ),
    *(
        '"\\x41"',
        '"\\u+041"',
        '"\x7f\u202ea"',
        '"\u0661"',
        '"\ufeff"',
        '"a\u2028 b "',
        '"standard"',
        '"Standard"',
    ),
    *(f'"{"x" * length}"' for length in (128, 129, 255, 256, 1024, 1025)),
    *(f'"{chr(0x1F600) * length}"' for length in (128, 129, 255, 256)),
    *(
        f'"2026-11-23T07:30:00{rest}"'
        for rest in ("", "Z", "z", "+00:00", "-00:00", "+01:00", "+00:00:01")
    ),
    *(
        f'"2026-11-23T07:30:0{rest}"'
        for rest in ("0,5Z", "0.1234567Z", "0.9999999Z", "60Z", "0.1\u0661Z")
    ),
    *('"2026-11-23 07:30:00Z"', '"20261123T073000Z"', '"2026-W48-1T07Z"', '"1999-12-31T23:59:59Z"'),
    *('"2026-11-23T24:00:00Z"', '"0001-01-01T00:00:00+01:00"', '"2000-01-01T00:00:00+23:59"'),
    *(
        f'"{EVENT.id}"',
        f'"{EVENT.id.hex}"',
        f'"{EVENT.id}"'.upper(),
        f'"{EVENT.id.urn}"',
        f'"{{{EVENT.id}}}"',
    ),
    *(
        f'"{EVENT.id.hex[:-1]}\u0661"',
        f'"{EVENT.id.hex[:-1]}_"',
        f'"-{EVENT.id.hex}"',
        f'" {EVENT.id.hex}"',
    ),
    *(
        'null,"status":7',
        '1,"\\u0073tatus":8',
        '2,"status":"x"',
        '3,"subject":"bob","source":"/b"',
        '4,"new":5',
    ),
    *(
        '[{"deployment":"a","model":null,"usage":{}}]',
        '[{"backend":"a","status":true,"duration_ms":1}]',
    ),
    *(
        '{"a":{"b":{"c":[1,{"d":2.5e-9}]}}}',
        '{"a":0.1,"a":[-1,"\\u00e9"]}',
        '{"a":1e999}',
        '[{"a":1},2]',
    ),
]
TEXTS = st.sampled_from(ODD_JSON) | ANY_JSON.map(json.dumps)


def spliced(changes: dict[tuple[str, ...], str]) -> str:
    """The text of an event with JSON texts in place of some members."""
    whole = document()
    paths = sorted(changes, key=len, reverse=True)  # what is inside of another one first
    for number, path in enumerate(paths):
        place = whole
        for name in path[:-1]:
            place = place[name]
        place[path[-1]] = f"@{number}@"
    text = json.dumps(whole)
    for number, path in enumerate(paths):
        text = text.replace(f'"@{number}@"', changes[path])
    return text


def is_read_alike(body: bytes) -> bool:
    """Whether the shortcut leaves the message to the careful reader, or reads the same values.

    Equal texts have equal types, too, which `1 == True` has not.
    """
    plain = read_plain(body)
    if not plain:
        return True
    careful = [read_event(each) for each in json.loads(body.decode())]
    return plain == careful and repr(plain) == repr(careful)


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


@given(st.lists(usage_events(), min_size=1, max_size=3))
def test_what_a_front_door_writes_is_plain(events: list[UsageEvent]) -> None:
    """The shortcut reads any event as it was, if it is written as ours are."""
    assert read_plain(encode_batch(map(encode_event, events))) == events


@settings(max_examples=400)
@given(st.dictionaries(st.sampled_from(PATHS), TEXTS, min_size=1, max_size=3))
def test_the_shortcut_reads_nothing_otherwise(changes: dict[tuple[str, ...], str]) -> None:
    """An odd value is read as the careful reader reads it, or left to that."""
    text = spliced(changes)

    assert is_read_alike(f"[{text}]".encode())
    assert is_read_alike(f"[{json.dumps(document())}, {text}]".encode())


@settings(max_examples=300)
@given(st.data())
def test_the_shortcut_reads_no_damaged_message(data: st.DataObject) -> None:
    """Bytes that were changed, lost or added make it no other event than for the careful reader."""
    body = bytearray(json.dumps([document()], indent=data.draw(st.none() | st.just(1))).encode())
    start = data.draw(st.integers(0, len(body)))
    cut = data.draw(st.integers(0, 3))
    body[start : start + cut] = data.draw(
        st.binary(max_size=2)
        | st.sampled_from([b"\xef\xbb\xbf", b"\xed\xa0\x80", b"\\u0061", b",,", b"{", b"[1]"])
    )

    assert is_read_alike(bytes(body))


@pytest.mark.parametrize("text", ODD_JSON, ids=range(len(ODD_JSON)))
def test_no_odd_value_is_read_otherwise_anywhere(text: str) -> None:
    """Each of them in the place of each member."""
    assert [
        path for path in PATHS if not is_read_alike(f"[{spliced({path: text})}]".encode())
    ] == []


def test_an_event_with_an_unknown_member_is_still_read() -> None:
    """A newer front door's events are not plain, and not refused."""
    body = json.dumps([document(new=1)]).encode()

    assert read_plain(body) == []
    assert decode([raw_message(body)], now=NOW, retention=RETENTION).events == (EVENT,)
