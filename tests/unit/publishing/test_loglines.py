"""The log of last resort: what is written to a log is read back, whole."""

import json
import logging
import random
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter.publishing.loglines import (
    MAX_LINE_BYTES,
    log_lines,
    unpublished_events,
    without_apostrophes,
)
from meter.usage import encode_event
from tests.support.events import usage_event

AT = datetime(2026, 11, 27, 3, 45, 12, 345678, tzinfo=UTC)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3_000)


def written(text: str, level: int = logging.CRITICAL) -> list[str]:
    return [line.decode() for line in log_lines(text, level, AT)]


def event_text(number: int, **changes: str) -> str:
    """An event as JSON; `name` makes it longer."""
    document = json.loads(encode_event(usage_event(number))) | changes
    return json.dumps(document, ensure_ascii=False)


def test_a_line_begins_with_its_word_and_says_time_and_level() -> None:
    """Alerts look for the word; the host's own level is a guess from words."""
    assert written("outbox_stored count=3", logging.INFO) == [
        "outbox_stored at=2026-11-27T03:45:12.345Z level=info count=3"
    ]
    assert written("hub_circuit_closed", logging.WARNING) == [
        "hub_circuit_closed at=2026-11-27T03:45:12.345Z level=warning"
    ]


@pytest.mark.parametrize(
    ("level", "guess"),
    [
        (logging.CRITICAL, "Error"),
        (logging.ERROR, "Error"),
        (logging.WARNING, "Warning"),
        (logging.INFO, "Information"),
    ],
)
def test_the_host_guesses_the_right_level(level: int, guess: str) -> None:
    """By the words of `WorkerProcess.ParseErrorMessageAndLog`, where no other word misleads it."""
    (line,) = written("usage_event_unpublished event={}", level)
    is_error = any(word in line for word in ("error", "fail", "severe"))
    guessed = "Warning" if "warn" in line else "Error" if is_error else "Information"

    assert guessed == guess


def test_a_traceback_is_one_line() -> None:
    """The host takes each line for a message of its own."""
    assert written("call_failed_unexpectedly\nTraceback:\r\n  here", logging.ERROR) == [
        "call_failed_unexpectedly at=2026-11-27T03:45:12.345Z level=error \\n Traceback:\\r \\n   here"
    ]


def test_an_event_is_one_line_and_is_read_back() -> None:
    """Most events are below the limit of a line."""
    event = event_text(1)
    lines = written(f"usage_event_unpublished event={event}")

    assert len(lines) == 1
    assert list(unpublished_events(lines).by_id.values()) == [event.encode()]


@given(texts=st.lists(TEXTS, min_size=1, max_size=4), seed=st.integers())
def test_what_is_written_is_read_back(texts: list[str], seed: int) -> None:
    """Any text, in parts that arrive in any order, twice, trimmed, and with a time before them."""
    events = [event_text(number, filler=text * 3).encode() for number, text in enumerate(texts, 1)]
    lines = [
        line
        for event in events
        for line in written(f"usage_event_unpublished event={event.decode()}")
    ]
    shuffled = [f"2026-11-27 03:45 {line.strip()}\n" for line in lines * 2]
    random.Random(seed).shuffle(shuffled)
    found = unpublished_events(shuffled)

    assert all(len(line.encode()) <= MAX_LINE_BYTES for line in lines)
    assert sorted(found.by_id.values()) == sorted(events)
    assert found.unreadable == []


def test_what_cannot_be_read_is_named() -> None:
    """A part that is missing, a text that is no event, and a line cut in its head."""
    parts = written(f"usage_event_unpublished event={event_text(1, filler='x' * 9_000)}")
    found = unpublished_events(
        [
            *parts[:1],
            *parts[2:],
            *written("usage_event_unpublished event=UsageEvent(id=1)"),
            *written("usage_event_unpublished event=[1]"),
            "usage_event_unpublished at=2026",
            "another line",
        ]
    )

    assert len(parts) == 3
    assert found.by_id == {}
    assert [reason.partition(": ")[2] for reason in found.unreadable if ": " in reason] == [
        "2 of 3 parts"
    ]
    assert len(found.unreadable) == 4


def test_an_event_that_was_exported_as_csv_is_read() -> None:
    """The portal's export doubles quotation marks."""
    event = event_text(1)
    (line,) = written(f"usage_event_unpublished event={event}")
    exported = '"27/11/2026","' + line.replace('"', '""') + '","Error"'

    assert list(unpublished_events([exported]).by_id.values()) == [event.encode()]


def test_an_event_survives_the_host_on_linux() -> None:
    """It drops apostrophes and turns quotation marks into them: a subject must stay the same."""
    event = encode_event(usage_event(1, model='say "o\'clock"')).decode()
    (line,) = written(f"usage_event_unpublished event={without_apostrophes(event)}")
    stored = line.replace("'", "").replace('"', "'")
    (read,) = unpublished_events([stored]).by_id.values()

    assert json.loads(read) == json.loads(event)


def test_events_are_grouped_by_subject_in_the_order_of_the_log() -> None:
    """The hub keeps a subject's events in the order in which they are sent."""
    lines = [
        written(f"usage_event_unpublished event={event_text(number, subject=subject)}")[0]
        for number, subject in [(3, "bob"), (1, "alice"), (2, "bob")]
    ]
    ids = {
        subject: [json.loads(event)["id"] for event in events]
        for subject, events in unpublished_events(lines).by_subject()
    }

    assert ids == {
        "alice": [str(usage_event(1).id)],
        "bob": [str(usage_event(3).id), str(usage_event(2).id)],
    }
