"""The comparison with Azure Monitor: what is compared, what is shown beside it, and the verdict."""

import pytest

from meter.ledger.fold import Sums
from meter.ledger.keys import SumKey
from meter.ledger.rows import SumRow
from meter.reports.reconcile import Line, Reconciliation, Standing, read_counted, reconcile
from meter.reports.tally import OwnDeployment, Pair, Tally
from meter.reports.terms import parse_names
from meter.usage import Tier, TokenUsage
from meter.window import Window
from tests.fakes.rows import MemoryRowStore
from tests.support.ledger import dimensions, views_on
from tests.support.reconcile import (
    EAST,
    EIGHT,
    SEVEN,
    WEST,
    at_seven,
    azure,
    own,
    provisioned,
    served,
    tally,
    terms,
    under,
)


def line_of(found: Reconciliation, label: str) -> Line:
    (line,) = [line for line in found.lines if line.label == label]
    return line


def standings(found: Reconciliation) -> dict[str, str]:
    return {line.label: str(line.standing) for line in found.lines}


def tokens_by_tier(line: Line) -> dict[str, tuple[int, int]]:
    assert line.tiers is not None
    return {
        str(tier): (pair.counted.total_tokens, pair.recorded.total_tokens)
        for tier, pair in line.tiers.items()
    }


async def test_counted_usage_is_added_up_over_subjects_models_and_contexts() -> None:
    """By backend, public name, tier and hour, within the range only."""
    store = MemoryRowStore()
    sums = Sums(
        calls=3,
        estimated_calls=2,
        missing_calls=1,
        tokens=TokenUsage(prompt_tokens=10, completion_tokens=5, total_tokens=15),
    )
    keys = [
        ("2026-11-22T07", {"subject": "alice", "client_app": "a"}),
        ("2026-11-22T07", {"subject": "bob", "model": "n", "context": "long"}),
        ("2026-11-22T08", {"subject": "bob", "tier": "priority"}),
        ("2026-11-22T08", {"subject": "bob", "backend": "west"}),
        ("2026-11-22T08", {"subject": "bob", "deployment": "mini"}),
        ("2026-11-23T00", {"subject": "bob"}),
    ]
    await views_on(store).write(
        SumRow(key=SumKey(Window(hour), dimensions(**names)), sums=sums, revision=1)
        for hour, names in keys
    )
    one = tally(10, 5, 3, estimated_calls=2, missing_calls=1)

    assert await read_counted(store, terms().query) == {
        under("east", "gpt-4o"): {SEVEN: one + one},
        under("east", "gpt-4o", "priority"): {EIGHT: one},
        under("west", "gpt-4o"): {EIGHT: one},
        under("east", "mini"): {EIGHT: one},
    }


def test_a_deployment_is_compared_under_azures_own_name_in_any_case() -> None:
    """Callers say gpt-4o, Azure says GPT-4o-PTU, METER_BACKENDS says gpt-4o-ptu."""
    found = reconcile(
        terms(),
        [served("east", gpt_4o="gpt-4o-ptu")],
        counted={under("east", "gpt-4o"): at_seven(10, 5, 1)},
        recorded={OwnDeployment(EAST.upper(), "GPT-4o-PTU"): azure(at_seven(10, 5, 1))},
    )

    assert standings(found) == {"east/gpt-4o-ptu": "agrees"}
    assert found.lines[0].names == ("gpt-4o",)
    assert found.agrees


def test_a_public_name_on_two_accounts_is_compared_with_each() -> None:
    """What one account lacks is not hidden by what another has too much."""
    found = reconcile(
        terms(),
        [served("east", EAST, gpt_4o="a"), served("west", WEST, gpt_4o="b")],
        counted={under("east", "gpt-4o"): at_seven(10), under("west", "gpt-4o"): at_seven(20)},
        recorded={own("a", EAST): azure(at_seven(11)), own("b", WEST): azure(at_seven(19))},
    )

    assert standings(found) == {"east/a": "differs", "west/b": "differs"}
    assert [line.sums.difference("total_tokens") for line in found.lines] == [-1, 1]


