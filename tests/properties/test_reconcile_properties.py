"""The comparison for any numbers: equal sides agree, and any single changed number is found."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from meter.reports.reconcile import JUDGED_TOKENS, BackendNames, OwnDeployment, Tally, reconcile
from meter.window import Window
from tests.support.reconcile import EAST, WEST, hours, own, terms

NAMES = st.sampled_from(["a", "b", "c", "d"])
MAPPINGS = st.lists(
    st.builds(
        BackendNames,
        backend=st.just("x"),
        resource_id=st.sampled_from([EAST, WEST]),
        deployments=st.dictionaries(NAMES, st.sampled_from(["p", "q", "r"]), min_size=1),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def calls_by_route(
    draw: st.DrawFn,
) -> tuple[
    list[BackendNames], dict[str, dict[Window, Tally]], dict[OwnDeployment, dict[Window, Tally]]
]:
    """Backends, and both sides' records of the same calls, each through one of the backends."""
    backends = draw(MAPPINGS)
    counted: dict[str, dict[Window, Tally]] = {}
    recorded: dict[OwnDeployment, dict[Window, Tally]] = {}
    for backend in backends:
        assert backend.resource_id is not None
        for name, own_name in backend.deployments.items():
            for window, tally in draw(hours()).items():
                ours = counted.setdefault(name, {})
                theirs = recorded.setdefault(own(own_name, backend.resource_id), {})
                ours[window] = ours.get(window, Tally()) + tally
                theirs[window] = theirs.get(window, Tally()) + tally
    return backends, counted, recorded


@given(calls_by_route())
def test_two_records_of_the_same_calls_never_differ(
    calls: tuple[
        list[BackendNames], dict[str, dict[Window, Tally]], dict[OwnDeployment, dict[Window, Tally]]
    ],
) -> None:
    """For any mapping of names to deployments, no hour of any line differs."""
    backends, counted, recorded = calls
    found = reconcile(terms(), backends, counted=counted, recorded=recorded)

    assert found.agrees
    assert {pair.gap for line in found.lines for pair in line.hours.values()} <= {0}


@given(
    calls=calls_by_route(),
    name=st.sampled_from(JUDGED_TOKENS),
    more=st.integers(1, 10**12),
    data=st.data(),
)
def test_any_one_changed_number_is_found_in_its_line_and_hour(
    calls: tuple[
        list[BackendNames], dict[str, dict[Window, Tally]], dict[OwnDeployment, dict[Window, Tally]]
    ],
    name: str,
    more: int,
    data: st.DataObject,
) -> None:
    """Tokens that only Azure recorded, of any kind, hour and deployment, ours or not."""
    backends, counted, recorded = calls
    where = own(data.draw(st.sampled_from(["p", "q", "r", "stranger"])))
    window = Window("2026-11-22T07")
    changed = recorded.setdefault(where, {})
    tally = changed.get(window, Tally())
    changed[window] = replace(tally, **{name: getattr(tally, name) + more})
    found = reconcile(terms(), backends, counted=counted, recorded=recorded)

    (line,) = found.beyond
    assert where in line.own
    assert {hour for hour, pair in line.hours.items() if pair.gap} == {window}
    assert line.sums.difference(name) == -more
    assert found.total.difference(name) == -more


@given(calls=calls_by_route(), percent=st.integers(1, 100))
def test_where_every_line_is_within_the_tolerance_their_sum_is_too(
    calls: tuple[
        list[BackendNames], dict[str, dict[Window, Tally]], dict[OwnDeployment, dict[Window, Tally]]
    ],
    percent: int,
) -> None:
    """So the verdict need not check the total."""
    backends, counted, recorded = calls
    less = {
        name: {
            window: replace(tally, prompt_tokens=tally.prompt_tokens * 98 // 100)
            for window, tally in each.items()
        }
        for name, each in counted.items()
    }
    judged_by = terms(f"{percent}/100")
    found = reconcile(judged_by, backends, counted=less, recorded=recorded)

    assert found.beyond or found.total.is_within(judged_by.tolerance)
