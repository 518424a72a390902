"""The usage event's wire form: CloudEvents 1.0 JSON in which every field is always there."""

import json
from copy import replace
from datetime import UTC, datetime, timedelta, timezone
from uuid import UUID

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from meter.usage import (
    Attempt,
    Outcome,
    Principal,
    Tier,
    TokenUsage,
    ToolUsage,
    UsageEvent,
    UsageSource,
    clean_name,
    encode_batch,
    encode_event,
    format_time,
    new_event_id,
)

AT = datetime(2026, 11, 23, 7, 30, 1, 500, tzinfo=UTC)
EVENT_ID = UUID("019a0000-0000-7000-8000-000000000001")


def event(subject: str = "alice") -> UsageEvent:
    """An event in which everything that may be absent is."""
    return UsageEvent(
        id=EVENT_ID,
        source="/aoai-meter/test",
        time=AT,
        principal=Principal(subject=subject, issuer="https://issuer.example"),
        operation="embeddings",
        deployment="embed",
        model=None,
        api_version=None,
        backend=None,
        tier=Tier.STANDARD,
        outcome=Outcome.FAILED,
        status=504,
        streaming=False,
        usage=TokenUsage(),
        usage_source=UsageSource.MISSING,
        started_at=AT,
        duration_ms=12,
        attempts=(Attempt(backend="a", status=None, duration_ms=12),),
    )


def test_every_field_is_present_when_it_has_no_value() -> None:
    """null, 0 or empty, as the contract lists them; of the counts, those that are mandatory."""
    assert json.loads(encode_event(event())) == {
        "specversion": "1.0",
        "type": "aoai.meter.usage.v1",
        "source": "/aoai-meter/test",
        "id": "019a0000-0000-7000-8000-000000000001",
        "subject": "alice",
        "time": "2026-11-23T07:30:01.000500Z",
        "datacontenttype": "application/json",
        "data": {
            "principal": {
                "issuer": "https://issuer.example",
                "tenant": None,
                "object_id": None,
                "client_app": None,
                "name": None,
            },
            "operation": "embeddings",
            "deployment": "embed",
            "model": None,
            "api_version": None,
            "backend": None,
            "region": None,
            "deployment_type": None,
            "tier": "standard",
            "service_tier": None,
            "context": "short",
            "spilled_from": None,
            "outcome": "failed",
            "status": 504,
            "streaming": False,
            "usage": {
                "prompt_tokens": 0,
                "completion_tokens": 0,
                "total_tokens": 0,
                "cached_tokens": 0,
                "reasoning_tokens": 0,
            },
            "tool_usage": [],
            "usage_source": "missing",
            "usage_raw": None,
            "attempts": [{"backend": "a", "status": None, "duration_ms": 12}],
            "started_at": "2026-11-23T07:30:01.000500Z",
            "duration_ms": 12,
            "time_to_first_byte_ms": None,
            "client_retry_count": 0,
        },
    }


def test_counts_that_are_not_0_are_sent_whatever_they_are_of() -> None:
    """Of the call, and of another model that served it as a tool."""
    usage = TokenUsage(total_tokens=7, cache_write_tokens=2, web_search_calls=3)
    tool = ToolUsage(deployment="images", model=None, usage=TokenUsage(image_tokens=4))

    data = json.loads(encode_event(replace(event(), usage=usage, tool_usage=(tool,))))["data"]

    mandatory = {
        "prompt_tokens": 0,
        "completion_tokens": 0,
        "total_tokens": 0,
        "cached_tokens": 0,
        "reasoning_tokens": 0,
    }
    assert data["usage"] == {
        **mandatory,
        "total_tokens": 7,
        "cache_write_tokens": 2,
        "web_search_calls": 3,
    }
    assert data["tool_usage"] == [
        {"deployment": "images", "model": None, "usage": {**mandatory, "image_tokens": 4}}
    ]


@pytest.mark.parametrize(
    ("value", "name"),
    [
        ("Ada Wong", "Ada Wong"),
        ("  Ada\t\n Wong ", "Ada Wong"),
        ("\u202eAda\u200b\x00", "Ada"),
        ("Ad\ud800a", "Ada"),
        ("Zo\u00eb", "Zo\u00eb"),
        ("x" * 129, "x" * 128),
        ("x" * 127 + " y", "x" * 127),
        ("", None),
        (" \u200b ", None),
        (None, None),
        (7, None),
        (["Ada"], None),
    ],
)
def test_a_name_is_one_line_of_visible_characters(value: object, name: str | None) -> None:
    """People read it in reports; what would mislead or break them is left out."""
    assert clean_name(value) == name


