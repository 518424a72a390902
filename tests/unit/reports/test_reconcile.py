"""The comparison with Azure Monitor: its range, which names it compares, and its verdict."""

from datetime import UTC, datetime
from fractions import Fraction

import pytest

from meter.errors import MonitorUnavailable
from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.ledger.view import ViewWriter
from meter.reports.reconcile import (
    Line,
    OwnDeployment,
    Pair,
    Reconciliation,
    Standing,
    Tally,
    make_terms,
    parse_names,
    parse_tolerance,
    read_counted,
    reconcile,
)
from meter.usage import TokenUsage
from meter.window import Window, parse_window
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import dimensions
from tests.support.reconcile import EAST, EIGHT, SEVEN, WEST, own, served, tally, terms

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


def line_of(found: Reconciliation, label: str) -> Line:
    (line,) = [line for line in found.lines if line.label == label]
    return line


def standings(found: Reconciliation) -> dict[str, str]:
    return {line.label: str(line.standing) for line in found.lines}


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


async def test_counted_usage_is_added_up_over_subjects_models_and_tiers() -> None:
    """By public name and hour, within the range only."""
    store = MemoryRowStore()
    sums = Sums(
        calls=3,
        estimated_calls=2,
        missing_calls=1,
        tokens=TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15),
    )
    keys = [
        ("alice", "2026-11-22T07", "gpt-4o", "m"),
        ("bob", "2026-11-22T07", "gpt-4o", "n"),
        ("bob", "2026-11-22T08", "gpt-4o", "n"),
        ("bob", "2026-11-23T00", "gpt-4o", "n"),
        ("bob", "2026-11-22T08", "gpt-4o-mini", "n"),
    ]
    await ViewWriter(store).write(
        SumRow(
            key=SumKey(
                Window(hour),
                dimensions(subject=subject, deployment=name, model=model, tier="standard"),
            ),
            sums=sums,
            revision=1,
        )
        for subject, hour, name, model in keys
    )
    one = tally(10, 5, 3, estimated_calls=2, missing_calls=1)

    assert await read_counted(store, terms().query) == {
        "gpt-4o": {SEVEN: one + one, EIGHT: one},
        "gpt-4o-mini": {EIGHT: one},
    }


def test_a_deployment_is_compared_under_azures_own_name_in_any_case() -> None:
    """Callers say gpt-4o, Azure says GPT-4o-PTU, METER_BACKENDS says gpt-4o-ptu."""
    found = reconcile(
        terms(),
        [served("east", gpt_4o="gpt-4o-ptu")],
        counted={"gpt-4o": {SEVEN: tally(10, 5, 1)}},
        recorded={OwnDeployment(EAST.upper(), "GPT-4o-PTU"): {SEVEN: tally(10, 5, 1)}},
    )

    assert standings(found) == {"gpt-4o": "agrees"}
    assert found.agrees


def test_a_public_name_on_two_accounts_is_compared_with_both_together() -> None:
    """The view does not distinguish backends."""
    found = reconcile(
        terms(),
        [served("east", EAST, gpt_4o="a"), served("west", WEST, gpt_4o="b")],
        counted={"gpt-4o": {SEVEN: tally(30)}},
        recorded={own("a", EAST): {SEVEN: tally(10)}, own("b", WEST): {SEVEN: tally(20)}},
    )

    assert standings(found) == {"gpt-4o": "agrees"}
    assert found.lines[0].own == (own("a", EAST), own("b", WEST))


def test_public_names_that_share_an_own_deployment_are_one_line() -> None:
    """Azure cannot distinguish them, nor those that another shared deployment connects to them."""
    found = reconcile(
        terms(),
        [
            served("east", EAST, fast="a", small="b", lone="c"),
            served("west", WEST, fast="x", cheap="y"),
            served("east-2", EAST, small="a", cheap="b"),
        ],
        counted={
            "fast": {SEVEN: tally(1)},
            "small": {SEVEN: tally(2)},
            "cheap": {SEVEN: tally(4)},
            "lone": {SEVEN: tally(8)},
        },
        recorded={own("a"): {SEVEN: tally(7)}, own("c"): {SEVEN: tally(8)}},
    )

    assert standings(found) == {"cheap, fast, small": "agrees", "lone": "agrees"}


def test_the_same_own_name_on_two_accounts_is_two_deployments() -> None:
    """Only an account and a name together identify a deployment."""
    found = reconcile(
        terms(),
        [served("east", EAST, one="gpt"), served("west", WEST, two="gpt")],
        counted={"one": {SEVEN: tally(10)}, "two": {SEVEN: tally(10)}},
        recorded={own("gpt", EAST): {SEVEN: tally(20)}},
    )

    assert standings(found) == {"one": "differs", "two": "differs"}


def test_a_deployment_that_no_backend_names_is_not_ours_and_fails_the_verdict() -> None:
    """The account is called directly, not through the front door."""
    found = reconcile(
        terms("1/10"),
        [served("east", gpt_4o="gpt-4o")],
        counted={"gpt-4o": {SEVEN: tally(1_000_000)}},
        recorded={
            own("gpt-4o"): {SEVEN: tally(1_000_000)},
            own("stranger"): {SEVEN: tally(3, 4, 1)},
        },
    )

    assert standings(found) == {"east/stranger": "not ours", "gpt-4o": "agrees"}
    assert not found.agrees
    assert found.total.difference("total_tokens") == -7


