"""Decoding: what is an event, what is a dead letter and why, and which events are not affected."""

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meter.ledger.decode import Decoded, Message, Reason, Refusal, decode
from meter.usage import COUNT_NAMES, TokenUsage, ToolUsage, UsageEvent, encode_event
from tests.support.events import (
    EVENT,
    NOW,
    RETENTION,
    document,
    document_with_data,
    event_id,
    json_message,
    message,
    raw_message,
    usage_event,
)


def decoded(*messages: Message) -> Decoded:
    return decode(messages, now=NOW, retention=RETENTION)


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in document().items() if key != name}


def reasons(found: Decoded) -> list[Reason]:
    return [letter.reason for letter in found.dead_letters]


def test_a_batch_gives_its_events_in_order() -> None:
    """A message holds the calls that ended together."""
    events = [usage_event(1), usage_event(2), usage_event(3)]
    found = decoded(message(*events[:2]), message(events[2], sequence_number=2))

    assert list(found.events) == events
    assert found.dead_letters == ()


def test_a_message_may_hold_a_single_event() -> None:
    """`application/cloudevents+json` is taken as well as a batch."""
    found = decoded(raw_message(encode_event(EVENT)))

    assert found.events == (EVENT,)


def test_unknown_fields_are_ignored() -> None:
    """Newer front doors may send more, at any depth."""
    newer = document(dataschema="https://x", traceparent="00-1")
    newer["data"]["surprise"] = {"deep": [1]}
    newer["data"]["usage"]["video_tokens"] = 1
    newer["data"]["principal"]["shoe_size"] = 42
    newer["data"]["attempts"][0]["region"] = "eu"
    found = decoded(json_message([newer]))

    assert found.events == (EVENT,)


def test_the_last_of_two_members_with_one_name_counts() -> None:
    """JSON leaves it open; what Python's reader does is fixed here."""
    body = encode_event(EVENT)[:-1] + b',"subject":"bob"}'
    found = decoded(raw_message(body))

    assert [event.subject for event in found.events] == ["bob"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.NOT_JSON),
        (b"\xff\xfe", Reason.NOT_JSON),
        (b'{"id": "\xe9"}', Reason.NOT_JSON),
        (b"[{}", Reason.NOT_JSON),
        (b"[" * 100_000, Reason.NOT_JSON),
        (b"[" * 100_000 + b"]" * 100_000, Reason.NOT_JSON),
        (b"[]", Reason.NOT_AN_EVENT),
        (b"9" * 5_000, Reason.NOT_AN_EVENT),
        (b"null", Reason.NOT_AN_EVENT),
        (b'"text"', Reason.NOT_AN_EVENT),
        (b"NaN", Reason.NOT_AN_EVENT),
        (b"[null]", Reason.NOT_AN_EVENT),
        (b"[[]]", Reason.NOT_AN_EVENT),
        (b"[" * 9_000 + b"]" * 9_000, Reason.NOT_AN_EVENT),
        (b"{}", Reason.UNKNOWN_TYPE),
        (b'{"type": null}', Reason.UNKNOWN_TYPE),
        (b'{"type": "aoai.meter.usage.v2"}', Reason.UNKNOWN_TYPE),
        (b'{"type": ' + b"[" * 9_000 + b"]" * 9_000 + b"}", Reason.UNKNOWN_TYPE),
        (b'{"type": "aoai.meter.usage.v1"}', Reason.INVALID_FIELD),
    ],
)
def test_what_is_no_event_is_a_dead_letter(body: bytes, reason: Reason) -> None:
    """Whatever a hub message holds, decoding it raises nothing and loses nothing."""
    found = decoded(raw_message(body))

    assert reasons(found) == [reason]
    assert found.events == ()


@pytest.mark.parametrize("name", sorted(document()))
def test_every_member_of_the_envelope_but_the_content_type_is_needed(name: str) -> None:
    """An event without one of them is not guessed at."""
    found = decoded(json_message(without(name)))

    assert len(found.dead_letters) == (0 if name == "datacontenttype" else 1)


