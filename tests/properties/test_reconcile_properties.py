"""The comparison for any calls: equal sides agree, any one changed number is found, none counts twice."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field, replace

from hypothesis import given
from hypothesis import strategies as st

from meter.reports.matching import BackendNames, match
from meter.reports.reconcile import reconcile
from meter.reports.tally import JUDGED_TOKENS, CountedUnder, OwnDeployment, Recorded, Tally
from meter.usage import Tier
from meter.window import Window
from tests.support.reconcile import EAST, WEST, hours, own, tallies, terms

NAMES = st.sampled_from(["a", "b", "c", "d"])
TIERS = st.sampled_from([str(tier) for tier in Tier])
ACCOUNTS = [EAST, WEST, EAST.upper()]


def backends(*accounts: str | None) -> st.SearchStrategy[list[BackendNames]]:
    """Backends of these accounts, some of whose deployments are provisioned."""
    each = st.builds(
        BackendNames,
        backend=st.sampled_from(["x", "y", "z"]),
        resource_id=st.sampled_from(accounts),
        deployments=st.dictionaries(NAMES, st.sampled_from(["p", "q", "Q", "r"]), min_size=1),
        provisioned=st.frozensets(NAMES, max_size=1),
    )
    return st.lists(each, min_size=1, max_size=4, unique_by=lambda names: names.backend)


@dataclass(frozen=True, slots=True)
class Sides:
    """Both sides' records."""

    backends: list[BackendNames]
    counted: dict[CountedUnder, dict[Window, Tally]] = field(default_factory=dict)
    recorded: dict[OwnDeployment, Recorded] = field(default_factory=dict)

    def count(self, under: CountedUnder, window: Window, tally: Tally) -> None:
        """Add to what we counted."""
        found = self.counted.setdefault(under, {})
        found[window] = found.get(window, Tally()) + tally

    def record(self, name: OwnDeployment, window: Window, tally: Tally) -> None:
        """Add to what Azure recorded."""
        found = self.recorded.get(name, Recorded())
        tallies = {**found.hours, window: found.hours.get(window, Tally()) + tally}
        self.recorded[name] = replace(found, hours=tallies)


@st.composite
def same_calls(draw: st.DrawFn) -> Sides:
    """Backends, and both sides' records of the same calls, each through one of the backends."""
    sides = Sides(draw(backends(*ACCOUNTS)))
    capacity = {
        each.owned[name] for each in sides.backends for name in each.provisioned & each.owned.keys()
    }
    for each in sides.backends:
        for name, where in each.owned.items():
            tier = str(Tier.PROVISIONED) if where in capacity else draw(TIERS)
            for window, tally in draw(hours()).items():
                sides.count(CountedUnder(each.backend, name, tier), window, tally)
                sides.record(where, window, tally)
    return sides


@st.composite
def spilled_calls(draw: st.DrawFn) -> Sides:
    """The same, with calls that Azure passed on from a provisioned deployment to another."""
    sides = draw(same_calls())
    splits = draw(st.booleans())
    for each in sides.backends:
        for name in sorted(each.provisioned & each.owned.keys()):
            server = own("spill", each.owned[name].resource_id)
            for window, tally in draw(hours()).items():
                sides.count(CountedUnder(each.backend, name, str(Tier.STANDARD)), window, tally)
                sides.record(server, window, tally)
    if splits:
        for where, found in sides.recorded.items():
            calls = 1 if where.name == "spill" else 0
            sides.recorded[where] = replace(found, spilled_calls=calls)
    return sides


ANY = st.builds(
    Sides,
    backends(*ACCOUNTS, None),
    st.dictionaries(
        st.builds(CountedUnder, st.sampled_from(["x", "y", "z", "gone", "unknown"]), NAMES, TIERS),
        hours(),
        max_size=8,
    ),
    st.dictionaries(
        st.builds(OwnDeployment, st.sampled_from([EAST, WEST]), st.sampled_from("pqrs")),
        st.builds(
            Recorded,
            hours=hours(),
            tiers=st.none() | st.just({"default": 1}),
            spilled_calls=st.none() | st.integers(0, 2),
        ),
        max_size=5,
    ),
)


@given(sides=same_calls())
def test_two_records_of_the_same_calls_never_differ(sides: Sides) -> None:
    """For any mapping of names to deployments, no hour of any line differs."""
    found = reconcile(terms(), sides.backends, counted=sides.counted, recorded=sides.recorded)

    assert found.agrees
    assert {pair.gap for line in found.lines for pair in line.hours.values()} <= {0}


