"""The terms of a reconciliation: its range, its tolerance, and texts that are none."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from meter.errors import MonitorUnavailable
from meter.reports.terms import make_terms, parse_tolerance
from meter.window import parse_window

NOON = datetime(2026, 11, 23, 12, 20, tzinfo=UTC)


def range_of(
    first: str | None = None, last: str | None = None, now: datetime = NOON
) -> tuple[str, str, tuple[str, ...]]:
    found = make_terms(
        first=parse_window(first) if first else None,
        last=parse_window(last) if last else None,
        tolerance=Fraction(1, 200),
        ignored=frozenset(),
        now=now,
    )
    return found.query.first.name, found.query.last.name, found.notes


@pytest.mark.parametrize(
    ("first", "last", "expected"),
    [
        (None, None, ("2026-11-22T00", "2026-11-22T23")),
        ("2026-11-20", None, ("2026-11-20T00", "2026-11-23T10")),
        (None, "2026-11-20", ("2026-11-20T00", "2026-11-20T23")),
        ("2026-11-21T05", "2026-11-21T05", ("2026-11-21T05", "2026-11-21T05")),
        ("2026-10", "2026-10", ("2026-10-01T00", "2026-10-31T23")),
    ],
)
def test_a_range_holds_all_of_the_windows_it_names(
    first: str | None, last: str | None, expected: tuple[str, str]
) -> None:
    """Yesterday by default; whole days and months; nothing is cut that is complete."""
    assert range_of(first, last) == (*expected, ())


def test_a_range_that_reaches_into_the_last_hour_is_cut_and_says_so() -> None:
    """At 12:20 the hour from 11 to 12 may still lack metrics; the one before has settled."""
    first, last, notes = range_of("2026-11-23", "2026-11-23")

    assert (first, last) == ("2026-11-23T00", "2026-11-23T10")
    assert notes == ("hours from 2026-11-23T11 on are left out: they are not complete yet",)


def test_a_range_beyond_the_retention_of_metrics_is_cut_and_says_so() -> None:
    """93 days before 23 November, 12:20, is 22 August, 12:20: the next whole hour is the first."""
    first, last, notes = range_of("2026-08", "2026-08")

    assert (first, last) == ("2026-08-22T13", "2026-08-31T23")
    assert notes == ("hours before 2026-08-22T13 are left out: metrics are kept for 93 days",)


@pytest.mark.parametrize(
    ("first", "last"),
    [("2026-11-23T12", None), ("2026-11-24", "2026-11-25"), (None, "2026-12"), (None, "2026-07")],
)
def test_a_range_without_complete_hours_is_refused_with_those_there_are(
    first: str | None, last: str | None
) -> None:
    """Too new or too old: the range is valid, but nothing can be compared."""
    with pytest.raises(MonitorUnavailable, match="from 2026-08-22T13 to 2026-11-23T10 only"):
        range_of(first, last)


@pytest.mark.parametrize(
    ("words", "accepted"),
    [
        ({"first": "yesterday"}, "YYYY-MM-DD"),
        ({"last": "2026-02-30"}, "YYYY-MM-DD"),
        (
            {"first": "2026-11-22", "last": "2026-11-21"},
            "the start 2026-11-22 is after the end 2026-11-21",
        ),
    ],
)
def test_a_range_that_is_none_is_refused_with_what_is_accepted(
    words: dict[str, str], accepted: str
) -> None:
    """The message alone is enough to correct the range; it names no flag of a command."""
    with pytest.raises(ValueError, match=accepted):
        range_of(words.get("first"), words.get("last"))


@pytest.mark.parametrize("text", ["half", "-1%", "101", "1/0"])
def test_a_tolerance_that_is_none_is_refused_with_what_is_accepted(text: str) -> None:
    """The message alone is enough to correct the tolerance."""
    with pytest.raises(ValueError, match=f"percentage from 0 to 100, like 0.5%; got '{text}'"):
        parse_tolerance(text)


@pytest.mark.parametrize(
    ("text", "share"), [("0.5%", "1/200"), ("0.5", "1/200"), (" 2 % ", "1/50"), ("0", "0")]
)
def test_a_tolerance_is_a_percentage_with_or_without_its_sign(text: str, share: str) -> None:
    """It is exact, so that a difference at the edge is judged alike everywhere."""
    assert parse_tolerance(text) == Fraction(share)