OPTIONAL = {
    "context",
    "deployment_type",
    "model",
    "region",
    "service_tier",
    "tier",
    "tool_usage",
    "api_version",
    "backend",
    "spilled_from",
    "usage_raw",
    "time_to_first_byte_ms",
}


@pytest.mark.parametrize("name", sorted(document()["data"]))
def test_every_member_of_data_that_has_always_a_value_is_needed(name: str) -> None:
    """Only members that may be null may be absent, and those that older front doors do not send."""
    found = decoded(json_message(document_with_data(**{name: ...})))

    assert reasons(found) == ([] if name in OPTIONAL else [Reason.INVALID_FIELD])


@pytest.mark.parametrize("name", ["context", "tier", "tool_usage"])
def test_what_older_front_doors_do_not_send_has_the_value_that_it_had_then(name: str) -> None:
    """Absent or null: a standard call of short context, without tools."""
    absent = document_with_data(**{name: ...})
    null = document_with_data(**{name: None})
    found = decoded(json_message([absent, null]))

    assert found.events == (EVENT, EVENT)


def tool(deployment: str = "images", model: str | None = "m", **counts: int) -> dict[str, Any]:
    usage = {**document()["data"]["usage"], "prompt_tokens": 0, "completion_tokens": 0}
    return {
        "deployment": deployment,
        "model": model,
        "usage": {**usage, "total_tokens": 0, **counts},
    }


def test_tools_of_one_deployment_and_model_are_one() -> None:
    """Added up, in the order in which they first came; another model is another one."""
    tools = [
        tool(image_tokens=1),
        tool("other", total_tokens=5),
        tool(image_tokens=2),
        tool(model=None, seconds=1),
    ]
    found = decoded(json_message(document_with_data(tool_usage=tools)))

    (event,) = found.events
    assert isinstance(event, UsageEvent)
    assert event.tool_usage == (
        ToolUsage(deployment="images", model="m", usage=TokenUsage(image_tokens=3)),
        ToolUsage(deployment="other", model="m", usage=TokenUsage(total_tokens=5)),
        ToolUsage(deployment="images", model=None, usage=TokenUsage(seconds=1)),
    )


@pytest.mark.parametrize(("different", "refused"), [(8, False), (9, True), (1, False)])
def test_a_call_has_tools_of_eight_deployments_at_most(different: int, refused: bool) -> None:
    """Its rows must fit into one transaction, whatever the number of entries."""
    tools = [tool(f"d{number % different}") for number in range(50 if different < 9 else 9)]
    found = decoded(json_message(document_with_data(tool_usage=tools)))

    assert reasons(found) == ([Reason.INVALID_FIELD] if refused else [])
    assert all(
        letter.detail.startswith("data.tool_usage must be of 8 deployments at most")
        for letter in found.dead_letters
    )


@pytest.mark.parametrize(
    ("tools", "path"),
    [
        ({}, "data.tool_usage"),
        ([7], "data.tool_usage"),
        ([tool(), tool(deployment="")], "data.tool_usage[1].deployment"),
        ([tool(image_tokens=-1)], "data.tool_usage[0].usage.image_tokens"),
        ([{"deployment": "d", "model": None}], "data.tool_usage[0].usage"),
    ],
    ids=str,
)
def test_a_refusal_names_the_path_inside_a_tool(tools: object, path: str) -> None:
    """Its tokens are charged like those of the call."""
    found = decoded(json_message(document_with_data(tool_usage=tools)))

    assert reasons(found) == [Reason.INVALID_FIELD]
    assert found.dead_letters[0].detail.startswith(f"{path} must be ")


@pytest.mark.parametrize("name", ["region", "deployment_type", "service_tier"])
@pytest.mark.parametrize(
    ("value", "read"),
    [("x" * 300, "x" * 128), ("\u202e\x00", None), (7, None), ([], None), ("turbo\n", "turbo")],
    ids=str,
)
def test_what_only_says_more_of_a_call_is_cut_and_never_refused(
    name: str, value: object, read: str | None
) -> None:
    """No count depends on it."""
    found = decoded(json_message(document_with_data(**{name: value})))

    assert [getattr(event, name) for event in found.events] == [read]


