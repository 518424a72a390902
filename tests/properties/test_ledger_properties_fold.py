"""Folding: the order and the grouping of events never matter."""

from collections.abc import Sequence
from datetime import timedelta
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from meter.ledger.fold import Sums, fold, sums_of
from meter.ledger.keys import SumKey
from meter.usage import Context, Outcome, ToolUsage, UsageEvent, UsageSource, total_usage
from tests.support.events import NOW, token_usages, usage_event

EVENTS = st.lists(
    st.builds(
        usage_event,
        st.integers(0, 10**6),
        time=st.timedeltas(-timedelta(days=40), timedelta(0)).map(lambda ago: NOW + ago),
        deployment=st.sampled_from(["a", "b"]),
        model=st.sampled_from([None, "m"]),
        outcome=st.sampled_from(Outcome),
        usage_source=st.sampled_from(UsageSource),
        usage=token_usages(),
        backend=st.sampled_from([None, "east"]),
        context=st.sampled_from(Context),
        tool_usage=st.lists(
            st.builds(
                ToolUsage,
                deployment=st.sampled_from(["a", "i"]),
                model=st.none(),
                usage=token_usages(),
            ),
            max_size=2,
        ).map(tuple),
    ),
    max_size=12,
)


def merged(parts: Sequence[dict[SumKey, Sums]]) -> dict[SumKey, Sums]:
    total: dict[SumKey, Sums] = {}
    for part in parts:
        for key, sums in part.items():
            total[key] = total.get(key, Sums()) + sums
    return total


@given(EVENTS.flatmap(lambda events: st.tuples(st.just(events), st.permutations(events))))
def test_the_order_of_events_does_not_matter(
    orders: tuple[list[UsageEvent], list[UsageEvent]],
) -> None:
    """Partitions may be read in any order."""
    given_order, other_order = orders

    assert fold("alice", given_order) == fold("alice", other_order)


@given(EVENTS, st.lists(st.integers(0, 12), max_size=4))
def test_the_grouping_of_events_does_not_matter(events: list[UsageEvent], cuts: list[int]) -> None:
    """Batches may be cut anywhere."""
    edges = [0, *sorted(cuts), len(events)]
    parts = [fold("alice", events[start:end]) for start, end in pairwise(edges)]

    assert merged(parts) == fold("alice", events)


@given(EVENTS)
def test_every_length_of_window_holds_every_call(events: list[UsageEvent]) -> None:
    """Hours, days and months add up to the same: the calls, and the tokens of their tools."""
    sums = fold("alice", events)
    whole = sum((sums_of(event) for event in events), Sums())
    tools = total_usage([tool.usage for event in events for tool in event.tool_usage])

    for length in (13, 10, 7):
        of_length = (value for key, value in sums.items() if len(key.window.name) == length)
        total = sum(of_length, Sums())
        assert (total.calls, total.tokens) == (whole.calls, whole.tokens + tools)
        assert (total.first_call_at, total.last_call_at) == (
            whole.first_call_at,
            whole.last_call_at,
        )