def test_a_deployment_is_one_line_whatever_leads_to_it() -> None:
    """Azure distinguishes neither the public names nor the backends of an account."""
    found = reconcile(
        terms(),
        [
            served("east", EAST, fast="a", small="a", lone="c"),
            served("east-2", EAST.upper(), cheap="A"),
        ],
        counted={
            under("east", "fast"): at_seven(1),
            under("east", "small"): at_seven(2),
            under("east", "small", "priority"): at_seven(4),
            under("east-2", "cheap"): at_seven(8),
            under("east", "lone"): at_seven(16),
        },
        recorded={own("a"): azure(at_seven(15)), own("c"): azure(at_seven(16))},
    )

    assert standings(found) == {"east/a": "agrees", "east/c": "agrees"}
    assert line_of(found, "east/a").names == ("cheap", "fast", "small")


def test_a_deployment_that_no_backend_names_is_not_ours_and_fails_the_verdict() -> None:
    """The account is called directly, not through the front door."""
    found = reconcile(
        terms("1/10"),
        [served("east", gpt_4o="gpt-4o")],
        counted={under("east", "gpt-4o"): at_seven(1_000_000)},
        recorded={
            own("gpt-4o"): azure(at_seven(1_000_000)),
            own("stranger"): azure(at_seven(3, 4, 1)),
        },
    )

    assert standings(found) == {"east/stranger": "not ours", "east/gpt-4o": "agrees"}
    assert not found.agrees
    assert found.total.difference("total_tokens") == -7


def test_an_ignored_deployment_is_shown_and_not_judged() -> None:
    """Another team's deployment on the same account; names in any case."""
    found = reconcile(
        terms(ignored=parse_names("x, Stranger")),
        [served("east", gpt_4o="gpt-4o")],
        counted={},
        recorded={own("Stranger"): azure(at_seven(3, 4, 1))},
    )

    assert standings(found) == {"east/gpt-4o": "agrees", "east/stranger": "ignored"}
    assert found.agrees
    assert found.total.recorded == Tally()


def test_a_deployment_of_others_without_tokens_is_left_out() -> None:
    """Requests to a name that does not exist use no tokens."""
    found = reconcile(
        terms(),
        [served("east", a="a")],
        counted={},
        recorded={own("x"): azure(at_seven(calls=9))},
    )

    assert standings(found) == {"east/a": "agrees"}


@pytest.mark.parametrize(
    ("backend", "reason"),
    [
        ("edge", "no resource_id for backend edge"),
        ("gone", "no backend gone is configured now"),
        ("unknown", "no backend is known"),
    ],
)
def test_only_usage_of_an_account_that_is_not_known_is_not_compared(
    backend: str, reason: str
) -> None:
    """The rest of the deployment's usage is: its backend is known."""
    found = reconcile(
        terms(),
        [served("east", gpt_4o="gpt-4o"), served("edge", None)],
        counted={under("east", "gpt-4o"): at_seven(10), under(backend, "gpt-4o"): at_seven(5)},
        recorded={own("gpt-4o"): azure(at_seven(10))},
    )

    assert standings(found) == {
        "east/gpt-4o": "agrees",
        f"gpt-4o at {backend}": "not comparable",
    }
    line = line_of(found, f"gpt-4o at {backend}")
    assert (line.backend, line.names, line.reason) == (backend, ("gpt-4o",), reason)
    assert line.sums == Pair(counted=tally(5))
    assert found.agrees
    assert found.total.counted == tally(10)


def test_a_name_that_the_backend_serves_no_longer_is_not_compared() -> None:
    """The settings are today's, the range may be older."""
    old = {under("east", "old"): at_seven(10)}
    found = reconcile(terms(), [served("east", new="new")], counted=old, recorded={})

    assert line_of(found, "old at east").reason == "backend east serves no old now"
    assert line_of(found, "old at east").standing is Standing.NOT_COMPARABLE


def test_a_tools_deployment_is_compared_under_its_own_name() -> None:
    """A response's images are counted under the image deployment, which callers need not know."""
    found = reconcile(
        terms(),
        [served("east", gpt_5="gpt-5")],
        counted={under("east", "gpt-5"): at_seven(10), under("east", "gpt-image-1"): at_seven(7)},
        recorded={own("gpt-5"): azure(at_seven(10)), own("GPT-image-1"): azure(at_seven(7))},
    )

    assert standings(found) == {"east/gpt-5": "agrees", "east/gpt-image-1": "agrees"}