@pytest.mark.parametrize(
    ("value", "read"),
    [("  Ada\u200b Wong ", "Ada Wong"), ("y" * 300, "y" * 128), (7, None)],
    ids=str,
)
def test_a_callers_name_is_cut_and_never_refused(value: object, read: str | None) -> None:
    """It is for people to read."""
    principal = {**document()["data"]["principal"], "name": value}
    found = decoded(json_message(document_with_data(principal=principal)))

    (event,) = found.events
    assert isinstance(event, UsageEvent)
    assert event.principal.name == read


MANDATORY_COUNTS = {
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cached_tokens",
    "reasoning_tokens",
}


@pytest.mark.parametrize("name", COUNT_NAMES)
def test_a_count_that_is_absent_is_0_unless_it_is_mandatory(name: str) -> None:
    """Counts that are added to the contract later are absent from older events."""
    usage = {key: value for key, value in document()["data"]["usage"].items() if key != name}
    found = decoded(json_message(document_with_data(usage=usage)))

    assert reasons(found) == ([Reason.INVALID_FIELD] if name in MANDATORY_COUNTS else [])
    assert [getattr(event.usage, name) for event in found.events] == [0] * len(found.events)


@pytest.mark.parametrize("name", ["total_tokens", "audio_tokens"])
def test_a_count_that_is_present_must_be_a_count(name: str) -> None:
    """A count that may be absent may still not be null."""
    usage = {**document()["data"]["usage"], name: None}
    found = decoded(json_message(document_with_data(usage=usage)))

    assert reasons(found) == [Reason.INVALID_FIELD]


@pytest.mark.parametrize("value", [True, 1.0, 1.5, -1, 10**12 + 1, 10**400, "1", None, [], {}])
def test_a_count_is_a_whole_number_in_bounds(value: object) -> None:
    """No bool, no fraction, nothing negative, absurd or quoted is ever added up."""
    usage = {**document()["data"]["usage"], "total_tokens": value}
    found = decoded(json_message(document_with_data(usage=usage)))

    assert reasons(found) == [Reason.INVALID_FIELD]
    assert found.dead_letters[0].detail.startswith("data.usage.total_tokens must be a whole number")


@pytest.mark.parametrize("number", [b"NaN", b"Infinity", b"-Infinity", b"1e400", b"1E2"])
def test_a_count_that_is_no_integer_literal_is_refused(number: bytes) -> None:
    """What Python's reader takes beyond JSON is not taken as a count."""
    body = encode_event(EVENT).replace(
        b'"total_tokens":15,"cached', b'"total_tokens":%b,"cached' % number
    )
    found = decoded(raw_message(body))

    assert reasons(found) == [Reason.INVALID_FIELD]


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"specversion": "0.3"}, "specversion"),
        ({"id": "17"}, "id"),
        ({"id": 17}, "id"),
        ({"source": ""}, "source"),
        ({"subject": ""}, "subject"),
        ({"subject": "x" * 256}, "subject"),
        ({"subject": "\ud800"}, "subject"),
        ({"subject": ["alice"]}, "subject"),
        ({"time": "2026-11-23T07:30:00"}, "time"),
        ({"time": "2026-11-31T07:30:00Z"}, "time"),
        ({"time": "1999-12-31T23:59:59Z"}, "time"),
        ({"time": 1_795_419_000}, "time"),
        ({"data": []}, "data"),
        ({"data": "e30="}, "data"),
    ],
)
def test_a_refusal_names_the_member_of_the_envelope(members: dict[str, Any], path: str) -> None:
    """The detail says which member is wrong and what it must be."""
    found = decoded(json_message(document(**members)))

    assert reasons(found) == [Reason.INVALID_FIELD]
    assert found.dead_letters[0].detail.startswith(f"{path} must be ")


