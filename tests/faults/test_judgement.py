"""The verdict of the fault tests finds errors; a verdict that finds nothing proves nothing."""

from typing import Any

import pytest

from tests.faults.books import Books
from tests.faults.calling import Call, judge
from tests.faults.soak_http import Sample, has_grown, slope

GOOD_SUMS = {"2026-11-23T07": (2, 25), "2026-11-23": (2, 25), "2026-11": (2, 25)}
CALLS = [
    Call(subject="a", started=0, event_id="e1", request_id="r1", is_seen=True),
    Call(subject="a", started=1, event_id="e2", request_id="r2", is_seen=True),
    Call(subject="a", started=2, event_id="e3", request_id="r3", is_seen=False),
    Call(subject="a", started=3),
]


def books(**changes: Any) -> Books:
    stored: dict[str, Any] = {
        "calls": {"a": {"e1": 10, "e2": 15}},
        "sums": {"a": GOOD_SUMS},
        "views": {"a": GOOD_SUMS},
        "subjects": {},
        "dead_letters": (),
    }
    return Books(**(stored | changes))


def bills(*, tokens: int = 15) -> dict[str, Any]:
    return {
        "r1": {"caller_subject": "a", "usage": {"total_tokens": 10}},
        "r2": {"caller_subject": "a", "usage": {"total_tokens": tokens}},
        "r3": {"caller_subject": "a", "usage": {"total_tokens": 99}},
        "r4": {"caller_subject": "somebody else", "usage": {"total_tokens": 1}},
    }


def test_calls_that_are_counted_once_are_well() -> None:
    """A call whose caller did not see its end may be missing."""
    judgement = judge(CALLS, books(), bills())

    assert judgement.problems == []
    assert (judgement.made, judgement.seen) == (4, 2)
    assert (judgement.counted, judgement.recorded) == (2, 3)


def test_a_seen_call_without_its_marker_is_lost() -> None:
    """It is lost even if the sums are right."""
    judgement = judge(CALLS, books(calls={"a": {"e1": 10}}), bills())

    assert judgement.lost == ["a e2"]


def test_a_call_with_other_tokens_than_billed_differs() -> None:
    """Calls are compared one by one, so that two errors cannot cancel out."""
    judgement = judge(CALLS, books(), bills(tokens=16))

    assert [text.partition(":")[0] for text in judgement.problems] == ["a e2"]
    assert len(judgement.differing) == 1


@pytest.mark.parametrize("where", ["sums", "views"])
@pytest.mark.parametrize("window", list(GOOD_SUMS))
def test_a_sum_that_is_not_that_of_the_markers_is_found(where: str, window: str) -> None:
    """In the ledger and in the views, by hour, day and month: counted twice, or never."""
    high, low = (
        judge(CALLS, books(**{where: {"a": {**GOOD_SUMS, window: totals}}}), bills())
        for totals in ((3, 40), (1, 10))
    )

    assert (len(high.doubled), len(high.problems)) == (1, 1)
    assert (len(low.missing), len(low.problems)) == (1, 1)


def test_more_calls_counted_than_billed_is_doubled() -> None:
    """Two events of one call, each with an id of its own, would look well in the ledger alone."""
    found = {"e1": 10, "e2": 15, "e3": 0, "e4": 0}
    sums = dict.fromkeys(GOOD_SUMS, (4, 25))
    stored = books(calls={"a": found}, sums={"a": sums}, views={"a": sums})
    judgement = judge(CALLS, stored, bills())

    assert judgement.doubled == ["a: 4 calls counted, 3 billed"]


def test_the_slope_of_memory_is_per_100_000_calls() -> None:
    """Least squares; one sample, or samples of no calls, have none."""
    growing = [Sample(calls=calls, megabytes=100 + calls / 10_000) for calls in (0, 500, 900)]

    assert slope(growing) == pytest.approx(10)
    assert slope(growing[:1]) == 0
    assert slope([growing[0], growing[0]]) == 0


@pytest.mark.parametrize(
    ("calls", "growth", "expected"),
    [
        (30_000, 2.9, False),  # steps of the allocator
        (30_000, 3.1, True),
        (30_000, 0.0, False),
        (200_000, 9.9, False),  # in a long run the slope decides
        (200_000, 10.1, True),
        (200_000, -20.0, False),
    ],
)
def test_memory_has_grown_by_more_than_its_steps(calls: int, growth: float, expected: bool) -> None:
    """By 3 MB, or by 5 MB per 100,000 calls where these are more."""
    samples = [
        Sample(calls=calls * part // 10, megabytes=98 + growth * part / 10) for part in range(11)
    ]

    assert has_grown(samples) is expected
    assert not has_grown([])