def test_an_ignored_deployment_is_shown_and_not_judged() -> None:
    """Another team's deployment on the same account; names in any case."""
    found = reconcile(
        terms(ignored=parse_names("x, Stranger")),
        [served("east", gpt_4o="gpt-4o")],
        counted={},
        recorded={own("Stranger"): {SEVEN: tally(3, 4, 1)}},
    )

    assert standings(found) == {"gpt-4o": "agrees", "east/stranger": "ignored"}
    assert found.agrees
    assert found.total.recorded == Tally()


def test_a_deployment_of_others_without_tokens_is_left_out() -> None:
    """Requests to a name that does not exist use no tokens."""
    found = reconcile(
        terms(),
        [served("east", a="a")],
        counted={},
        recorded={own("x"): {SEVEN: tally(calls=9)}},
    )

    assert standings(found) == {"a": "agrees"}


def test_a_deployment_that_was_partly_called_elsewhere_is_not_compared() -> None:
    """A backend without a resource id may have served any part of it: no difference is invented."""
    found = reconcile(
        terms(),
        [
            served("east", EAST, gpt_4o="gpt-4o", other="gpt-4o", mini="mini"),
            served("edge", None, gpt_4o="gpt-4o"),
        ],
        counted={"gpt-4o": {SEVEN: tally(10)}, "mini": {SEVEN: tally(5)}},
        recorded={own("gpt-4o"): {SEVEN: tally(3)}, own("mini"): {SEVEN: tally(5)}},
    )

    line = line_of(found, "gpt-4o, other")
    assert (line.standing, line.reason) == (
        Standing.NOT_COMPARABLE,
        "no resource_id for backend edge",
    )
    assert line.sums == Pair(counted=tally(10), recorded=tally(3))
    assert found.agrees


def test_a_deployment_that_no_backend_serves_any_more_is_not_compared() -> None:
    """The settings are today's, the range may be older."""
    found = reconcile(
        terms(), [served("east", new="new")], counted={"old": {SEVEN: tally(10)}}, recorded={}
    )

    assert line_of(found, "old").reason == "no backend serves old now"
    assert line_of(found, "old").standing is Standing.NOT_COMPARABLE


def test_nothing_compared_is_no_agreement() -> None:
    """A check that checked nothing must not look like one that found nothing."""
    found = reconcile(terms(), [served("edge", None, a="a")], counted={}, recorded={})

    assert not found.agrees
    assert found.beyond == ()


@pytest.mark.parametrize(
    ("counted", "tolerance", "agrees"),
    [
        (tally(995, 200), "1/200", True),
        (tally(1005, 200), "1/200", True),
        (tally(994, 200), "1/200", False),
        (tally(1006, 200), "1/200", False),
        (tally(1000, 199), "1/200", True),
        (tally(1000, 198), "1/200", False),
        (tally(999, 201), "0", False),
        (tally(1000, 200), "0", True),
    ],
)
def test_each_kind_of_token_is_judged_by_itself(
    counted: Tally, tolerance: str, agrees: bool
) -> None:
    """1,000 prompt and 200 completion tokens at Azure; 0.5% are 5 and 1; edges are within."""
    found = reconcile(
        terms(tolerance),
        [served("east", gpt="gpt")],
        counted={"gpt": {SEVEN: counted}},
        recorded={own("gpt"): {SEVEN: tally(1000, 200)}},
    )

    assert found.agrees is agrees


def test_hours_that_differ_at_their_edges_do_not_fail_the_verdict() -> None:
    """Azure records a call at its processing, the meter at its end."""
    found = reconcile(
        terms(),
        [served("east", gpt="gpt")],
        counted={"gpt": {EIGHT: tally(10, 5, 1)}},
        recorded={own("gpt"): {SEVEN: tally(10, 5, 1)}},
    )

    (line,) = found.lines
    assert found.agrees
    assert {hour: pair.gap for hour, pair in line.hours.items()} == {SEVEN: 15, EIGHT: 15}


def test_calls_are_a_hint_and_not_judged() -> None:
    """Azure counts throttled and refused requests too."""
    found = reconcile(
        terms(),
        [served("east", gpt="gpt")],
        counted={"gpt": {SEVEN: tally(10, 5, 1)}},
        recorded={own("gpt"): {SEVEN: tally(10, 5, 90)}},
    )

    assert found.agrees


def test_the_largest_difference_comes_first() -> None:
    """The operator reads from the top."""
    found = reconcile(
        terms(),
        [served("east", a="a", b="b", c="c"), served("edge", None, d="d")],
        counted={"b": {SEVEN: tally(5)}, "c": {SEVEN: tally(50)}},
        recorded={own("z"): {SEVEN: tally(1000)}},
    )

    assert [line.label for line in found.lines] == ["c", "b", "east/z", "a", "d"]


def test_calls_that_cost_nothing_make_no_line() -> None:
    """Stored responses are counted under `unknown` if their deployment is not known."""
    free = {"unknown": {SEVEN: tally(calls=3)}}
    found = reconcile(terms(), [served("east", gpt="gpt")], counted=free, recorded={})

    assert [line.names for line in found.lines] == [("gpt",)]