@pytest.mark.parametrize(
    ("members", "path"),
    [
        ({"tier": "gold"}, "data.tier"),
        ({"context": "endless"}, "data.context"),
        ({"outcome": None}, "data.outcome"),
        ({"usage_source": "guessed"}, "data.usage_source"),
        ({"streaming": 1}, "data.streaming"),
        ({"status": 200.0}, "data.status"),
        ({"deployment": "x" * 129}, "data.deployment"),
        ({"model": 4}, "data.model"),
        ({"usage": None}, "data.usage"),
        ({"usage_raw": []}, "data.usage_raw"),
        ({"principal": "alice"}, "data.principal"),
        ({"attempts": None}, "data.attempts"),
        ({"attempts": [1]}, "data.attempts"),
        ({"attempts": [{"backend": "a", "status": 200}]}, "data.attempts[0].duration_ms"),
        ({"started_at": "soon"}, "data.started_at"),
        ({"time_to_first_byte_ms": True}, "data.time_to_first_byte_ms"),
    ],
)
def test_a_refusal_names_the_path_inside_data(members: dict[str, Any], path: str) -> None:
    """Repair starts from the detail alone."""
    found = decoded(json_message(document_with_data(**members)))

    assert reasons(found) == [Reason.INVALID_FIELD]
    assert found.dead_letters[0].detail.startswith(f"{path} must be ")


def test_a_bad_event_takes_none_of_its_neighbours_with_it() -> None:
    """The good events of the message are counted; each letter holds its index and only its own event."""
    good, bad, alien = usage_event(1), document(id="x"), {"type": "other", "n": 1}
    found = decoded(json_message([document(good), bad, 7, alien, document(usage_event(2))]))

    assert [event.id for event in found.events] == [good.id, usage_event(2).id]
    assert [letter.index for letter in found.dead_letters] == [1, 2, 3]
    assert [json.loads(letter.body) for letter in found.dead_letters] == [bad, 7, alien]


def test_a_message_that_is_not_json_is_kept_unchanged() -> None:
    """Its bytes are all there is to repair it from."""
    found = decoded(raw_message(b"\xff{"), message(EVENT, sequence_number=2))

    assert found.dead_letters[0].body == b"\xff{"
    assert found.events == (EVENT,)


@pytest.mark.parametrize(
    ("age", "expected"),
    [
        (RETENTION, []),
        (RETENTION + timedelta(microseconds=1), [Reason.TOO_LATE]),
        (timedelta(minutes=-5), []),
        (timedelta(minutes=-5, microseconds=-1), [Reason.IN_THE_FUTURE]),
    ],
)
def test_events_count_from_the_retention_to_five_minutes_ahead(
    age: timedelta, expected: list[Reason]
) -> None:
    """Both ends included; beyond them a repeat could not be detected, or a clock is wrong."""
    found = decoded(message(usage_event(time=NOW - age)))

    assert reasons(found) == expected


def test_times_are_turned_into_utc() -> None:
    """Other producers may write offsets."""
    found = decoded(json_message(document(time="2026-11-23T09:30:00+02:00")))

    assert found.events[0].time == datetime(2026, 11, 23, 7, 30, tzinfo=UTC)
    assert found.events[0].time.tzinfo is UTC


def test_a_detail_shows_only_the_beginning_of_what_was_refused() -> None:
    """A dead letter's detail stays readable, whatever it is about."""
    found = decoded(json_message(document(subject="x" * 100_000)))

    assert len(found.dead_letters[0].detail) < 200


@pytest.mark.parametrize("member", ["time", "started_at"])
def test_a_time_beyond_what_utc_can_hold_is_a_dead_letter(member: str) -> None:
    """A time that is valid only in its own offset is refused like any other bad time."""
    text = "9999-12-31T23:59:59-01:00"
    value = document(time=text) if member == "time" else document_with_data(started_at=text)
    found = decode([json_message(value)], now=NOW, retention=RETENTION)

    assert [letter.reason for letter in found.dead_letters] == [Reason.INVALID_FIELD]


