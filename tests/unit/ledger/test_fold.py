"""Folding: which column each kind of call counts in."""

from datetime import timedelta

import pytest

from meter.ledger.fold import Sums, fold, sums_of
from meter.ledger.keys import SumKey
from meter.usage import Outcome, Tier, TokenUsage, UsageSource
from meter.window import Window
from tests.support.events import NOW, usage_event
from tests.support.ledger import dimensions

NAMES = dimensions(subject="alice", deployment="gpt-4o", model="gpt-4o-2024-11-20", tier="standard")


@pytest.mark.parametrize(
    ("outcome", "failed"),
    [
        (Outcome.SERVED, 0),
        (Outcome.DISCONNECTED, 0),
        (Outcome.REFUSED, 1),
        (Outcome.FAILED, 1),
    ],
)
def test_failed_calls_are_those_refused_or_failed(outcome: Outcome, failed: int) -> None:
    """A caller who left was served; one who got an error was not."""
    sums = sums_of(usage_event(outcome=outcome))

    assert (sums.calls, sums.failed_calls) == (1, failed)


@pytest.mark.parametrize(
    ("source", "estimated", "missing"),
    [
        (UsageSource.REPORTED, 0, 0),
        (UsageSource.ESTIMATED, 1, 0),
        (UsageSource.MISSING, 0, 1),
    ],
)
def test_a_number_says_where_it_comes_from(
    source: UsageSource, estimated: int, missing: int
) -> None:
    """Estimated and missing usage are counted as calls of their own kind."""
    sums = sums_of(usage_event(usage_source=source))

    assert (sums.calls, sums.estimated_calls, sums.missing_calls) == (1, estimated, missing)


def test_every_token_count_is_added_to_its_own_column() -> None:
    """No field is mixed up with another."""
    left = TokenUsage(
        prompt_tokens=1,
        completion_tokens=2,
        total_tokens=3,
        cached_tokens=4,
        reasoning_tokens=5,
        audio_tokens=6,
        image_tokens=7,
        seconds=8,
    )
    sums = sums_of(usage_event(1, usage=left)) + sums_of(usage_event(2, usage=left))

    assert sums.tokens == TokenUsage(
        prompt_tokens=2,
        completion_tokens=4,
        total_tokens=6,
        cached_tokens=8,
        reasoning_tokens=10,
        audio_tokens=12,
        image_tokens=14,
        seconds=16,
    )


def test_the_first_and_the_last_call_are_kept() -> None:
    """They are the ends of the calls, whatever order the events come in."""
    times = [NOW, NOW - timedelta(minutes=7), NOW - timedelta(minutes=3)]
    sums = fold("alice", (usage_event(number, time=time) for number, time in enumerate(times)))

    hour = sums[SumKey(Window("2026-11-23T07"), NAMES)]
    assert (hour.first_call_at, hour.last_call_at) == (NOW - timedelta(minutes=7), NOW)


def test_a_call_counts_in_its_hour_its_day_and_its_month() -> None:
    """Three sums, each with one call."""
    sums = fold("alice", [usage_event()])

    assert {key: value.calls for key, value in sums.items()} == {
        SumKey(Window("2026-11-23T07"), NAMES): 1,
        SumKey(Window("2026-11-23"), NAMES): 1,
        SumKey(Window("2026-11"), NAMES): 1,
    }


def test_deployments_models_and_tiers_are_summed_apart() -> None:
    """Each has its own price."""
    events = [
        usage_event(1),
        usage_event(2, deployment="gpt-4o-mini"),
        usage_event(3, model="gpt-4o-2024-08-06"),
        usage_event(4, tier=Tier.PROVISIONED),
    ]
    sums = fold("alice", events)

    assert len(sums) == 12
    assert {value.calls for value in sums.values()} == {1}


def test_a_call_without_a_model_counts_as_unknown() -> None:
    """Where no answer named a model, the column says so."""
    sums = fold("alice", [usage_event(model=None)])

    assert {key.dimensions.model for key in sums} == {"unknown"}


def test_nothing_folds_to_nothing() -> None:
    """No events, no sums."""
    sums = fold("alice", [])

    assert sums == {}


def test_adding_nothing_changes_nothing() -> None:
    """The empty sum is the identity, on either side."""
    sums = sums_of(usage_event())

    assert Sums() + sums == sums
    assert sums + Sums() == sums