@given(st.text(min_size=1, max_size=255))
def test_a_subject_of_any_characters_reads_back(subject: str) -> None:
    """UTF-8, unescaped; JSON readers get the very same text."""
    assert json.loads(encode_event(event(subject)))["subject"] == subject


@pytest.mark.parametrize("raw", [{"x": "\ud800"}, {"\udfff": 1}, {"x": "y" * 32_768}], ids=str)
def test_an_event_goes_without_raw_usage_that_cannot_be_sent(raw: dict[str, object]) -> None:
    """Too long, or no text that UTF-8 can write; the counts are still sent."""
    one = replace(event(), usage=TokenUsage(total_tokens=7), usage_raw=raw)

    data = json.loads(encode_event(one))["data"]

    assert (data["usage_raw"], data["usage"]["total_tokens"]) == (None, 7)


def test_raw_usage_is_sent_as_the_backend_wrote_it() -> None:
    """Also what is not counted yet."""
    raw = {"total_tokens": 7, "cache_write_tokens": 2, "note": "\u00e9"}

    data = json.loads(encode_event(replace(event(), usage_raw=raw)))["data"]

    assert data["usage_raw"] == raw


def test_a_batch_is_an_array_of_its_events() -> None:
    """Joined without being read again."""
    encoded = [encode_event(event("a")), encode_event(event("b"))]

    batch = json.loads(encode_batch(encoded))

    assert [one["subject"] for one in batch] == ["a", "b"]


def test_a_batch_of_nothing_is_an_empty_array() -> None:
    """Still a batch."""
    assert encode_batch([]) == b"[]"


def test_times_are_written_in_utc() -> None:
    """Whatever zone they are given in."""
    east = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))

    assert format_time(east) == "2026-11-23T07:30:01.000500Z"


@given(st.binary(min_size=10, max_size=10))
def test_an_event_id_is_a_uuid_of_version_7(entropy: bytes) -> None:
    """RFC 9562 section 5.7: version, variant and the milliseconds, whatever the dice say."""
    event_id = new_event_id(AT, entropy)

    assert (event_id.version, event_id.variant) == (7, "specified in RFC 4122")
    assert event_id.int >> 80 == 1_795_419_001_000


@given(st.binary(min_size=10, max_size=10), st.binary(min_size=10, max_size=10))
def test_different_dice_give_different_ids(one: bytes, other: bytes) -> None:
    """74 random bits: two calls of one millisecond are apart when their first 74 bits are."""
    same = int.from_bytes(one) & ((1 << 74) - 1) == int.from_bytes(other) & ((1 << 74) - 1)

    assert (new_event_id(AT, one) == new_event_id(AT, other)) is same


def test_an_event_id_has_the_last_74_bits_of_the_dice() -> None:
    """12 behind the version, 62 behind the variant: an id that is made again is the same in every release."""
    entropy = bytes.fromhex("fedcba9876543210abcd")

    assert new_event_id(AT, entropy) == UUID("01a2074f-d0a8-7b72-ba98-76543210abcd")


def test_ids_sort_by_time() -> None:
    """A later millisecond is a greater id, whatever the dice say."""
    assert new_event_id(AT, b"\xff" * 10) < new_event_id(AT + timedelta(milliseconds=1), bytes(10))


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.just("\ud800")),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)
    ),
    max_leaves=6,
)


@given(st.dictionaries(st.text(max_size=3), JSON_VALUES, max_size=3))
@example({"a": float("nan")})
@example({"a": [None, {"b": float("-inf")}]})
@example({"a": None, "b": 2**64, "c": -0.0, "d": 1e-310})
def test_what_the_backend_reported_is_read_back_as_it_was(raw: dict[str, object]) -> None:
    """Every number, or nothing where JSON or UTF-8 does not have one of its values."""
    try:
        text = json.dumps(raw, ensure_ascii=False, allow_nan=False)
        text.encode()
    except ValueError:
        text = "null"

    document = json.loads(encode_event(replace(event(), usage_raw=raw)))

    assert repr(document["data"].pop("usage_raw")) == repr(json.loads(text))
    without = json.loads(encode_event(event()))
    assert without["data"].pop("usage_raw") is None
    assert document == without


@given(
    st.datetimes(
        min_value=datetime(2000, 1, 1),  # noqa: DTZ001  # a naive one is asked for
        timezones=st.sampled_from([UTC, timezone(timedelta(hours=2))]),
    )
)
@example(datetime(2026, 11, 23, 7, 30, 1, tzinfo=UTC))
def test_times_of_an_event_have_microseconds(moment: datetime) -> None:
    """Always six digits, in UTC."""
    document = json.loads(encode_event(replace(event(), time=moment, started_at=moment)))

    assert document["time"] == document["data"]["started_at"] == format_time(moment)
    assert len(document["time"]) == len("2026-11-23T07:30:01.000500Z")