def test_a_number_too_long_to_read_takes_no_neighbours_with_it() -> None:
    """Python converts no whole number of over 4,300 digits; only the event that has it is refused."""
    bad = encode_event(usage_event(2)).replace(b'"status":200', b'"status":' + b"9" * 5000)
    body = b"[" + encode_event(usage_event(1)) + b"," + bad + b"]"
    found = decode([raw_message(body)], now=NOW, retention=RETENTION)

    assert [event.id for event in found.events] == [event_id(1)]


BAD_VALUES = [
    '{"type": "aoai.meter.usage.v1", "id": 1, "id": 2}',
    '{ "amount" : 1.10, "big": 123456789012345678901234567890 }',
    '"a ] , [ \\" b"',
    '[ 1, [2 ] ,{"x":[ ]} ]',
    "-0.0",
    '"zo\u00eb \\u00eb"',
]


@pytest.mark.parametrize("space", ["", " \n\t\r"])
def test_a_dead_letter_of_a_batch_has_the_text_that_was_received(space: str) -> None:
    """Duplicate members, digits and spelling are what an operator needs to see."""
    values = [encode_event(EVENT).decode(), *BAD_VALUES]
    text = f"{space}[{space}" + f"{space},{space}".join(values) + f"{space}]{space}"
    found = decoded(raw_message(text.encode()))

    assert found.events == (EVENT,)
    assert [letter.body.decode() for letter in found.dead_letters] == BAD_VALUES
    assert [letter.index for letter in found.dead_letters] == [1, 2, 3, 4, 5, 6]


def test_a_message_with_fifty_bad_values_is_fifty_letters() -> None:
    """Few enough to be looked at one by one."""
    found = decoded(json_message([*range(50)]))

    assert [letter.body for letter in found.dead_letters] == [b"%d" % n for n in range(50)]


def test_a_message_with_more_bad_values_is_one_letter_that_holds_all_of_it() -> None:
    """Its good events are counted beside it; a replay of the letter finds their markers."""
    body = b"[" + encode_event(EVENT) + b", 0" * 100_000 + b"]"
    found = decoded(raw_message(body))
    (letter,) = found.dead_letters

    assert found.events == (EVENT,)
    assert (letter.body, letter.index, letter.reason) == (body, 0, Reason.NOT_AN_EVENT)
    assert letter.detail == (
        "100000 of 100001 values; the first of them, at 1: an event is a JSON object, got int"
    )


def test_events_refused_later_become_letters_with_their_own_text() -> None:
    """For a ledger that is closed or damaged: the same letters as if decoding had refused them."""
    body = b"[" + b" , ".join(encode_event(usage_event(n)) for n in range(3)) + b"]"
    found = decoded(raw_message(body), raw_message(encode_event(usage_event(7))))
    refusal = Refusal(Reason.MONTH_CLOSED, "why")
    letters = found.letters_of({("alice", event_id(n)): refusal for n in (1, 7, 9)})

    assert [(letter.index, letter.body) for letter in letters] == [
        (1, encode_event(usage_event(1))),
        (0, encode_event(usage_event(7))),
    ]
    assert {(letter.reason, letter.detail) for letter in letters} == {(Reason.MONTH_CLOSED, "why")}


@pytest.mark.parametrize("behind", [timedelta(seconds=301), timedelta(days=40)])
def test_a_clock_that_is_behind_refuses_nothing_that_has_just_happened(behind: timedelta) -> None:
    """The hub's own time of the message counts as well."""
    found = decode([message(EVENT)], now=NOW - behind, retention=RETENTION)

    assert found.events == (EVENT,)


def test_an_event_that_ends_after_its_message_was_taken_is_in_the_future() -> None:
    """More than 5 minutes after both the clock and the hub's time."""
    ahead = usage_event(time=NOW + timedelta(minutes=5, microseconds=1))
    found = decode([message(ahead)], now=NOW - timedelta(days=1), retention=RETENTION)

    assert reasons(found) == [Reason.IN_THE_FUTURE]