@given(sides=spilled_calls())
def test_spilled_calls_make_no_difference_where_azure_names_their_server(sides: Sides) -> None:
    """Without that split the difference is in one line and its counterpart in another."""
    found = reconcile(terms(), sides.backends, counted=sides.counted, recorded=sides.recorded)

    if any(each.spilled_calls for each in sides.recorded.values()):
        assert {pair.gap for line in found.lines for pair in line.hours.values()} <= {0}
    assert {name: found.total.difference(name) for name in JUDGED_TOKENS} == dict.fromkeys(
        JUDGED_TOKENS, 0
    )


@given(sides=ANY)
def test_all_that_was_counted_or_recorded_is_in_one_line(sides: Sides) -> None:
    """Whatever the settings are now: the lines' sums are the sums of both sides, and no usage, no
    deployment and no public name of a backend is in two of them."""
    matches = match(sides.backends, sides.counted, sides.recorded)
    found = reconcile(terms(), sides.backends, counted=sides.counted, recorded=sides.recorded)
    total = [tally for each in sides.counted.values() for tally in each.values()]
    azure = [tally for each in sides.recorded.values() for tally in each.hours.values()]
    pairs = [line.sums for line in found.lines]

    for name in JUDGED_TOKENS:
        assert sum(getattr(pair.counted, name) for pair in pairs) == _sum(name, total)
        assert sum(getattr(pair.recorded, name) for pair in pairs) == _sum(name, azure)
    assert Counter(under for each in matches for under in each.counted) == Counter(
        list(sides.counted)
    )
    known = {own for each in sides.backends for own in each.owned.values()} | sides.recorded.keys()
    assert Counter(own for each in matches for own in each.own) == Counter(known)


@given(
    sides=same_calls(),
    where=st.sampled_from(["p", "q", "r", "stranger"]),
    name=st.sampled_from(JUDGED_TOKENS),
    more=st.integers(1, 10**12),
)
def test_any_one_changed_number_is_found_in_its_line_and_hour(
    sides: Sides, where: str, name: str, more: int
) -> None:
    """Tokens that only Azure recorded, of any kind, hour and deployment, ours or not."""
    window = Window("2026-11-22T07")
    sides.record(own(where), window, replace(Tally(), **{name: more}))
    found = reconcile(terms(), sides.backends, counted=sides.counted, recorded=sides.recorded)

    (line,) = found.beyond
    assert line.own == (own(where),)
    assert {hour for hour, pair in line.hours.items() if pair.gap} == {window}
    assert line.sums.difference(name) == -more
    assert found.total.difference(name) == -more


@given(sides=same_calls(), spurious=tallies(), data=st.data())
def test_a_call_that_only_we_counted_is_found_in_the_line_of_its_account(
    sides: Sides, spurious: Tally, data: st.DataObject
) -> None:
    """It is not hidden by another account that has a deployment of that public name."""
    routes = [(each, name) for each in sides.backends for name in each.owned]
    backend, name = data.draw(st.sampled_from(routes))
    where = backend.owned[name]
    tier = str(Tier.PROVISIONED if name in backend.provisioned else Tier.PRIORITY)
    is_capacity = any(
        where == each.owned.get(public) for each in sides.backends for public in each.provisioned
    )
    tier = str(Tier.PROVISIONED) if is_capacity else tier
    sides.count(CountedUnder(backend.backend, name, tier), Window("2026-11-22T07"), spurious)
    found = reconcile(terms(), sides.backends, counted=sides.counted, recorded=sides.recorded)

    differing = {line.own for line in found.lines if line.sums.gap}
    assert differing == ({(where,)} if any(_sum(n, [spurious]) for n in JUDGED_TOKENS) else set())


@given(sides=same_calls(), percent=st.integers(1, 100))
def test_where_every_line_is_within_the_tolerance_their_sum_is_too(
    sides: Sides, percent: int
) -> None:
    """So the verdict need not check the total."""
    less: dict[CountedUnder, dict[Window, Tally]] = defaultdict(dict)
    for under, each in sides.counted.items():
        for window, tally in each.items():
            less[under][window] = replace(tally, prompt_tokens=tally.prompt_tokens * 98 // 100)
    judged_by = terms(f"{percent}/100")
    found = reconcile(judged_by, sides.backends, counted=less, recorded=sides.recorded)

    assert found.beyond or found.total.is_within(judged_by.tolerance)


def _sum(name: str, tallies: list[Tally]) -> int:
    return sum(getattr(tally, name) for tally in tallies)