def test_nothing_compared_is_no_agreement() -> None:
    """A check that checked nothing must not look like one that found nothing."""
    found = reconcile(terms(), [served("edge", None, a="a")], counted={}, recorded={})

    assert standings(found) == {"a at edge": "not comparable"}
    assert not found.agrees
    assert found.beyond == ()


def test_tiers_are_shown_side_by_side_where_azure_splits_them() -> None:
    """Azure says default for standard; a tier that only one side has is shown with its 0."""
    found = reconcile(
        terms(),
        [served("east", gpt="gpt")],
        counted={
            under("east", "gpt"): at_seven(10),
            under("east", "gpt", "priority"): at_seven(20),
        },
        recorded={
            own("gpt"): azure(at_seven(30), {"default": 12, "priority": 15, "flex": 2, "": 1})
        },
    )

    (line,) = found.lines
    assert tokens_by_tier(line) == {"standard": (10, 13), "priority": (20, 15), "flex": (0, 2)}
    assert list(line.tiers or ()) == [Tier.STANDARD, Tier.PRIORITY, Tier.FLEX]
    assert found.agrees


def test_a_provisioned_deployments_default_tier_is_provisioned() -> None:
    """Azure has no word for it: the deployment's kind decides."""
    found = reconcile(
        terms(),
        [provisioned("east", gpt="ptu")],
        counted={under("east", "gpt", "provisioned"): at_seven(10)},
        recorded={own("ptu"): azure(at_seven(10), {"default": 10})},
    )

    assert tokens_by_tier(found.lines[0]) == {"provisioned": (10, 10)}


def test_without_a_split_no_tiers_are_shown() -> None:
    """Not every account has it; what is judged is the same."""
    found = reconcile(
        terms(),
        [served("east", gpt="gpt")],
        counted={under("east", "gpt", "flex"): at_seven(10)},
        recorded={own("gpt"): azure(at_seven(10))},
    )

    assert (found.lines[0].tiers, found.lines[0].spilled) == (None, None)
    assert found.agrees


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
        counted={under("east", "gpt"): {SEVEN: counted}},
        recorded={own("gpt"): azure(at_seven(1000, 200))},
    )

    assert found.agrees is agrees


def test_hours_that_differ_at_their_edges_do_not_fail_the_verdict() -> None:
    """Azure records a call at its processing, the meter at its end."""
    found = reconcile(
        terms(),
        [served("east", gpt="gpt")],
        counted={under("east", "gpt"): {EIGHT: tally(10, 5, 1)}},
        recorded={own("gpt"): azure(at_seven(10, 5, 1))},
    )

    (line,) = found.lines
    assert found.agrees
    assert {hour: pair.gap for hour, pair in line.hours.items()} == {SEVEN: 15, EIGHT: 15}


def test_calls_are_a_hint_and_not_judged() -> None:
    """Azure counts throttled and refused requests too."""
    found = reconcile(
        terms(),
        [served("east", gpt="gpt")],
        counted={under("east", "gpt"): at_seven(10, 5, 1)},
        recorded={own("gpt"): azure(at_seven(10, 5, 90))},
    )

    assert found.agrees


def test_the_largest_difference_comes_first() -> None:
    """The operator reads from the top."""
    found = reconcile(
        terms(),
        [served("east", a="a", b="b", c="c"), served("edge", None, d="d")],
        counted={under("east", "b"): at_seven(5), under("east", "c"): at_seven(50)},
        recorded={own("z"): azure(at_seven(1000))},
    )

    assert [line.label for line in found.lines] == [
        "east/c",
        "east/b",
        "east/z",
        "east/a",
        "d at edge",
    ]


def test_calls_that_cost_nothing_make_no_line() -> None:
    """Stored responses are counted under `unknown` if their deployment is not known."""
    free = dict.fromkeys(
        [under("east", "unknown"), under("gone", "gpt"), under("unknown", "gpt")],
        at_seven(calls=3),
    )
    found = reconcile(terms(), [served("east", gpt="gpt")], counted=free, recorded={})

    assert [line.names for line in found.lines] == [("gpt",)]
